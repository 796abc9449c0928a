"""Training steps: ours against a plain trainer of the LLaVA kind, in one run.

    python benchmarks/training.py --json OUT

Each side of each stage runs in a process of its own, so that its peak memory is its own.
docs/lab/training_speed.md says what is measured and holds the tables (`--docs` writes them there).
Piece by piece: `--only finetune` measures one stage, and what OUT holds of the others stays.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SIDES_SCRIPT = Path(__file__).with_name("training_sides.py")
STAGES = ("vision", "resampler", "finetune")
WAYS = {
    "reference": {"side": "reference", "tokens": "equal", "cache": "off"},
    **{
        f"ours, {name}, {cache}": {"side": "ours", "tokens": tokens, "cache": cache}
        for name, tokens in (("equal tokens", "equal"), ("default", "default"))
        for cache in ("cold", "warm", "off")
    },
}
"""What is measured of every stage: cold is the first epoch, which also encodes its pictures, warm
every later one; off encodes in every step, as the reference does."""
WANTED_SPEED = {
    ("vision", "ours, default, warm"): 10.0,
    ("resampler", "ours, equal tokens, warm"): 4.0,
    ("resampler", "ours, default, warm"): 10.0,
    ("finetune", "ours, equal tokens, warm"): 4.0,
    ("finetune", "ours, default, warm"): 10.0,
    **{(stage, way): 1.0 for stage in STAGES for way in WAYS if way.endswith(("cold", "off"))},
}
"""How many times as fast as the reference a step shall be."""
WANTED_MEMORY = 1 / 3
"""Peak memory shall be at most this share of the reference's, warm."""
COMMAND_SECONDS = 3600

Table = list[list[str]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Returns:
        The exit status: 1 if `--assert` is given and a figure is missed or was not measured.
    """
    options = _parser().parse_args(arguments)
    report = json.loads(options.json.read_text()) if options.json.exists() else {"stages": {}}
    report["settings"] = settings = settings_of(options)
    for stage in options.only or STAGES:
        report["stages"][stage] = measured(stage, settings)
        report["environment"] = environment(options.threads)
        report["criteria"] = criteria(report["stages"])
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    show(report)
    if options.docs is not None:
        write_docs(report, options.docs)
    all_met = all(each["met"] for each in report["criteria"])
    return int(options.must_hold and not all_met)


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of every process."""
    names = ("size", "steps", "batch_size", "threads", "dtype")
    return {name: getattr(options, name) for name in names}


def measured(stage: str, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Measure every way of a stage, each in its process."""
    found = {
        way: run_in_process({**settings, **what, "stage": stage}) for way, what in WAYS.items()
    }
    for way, each in found.items():
        # A first epoch begins with its encoding: its steps make sense only all together.
        is_cold = WAYS[way]["cache"] == "cold"
        typical = statistics.fmean if is_cold else statistics.median
        each["step_seconds"] = typical(each["seconds"])
    return found


def run_in_process(wanted: dict[str, Any]) -> dict[str, Any]:
    """Measure one way in a process of its own, for its own peak memory."""
    threads = {name: str(wanted["threads"]) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, str(SIDES_SCRIPT), json.dumps(wanted)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        env={**os.environ, **threads},
    )
    if done.returncode:
        raise SystemExit(f"{wanted} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def criteria(stages: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Set the measured figures against the wanted ones, as far as they were measured."""
    rows = []
    for (stage, way), wanted in WANTED_SPEED.items():
        if stage in stages:
            found = speed(stages[stage], way)
            rows.append(_row(stage, f"{way}: times as fast", wanted, found, found >= wanted))
    for stage, ways in stages.items():
        for way in (way for way in ways if way.endswith("warm")):
            share = memory(ways, way)
            is_met = share <= WANTED_MEMORY
            rows.append(_row(stage, f"{way}: share of memory", WANTED_MEMORY, share, is_met))
    return rows


def _row(stage: str, claim: str, wanted: float, found: float, is_met: bool) -> dict[str, Any]:
    return {"stage": stage, "claim": claim, "wanted": wanted, "found": found, "met": is_met}


def speed(ways: dict[str, Any], way: str) -> float:
    """Return how many times as fast as the reference a way is."""
    return float(ways["reference"]["step_seconds"] / ways[way]["step_seconds"])


def memory(ways: dict[str, Any], way: str) -> float:
    """Return which share of the reference's peak memory a way takes."""
    return float(ways[way]["peak_mb"] / ways["reference"]["peak_mb"])


def environment(threads: int) -> dict[str, Any]:
    """Return what the figures were measured with."""
    import platform

    import torch

    from panovlm.runtime.arithmetic import uses_bf16
    from reporting import cpu_model, version_of

    packages = ("panovlm", "torch", "transformers", "peft")
    return {
        "cpu": cpu_model(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "logical_cpus": os.cpu_count(),
        "threads": threads,
        "load_average_at_end": os.getloadavg()[0],
        "bf16_is_fast": uses_bf16("auto"),
        "python": platform.python_version(),
        "mkldnn": torch.backends.mkldnn.is_available(),
        "packages": {package: version_of(package) for package in packages},
    }


def stage_table(ways: dict[str, Any]) -> Table:
    """Return the table of one stage."""
    rows = [["way", "s a step", "× as fast", "peak memory, MiB", "of the reference's"]]
    for way, found in ways.items():
        rows.append(
            [
                way,
                f"{found['step_seconds']:.2f}",
                f"{speed(ways, way):.1f}",
                f"{found['peak_mb']:.0f}",
                f"{memory(ways, way):.0%}",
            ]
        )
    return rows


def criteria_table(found: list[dict[str, Any]]) -> Table:
    """Return the table of wanted and found figures."""
    rows = [["stage", "criterion", "wanted", "found", ""]]
    for each in found:
        verdict = "met" if each["met"] else "missed"
        figures = (f"{each['wanted']:.2g}", f"{each['found']:.2f}")
        rows.append([each["stage"], each["claim"], *figures, verdict])
    return rows


def environment_line(report: dict[str, Any]) -> str:
    """Return a paragraph on what the figures were measured with."""
    from reporting import software

    made, settings = report["environment"], report["settings"]
    fast = "" if made["bf16_is_fast"] else "out"
    return (
        f"{made.get('gpu') or made['cpu']}, {made['logical_cpus']} logical CPUs, "
        f"{made['threads']} thread(s), with{fast} fast bf16 (ours: dtype {settings['dtype']}), "
        f"load average {made['load_average_at_end']:.1f}; models of size {settings['size']}, "
        f"batches of {settings['batch_size']} panoramas, {settings['steps']} steps; mean of a "
        f"first epoch, else the median without the first; {software(made)}."
    )


def show(report: dict[str, Any]) -> None:
    """Print the tables."""
    from reporting import print_tables

    tables = [(stage, stage_table(ways)) for stage, ways in report["stages"].items()]
    wanted = ("wanted and found", criteria_table(report["criteria"]))
    print_tables(environment_line(report), [*tables, wanted])


def write_docs(report: dict[str, Any], page: Path) -> None:
    """Write the tables to their place on a page."""
    from reporting import markdown, put_between_markers

    parts = [environment_line(report)]
    for stage, ways in report["stages"].items():
        parts += [f"### Stage {stage}", markdown(stage_table(ways))]
    parts += ["### Wanted and found", markdown(criteria_table(report["criteria"]))]
    put_between_markers(page, "training", "\n\n".join(parts))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--json", type=Path, required=True, help="where to write the report")
    add("--docs", type=Path, help="page whose tables are rewritten")
    add("--only", choices=STAGES, nargs="+", help="stages to measure; the others stay")
    add("--steps", type=int, default=5, help="steps of each way")
    add("--batch-size", type=int, default=2, help="panoramas in a step")
    add("--threads", type=int, default=os.cpu_count() or 1, help="threads of every library")
    add("--dtype", choices=("auto", "bf16", "fp32"), default="auto", help="of our side")
    sizes = ("siglip-base", "siglip2-qwen3", "tiny")
    add("--size", choices=sizes, default=sizes[0], help="of the models; tiny: for tests")
    add("--assert", action="store_true", dest="must_hold", help="fail unless every figure is met")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
