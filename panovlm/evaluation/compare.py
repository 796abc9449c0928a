"""`panovlm compare`: is one model better than another on the questions that both were asked?

A paired bootstrap over whole panoramas: what makes a question hard for both does not blur the
difference. It covers the choice of questions, not the seeds of training.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from panovlm.evaluation.compare_page import comparison_page
from panovlm.evaluation.page import write_page
from panovlm.metrics.intervals import difference_interval
from panovlm.metrics.scores import Score
from panovlm.model.errors import PanoVLMError

Row = dict[str, Any]
Key = tuple[str, str, str, int]
_TEXTS = ("image", "question", "expected", "answer")


def compare(first: Path, second: Path) -> dict[str, Any]:
    """Compare two reports of `panovlm evaluate` on the questions they share.

    Args:
        first: JSON of one model.
        second: JSON of the other, whose gain is asked for.

    Returns:
        `shared`, `only_first`, `only_second` (numbers of questions); `overall` and, by kind,
        `by_kind`, each with `first`, `second` (shares right), `difference` (second - first) with
        `low` and `high`, `count`, and how many `gained` and `lost` being right.

    Raises:
        PanoVLMError: If a file is no such report, or they share no question.
    """
    ours, theirs = (_questions(path) for path in (first, second))
    shared = [key for key in ours if key in theirs]
    if not shared:
        raise PanoVLMError(
            f"found no question that both {first} ({len(ours)} questions) and {second} "
            f"({len(theirs)}) were asked; evaluate both models on the same --data"
        )
    pairs = [(ours[key], theirs[key]) for key in shared]
    kinds = sorted({a.get("kind") or "all" for a, _ in pairs})
    return {
        "first": str(first),
        "second": str(second),
        "shared": len(shared),
        "only_first": len(ours) - len(shared),
        "only_second": len(theirs) - len(shared),
        "overall": _difference(pairs),
        "by_kind": {
            kind: _difference([pair for pair in pairs if (pair[0].get("kind") or "all") == kind])
            for kind in kinds
        },
    }


def write_comparison(comparison: dict[str, Any], out: Path) -> None:
    """Write a comparison as a page, whole or not at all."""
    write_page(comparison_page(comparison), out)


def _difference(pairs: Sequence[tuple[Row, Row]]) -> dict[str, Any]:
    first, second = ([_score(pair[i]) for pair in pairs] for i in (0, 1))
    panoramas = [pair[0]["image"] for pair in pairs]
    found = difference_interval(first, second, groups=panoramas)
    if found is None:
        raise ValueError("found no pair of questions, expected one or more")
    facts = asdict(found)
    return {
        "first": sum(a["right"] for a, _ in pairs) / len(pairs),
        "second": sum(b["right"] for _, b in pairs) / len(pairs),
        "difference": facts.pop("mean"),
        **facts,
        "panoramas": len(set(panoramas)),
        "gained": sum(b["right"] and not a["right"] for a, b in pairs),
        "lost": sum(a["right"] and not b["right"] for a, b in pairs),
    }


def _score(row: Row) -> Score:
    return Score(float(row["right"]))


def _questions(path: Path) -> dict[Key, Row]:
    """Read the questions of a report; those asked twice of one picture are told by their order."""
    report = _read(path)
    settings = report.get("settings")
    folder = Path(str(settings.get("data", "") if isinstance(settings, dict) else "")).parent
    found: dict[Key, Row] = {}
    for row in report["predictions"]:
        picture = os.path.relpath(row["image"], folder)
        number = 0
        while (key := (picture, row["question"], row["expected"], number)) in found:
            number += 1
        found[key] = row
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise PanoVLMError(
            f"cannot read the report {path}: {fault}; name the JSON that `panovlm evaluate` wrote"
        ) from fault
    rows = report.get("predictions") if isinstance(report, dict) else None
    if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
        raise PanoVLMError(
            f"found in {path} no predictions with {', '.join(_TEXTS)} and right, expected a report "
            f"that `panovlm evaluate` wrote of records (not of a --benchmark)"
        )
    return dict(report)


def _is_row(row: object) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("kind"), str | None):
        return False
    is_told = all(isinstance(row.get(field), str) for field in _TEXTS) and bool(row["image"])
    return is_told and isinstance(row.get("right"), bool)
