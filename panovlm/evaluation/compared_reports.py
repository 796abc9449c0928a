"""Reports of `panovlm evaluate` as `panovlm compare` reads them: of records, or of a benchmark."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panovlm.errors import PanoVLMError
from panovlm.evaluation.units import SHARE, UNITS, Unit
from panovlm.metrics.scores import Missing, Score

Row = dict[str, Any]
Key = tuple[str, str, str, int]
"""Picture, question, reference, and which of those that are alike in these."""
_TEXTS = ("image", "question", "expected", "answer")
_ITEM_TEXTS = ("image", "question", "answer")
_JUDGE = ("model", "prompt_sha256")
_MOST = max(unit.ends[-1] for unit in UNITS.values())
"""No score of any benchmark is above."""


@dataclass(frozen=True)
class ScoredQuestion:
    """A question with the score of its answer."""

    panorama: str
    kind: str
    score: Score


@dataclass(frozen=True)
class ComparedReport:
    """What a report says of its questions.

    Attributes:
        benchmark: Its name; None for records.
        metric: What a score is, in words.
        unit: Of the scores.
        less_is_better: Whether they are errors.
        judge: Who graded and by which prompt; None if nobody did.
        questions: The questions.
    """

    benchmark: str | None
    metric: str
    unit: Unit
    less_is_better: bool
    judge: tuple[str, ...] | None
    questions: Mapping[Key, ScoredQuestion]


def read_compared(path: Path) -> ComparedReport:
    """Read a report of records or of a benchmark.

    Raises:
        PanoVLMError: If it is neither.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PanoVLMError(
            f"cannot read the report {path}: {error}; name the JSON that `panovlm evaluate` wrote"
        ) from error
    rows = report.get("predictions") if isinstance(report, dict) else None
    is_benchmark = isinstance(report, dict) and report.get("benchmark") is not None
    is_row = _is_item if is_benchmark else _is_row
    if not isinstance(rows, list) or not all(map(is_row, rows)):
        raise PanoVLMError(
            f"found in {path} no predictions with {', '.join(_TEXTS)} and right (of records), or "
            "with references and score (of a --benchmark), expected a report that `panovlm "
            "evaluate` wrote"
        )
    return _benchmark(path, report) if is_benchmark else _records(report)


def _records(report: Row) -> ComparedReport:
    questions = _by_key(report, _folder(report, "data").parent, lambda row: row["expected"], _right)
    return ComparedReport(None, "accuracy", SHARE, False, None, questions)


def _benchmark(path: Path, report: Row) -> ComparedReport:
    name, metric, judge = (report.get(key) for key in ("benchmark", "metric", "judge"))
    unit, less_is_better = report.get("unit"), report.get("less_is_better")
    if (
        not isinstance(name, str)
        or not isinstance(metric, str)
        or not isinstance(unit, str)
        or unit not in UNITS
        or not isinstance(less_is_better, bool)
    ):
        raise PanoVLMError(
            f"found in {path} no benchmark, metric, unit ({', '.join(UNITS)}) and less_is_better, "
            "expected a report that this version of `panovlm evaluate --benchmark` wrote"
        )
    graded = tuple(str(judge.get(key)) for key in _JUDGE) if isinstance(judge, dict) else None
    questions = _by_key(report, _folder(report, "images"), _references, _score)
    return ComparedReport(name, metric, UNITS[unit], less_is_better, graded, questions)


def _by_key(
    report: Row, folder: Path, reference: Callable[[Row], str], score: Callable[[Row], Score]
) -> dict[Key, ScoredQuestion]:
    """Return the questions; those asked twice of one picture are told apart by their order."""
    found: dict[Key, ScoredQuestion] = {}
    for row in report["predictions"]:
        picture = os.path.relpath(row["image"], folder)
        number = 0
        while (key := (picture, row["question"], reference(row), number)) in found:
            number += 1
        found[key] = ScoredQuestion(row["image"], row.get("kind") or "all", score(row))
    return found


def _folder(report: Row, setting: str) -> Path:
    settings = report.get("settings")
    return Path(str(settings.get(setting, "") if isinstance(settings, dict) else ""))


def _right(row: Row) -> Score:
    return Score(float(row["right"]))


def _score(row: Row) -> Score:
    value = row["score"]
    return Score(None, Missing(row["missing"])) if value is None else Score(float(value))


def _references(row: Row) -> str:
    return "\n".join([str(row.get("yaw_deg")), *row["references"]])


def _has_texts(row: Row, fields: tuple[str, ...]) -> bool:
    has_all = all(isinstance(row.get(field), str) for field in fields) and bool(row["image"])
    return has_all and isinstance(row.get("kind"), str | None)


def _is_row(row: object) -> bool:
    return isinstance(row, dict) and _has_texts(row, _TEXTS) and isinstance(row.get("right"), bool)


def _is_item(row: object) -> bool:
    if not isinstance(row, dict) or not _has_texts(row, _ITEM_TEXTS):
        return False
    references, score = row.get("references"), row.get("score")
    if not isinstance(references, list) or not all(isinstance(each, str) for each in references):
        return False
    if score is None:
        return row.get("missing") in [*Missing]
    return isinstance(score, int | float) and 0 <= score <= _MOST
