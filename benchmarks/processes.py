"""Trains each stage of a recipe in one process and in several, and compares every step's loss.

Both ways start a stage from what one process made of the one before: each is judged alone.

python benchmarks/processes.py --json runs/benchmarks/processes.json [--recipe recipes/demo.yaml]

Without a recipe, tiny backbones are made.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from kills import tiny_recipe
from panovlm.stages import STAGES

LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def train(recipe: Path, output: Path, steps: int, processes: int, stage: str) -> None:
    """Train a stage of a recipe in a number of processes."""
    launcher = [*LAUNCHER, str(processes)] if processes > 1 else [sys.executable]
    command = [*launcher, "-m", "panovlm", "train", str(recipe), "--stage", stage]
    for override in (f"output={output}", "dtype=fp32", f"stages.{stage}.steps={steps}"):
        command += ["-o", override]
    subprocess.run(command, check=True)


def write_tiny_recipe(folder: Path) -> Path:
    """Write a recipe on tiny backbones, without what differs from process to process (dropout)."""
    folder.mkdir(parents=True)
    recipe = tiny_recipe(folder).model_dump(mode="json", exclude_unset=True)
    recipe["stages"]["finetune"]["lora"]["dropout"] = 0.0
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder / "recipe.yaml"


def losses(output: Path, stage: str) -> list[float]:
    lines = (output / "logs" / f"{stage}.jsonl").read_text().splitlines()
    entries = map(json.loads, lines)
    return [entry["loss"] for entry in entries if "loss" in entry]  # not those of validations


def compare(output: Path, processes: int, stages: list[str]) -> dict[str, dict[str, float]]:
    """Return the largest difference of two runs' losses for each stage."""
    report = {}
    for stage in stages:
        one, many = (losses(output / str(number), stage) for number in (1, processes))
        differences = [abs(a - b) for a, b in zip(one, many, strict=True)]
        report[stage] = {
            "logged_steps": len(one),
            "loss_first": one[0],
            "loss_last": one[-1],
            "largest_difference": max(differences),
        }
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--stages", nargs="+", default=list(STAGES))
    parser.add_argument("--output", type=Path, default=Path("runs/processes"))
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    shutil.rmtree(args.output, ignore_errors=True)
    if args.recipe is None:
        args.recipe = write_tiny_recipe(args.output / "tiny")
    for stage in args.stages:
        train(args.recipe, args.output / "1", args.steps, 1, stage)
        train(args.recipe, args.output / str(args.processes), args.steps, args.processes, stage)
        finished = args.output / str(args.processes) / stage
        shutil.rmtree(finished)
        shutil.copytree(args.output / "1" / stage, finished)
    report = compare(args.output, args.processes, args.stages)
    for stage, row in report.items():
        print(f"{stage}: {row['largest_difference']:.2e} over {row['logged_steps']} steps")
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps({"processes": args.processes, "stages": report}, indent=2))


if __name__ == "__main__":
    main()
