"""Compares what a run can do after each of its stages: listings, questions, and both blind.

    python benchmarks/stages.py runs/smollm2 --data data/scenes-5000/test.jsonl \\
        --listings data/scenes-5000/test_listings.jsonl

Every folder of a stage that answers is evaluated on the same records; the reports lie beside the
folders. `--docs` puts the table on a page.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from panovlm.errors import PanoVLMError
from panovlm.evaluation.asking import EvaluationOptions
from panovlm.evaluation.run import evaluate
from panovlm.stages import STAGES, Supervision
from reporting import cpu_model, markdown, put_between_markers

ANSWERING = [stage.name for stage in STAGES.values() if stage.supervision is not Supervision.NONE]
"""Stages that have a language model."""
HEADER = ["after stage", "occupied", "whole lines", "F1 of labels", "blind"]
HEADER += ["questions", "blind", "right when rotated"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate every stage of a run and print the table."""
    options = _parser().parse_args(arguments)
    try:
        rows = [row(name, *reports(options, name)) for name in stages_of(options.run)]
    except PanoVLMError as error:
        print(f"stages: {error}", file=sys.stderr)
        return 2
    text = (
        f"`{options.run}`: {options.limit_listings} listings and {options.limit} questions, 95 % "
        f"intervals over panoramas; “occupied”: directions rightly said to hold something or "
        f"nothing. {cpu_model()}.\n\n{markdown([HEADER, *rows])}"
    )
    print(text)
    if options.docs:
        put_between_markers(options.docs, "stages", text)
    return 0


def stages_of(run: Path) -> list[str]:
    """Return the stages of a run that answer and are finished.

    Raises:
        PanoVLMError: If there is none.
    """
    found = [name for name in ANSWERING if (run / name).is_dir()]
    if not found:
        raise PanoVLMError(f"found no stage of {', '.join(ANSWERING)} in {run}; train it first")
    return found


def reports(options: argparse.Namespace, stage: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Evaluate a stage on listings and on questions."""
    folder, rotated = options.run / stage, EvaluationOptions(num_yaw_rotated=options.yaw_rotated)
    listings = evaluate(
        folder,
        options.listings,
        options.run / f"{stage}_listings.json",
        limit=options.limit_listings,
    )
    questions = evaluate(
        folder,
        options.data,
        options.run / f"{stage}_questions.json",
        limit=options.limit,
        options=rotated,
    )
    return listings, questions


def row(stage: str, listings: dict[str, Any], questions: dict[str, Any]) -> list[str]:
    """Return a stage's row of the table."""
    seen = listings["extras"]["listings"]
    blind = listings["baselines"]["blind"]["extras"]["listings"]
    rotated = questions["yaw_rotated"]["score"]
    return [
        f"`{stage}`",
        *(_percent(**seen[part]) for part in ("occupied", "lines")),
        f"{seen['f1']:.3f}",
        f"{blind['f1']:.3f}",
        _percent(**questions["score"]["interval"]),
        f"{questions['baselines']['blind']['score']['mean']:.1%}",
        _percent(**rotated["interval"]),
    ]


def _percent(mean: float, low: float | None, high: float | None, **_: Any) -> str:
    return f"{mean:.1%}" if low is None else f"{mean:.1%} [{low:.1%}, {high:.1%}]"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="a run's folder")
    parser.add_argument("--data", type=Path, required=True, help="questions")
    parser.add_argument("--listings", type=Path, required=True, help="listings")
    parser.add_argument("--limit", type=int, default=1000, help="questions")
    parser.add_argument("--limit-listings", type=int, default=100)
    parser.add_argument("--yaw-rotated", type=int, default=50, help="questions asked rotated")
    parser.add_argument("--docs", type=Path, help="page with the markers <!-- stages -->")
    return parser


if __name__ == "__main__":
    sys.exit(main())
