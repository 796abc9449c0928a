"""Compares a recipe under the variants of stage 1, each with several seeds.

    python benchmarks/ablations.py RECIPE --data data/scenes/test.jsonl --out runs/ablations

Every variant is trained through all later stages and evaluated alike. A cell (variant and seed)
that is finished is skipped when the same command is run again, an unfinished one is continued.
docs/lab/ablations.md says what is compared and holds the table (`--docs` writes it there).
"""

import argparse
import hashlib
import json
import os
import platform
import shlex
import shutil
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panovlm.errors import PanoVLMError
from panovlm.evaluation.asking import EvaluationOptions
from panovlm.evaluation.run import PACKAGES, evaluate
from panovlm.runtime.files import write_whole
from panovlm.stages import STAGES, Objective
from panovlm.training.log import read_log
from panovlm.training.recipe import Recipe
from panovlm.training.recipe_file import load_recipe
from panovlm.training.run import log_file, train
from reporting import Table, cpu_model, markdown, put_between_markers, software, version_of

FIRST = next(s.name for s in STAGES.values() if s.objective is Objective.VICREG_OVERLAP)
SECOND = next(s.name for s in STAGES.values() if s.starts_from == FIRST)
VARIANTS: dict[str, dict[str, str] | None] = {
    "none": None,
    "columns": {"pairing": "columns"},
    "rays": {"pairing": "rays"},
    "rays, per pair": {"pairing": "rays", "statistics": "pair"},
    "rays, InfoNCE": {"pairing": "rays", "objective": "infonce"},
}
"""Settings of stage 1; `none` has none, so that stage 2 begins with an untrained resampler."""
SHARES_OF_STEPS = (0.1, 0.25, 0.5, 1.0)
"""Where stage 2's loss is read off: the earlier it is low, the less data is needed."""
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t for a two-sided 95 % interval with 1, 2, ... degrees of freedom."""


@dataclass(frozen=True)
class Cell:
    """One run of the comparison.

    Attributes:
        variant: One of `VARIANTS`.
        seed: Of initial weights, data order and held-out panoramas.
        recipe: What is run.
        stages: Its stages.
        settings: A digest of everything that fixes the outcome.
    """

    variant: str
    seed: int
    recipe: Recipe
    stages: list[str]
    settings: str

    @property
    def file(self) -> Path:
        """Where the figures are written."""
        return self.recipe.output / "cell.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not yet finished, and report."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not 2 <= options.seeds <= len(T_975) + 1:
        parser.error(f"found --seeds {options.seeds}, expected 2 to {len(T_975) + 1}")
    try:
        cells = [cell_of(options, v, seed) for seed in range(options.seeds) for v in options.only]
        results = [_result(cell, options) for cell in cells]
    except PanoVLMError as error:
        print(f"ablations: {error}", file=sys.stderr)
        return 2
    report = {
        "command": shlex.join(["python", "benchmarks/ablations.py", *(arguments or sys.argv[1:])]),
        "environment": environment(),
        "recipe": cells[0].recipe.model_dump(mode="json"),
        "cells": results,
    }
    text = json.dumps(report, indent=2) + "\n"
    write_whole(options.out / "ablations.json", lambda partial: partial.write_text(text))
    print(page_text(report))
    if options.docs:
        put_between_markers(options.docs, "ablations", page_text(report))
    return 0


def cell_of(options: argparse.Namespace, variant: str, seed: int) -> Cell:
    """Return what one cell runs."""
    output = options.out / variant.replace(", ", "-").replace(" ", "-") / f"seed-{seed}"
    overrides = [*options.override, f"output={output}", f"seed={seed}"]
    settings = VARIANTS[variant]
    if settings is None:
        overrides.append(f"stages.{SECOND}.from_backbones=true")
    else:
        overrides += [f"stages.{FIRST}.overlap.{key}={value}" for key, value in settings.items()]
    recipe = load_recipe(options.recipe, overrides)
    stages = [name for name in recipe.stages if settings is not None or name != FIRST]
    records = [options.data, *(recipe.section(name).data for name in stages)]
    facts = [recipe.model_dump_json(), stages, options.limit, options.yaw_rotated]
    digest = hashlib.sha256(repr(facts).encode())
    for file in records:
        digest.update(file.read_bytes())
    return Cell(variant, seed, recipe, stages, digest.hexdigest())


def _result(cell: Cell, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a cell, running it if it is not finished."""
    if cell.file.is_file():
        stored: dict[str, Any] = json.loads(cell.file.read_text())
        if stored["settings"] == cell.settings:
            print(f"{cell.variant}, seed {cell.seed}: finished before, skipped")
            return stored
    print(f"{cell.variant}, seed {cell.seed}")
    train(cell.recipe, cell.stages, resume=True)
    report = evaluate(
        cell.recipe.output,
        options.data,
        cell.recipe.output / "report.json",
        limit=options.limit,
        options=EvaluationOptions(num_yaw_rotated=options.yaw_rotated),
    )
    found = {"variant": cell.variant, "seed": cell.seed, "settings": cell.settings}
    found |= figures(cell, report)
    text = json.dumps(found, indent=2) + "\n"
    write_whole(cell.file, lambda partial: partial.write_text(text))
    if not options.keep_models:
        for name in cell.stages:  # the whole folder: without weights it would look finished
            shutil.rmtree(cell.recipe.output / name)
    return found


def figures(cell: Cell, report: dict[str, Any]) -> dict[str, Any]:
    """Collect what is compared of a finished cell."""
    log = read_log(log_file(cell.recipe, SECOND))
    steps = cell.recipe.section(SECOND).steps
    watched: list[dict[str, Any]] = []
    if FIRST in cell.stages:
        watched = [e for e in read_log(log_file(cell.recipe, FIRST)) if "retrieval" in e]
    last = watched[-1] if watched else {}
    return {
        "accuracy": report["score"]["mean"],
        "questions": report["score"]["count"],
        "by_kind": {kind: each["mean"] for kind, each in report["by_kind"].items()},
        "blind": report["baselines"]["blind"]["score"]["mean"],
        "rotation_consistency": report.get("yaw_rotated", {}).get("score", {}).get("mean"),
        "loss_at": {
            str(round(share * steps)): loss_at(log, share * steps) for share in SHARES_OF_STEPS
        },
        "stage_1": {k: last.get(k) for k in ("retrieval", "retrieval_chance", "latent_rank")},
        "seconds": {name: stage["seconds"] for name, stage in report["stages"].items()},
    }


def loss_at(log: Sequence[dict[str, Any]], step: float) -> float:
    """Compute the mean of the losses logged in the fifth of the steps before one, with itself."""
    near = [entry["loss"] for entry in log if 0.8 * step < entry["step"] <= max(step, 1)]
    before = [entry["loss"] for entry in log if entry["step"] <= max(step, 1)]
    return statistics.fmean(near or before[-1:])


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Compute the mean of 2 to 10 values and half of its 95 % confidence interval (Student's t)."""
    half = T_975[len(values) - 2] * statistics.stdev(values) / len(values) ** 0.5
    return statistics.fmean(values), half


def page_text(report: dict[str, Any]) -> str:
    """Write the results in Markdown: how they came about, and the table."""
    made_with = report["environment"]
    cells = report["cells"]
    seeds = sorted({cell["seed"] for cell in cells})
    summary = (
        f"`{report['command']}`\n\n"
        f"{len(seeds)} seeds; mean ± half of the 95 % confidence interval (Student's t) over them; "
        f"{cells[0]['questions']} questions. {made_with['cpu']}, {made_with['logical_cpus']} "
        f"logical CPUs; {software(made_with)}."
    )
    return f"{summary}\n\n{markdown(table(cells))}"


def table(cells: Sequence[dict[str, Any]]) -> Table:
    """Return a row for each variant; differences are to the first one, seed by seed."""
    variants = list(dict.fromkeys(cell["variant"] for cell in cells))
    steps = list(cells[0]["loss_at"])
    columns: dict[str, Callable[[dict[str, Any]], float | None]] = {
        "accuracy, %": lambda cell: 100 * cell["accuracy"],
        "accuracy when yaw-rotated, %": lambda cell: _percent(cell["rotation_consistency"]),
        "blind, %": lambda cell: 100 * cell["blind"],
    }
    for step in steps:
        columns[f"stage 2's loss at step {step}"] = lambda cell, step=step: cell["loss_at"][step]
    columns["held-out retrieval, %"] = lambda cell: _percent(cell["stage_1"]["retrieval"])
    rows = [["stage 1", f"accuracy, beside {variants[0]}", *columns]]
    by_seed = {(cell["variant"], cell["seed"]): cell for cell in cells}
    for variant in variants:
        own = [cell for cell in cells if cell["variant"] == variant]
        gains = [100 * (c["accuracy"] - by_seed[variants[0], c["seed"]]["accuracy"]) for c in own]
        gain = "" if variant == variants[0] else f"{_mean_and_interval(gains, signed=True)} points"
        rows.append(
            [
                variant,
                gain,
                *(_mean_and_interval([of(cell) for cell in own]) for of in columns.values()),
            ]
        )
    return rows


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _mean_and_interval(values: Sequence[float | None], *, signed: bool = False) -> str:
    """Write a mean with its interval; a dash where nothing was measured."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return "–"
    mean, half = interval(known)
    digits = 1 if max(map(abs, known)) >= 10 or signed else 3
    return f"{mean:{'+' if signed else ''}.{digits}f} ± {half:.{digits}f}"


def environment() -> dict[str, Any]:
    """Return what the figures were made with."""
    return {
        "cpu": cpu_model(),
        "logical_cpus": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {package: version_of(package) for package in PACKAGES},
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("recipe", type=Path, help="recipe with all stages")
    add("--data", type=Path, required=True, help="held-out records with correct answers")
    add("--out", type=Path, required=True, help="folder of all runs and of ablations.json")
    add("--docs", type=Path, help="page whose table is written anew")
    add("--seeds", type=int, default=3, help="2 to 10")
    add("--only", nargs="+", choices=VARIANTS, default=[*VARIANTS], help="variants to compare")
    add("--limit", type=int, help="ask only the first questions")
    add("--yaw-rotated", type=int, default=400, help="questions asked again yaw-rotated")
    add("--keep-models", action="store_true", help="keep the weights of finished cells")
    add("-o", action="append", dest="override", default=[], help="key=value of the recipe")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
