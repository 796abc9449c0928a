"""Reports of `panovlm evaluate` as `panovlm compare` reads them."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panovlm.errors import PanoVLMError
from panovlm.evaluation.units import UNITS, Unit
from panovlm.metrics.scores import Missing, Score

Row = dict[str, Any]
Key = tuple[str, str, str, int]
"""Picture, question, reference, and which of those that are alike in these."""
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
        benchmark: Its name.
        metric: What a score is, in words.
        unit: Of the scores.
        less_is_better: Whether they are errors.
        judge: Who graded and by which prompt; None if nobody did.
        questions: The questions.
    """

    benchmark: str
    metric: str
    unit: Unit
    less_is_better: bool
    judge: tuple[str, ...] | None
    questions: Mapping[Key, ScoredQuestion]

    @property
    def worst(self) -> float:
        """The score of an answer that could not be read."""
        return self.unit.ends[-1] if self.less_is_better else 0.0


def read_compared(path: Path) -> ComparedReport:
    """Read a report.

    Raises:
        PanoVLMError: If it is none of this version.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PanoVLMError(
            f"cannot read the report {path}: {error}; name the JSON that `panovlm evaluate` wrote"
        ) from error
    try:
        return _compared(report)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PanoVLMError(
            f"found in {path} no predictions with their scores ({error!r}), "
            "expected a report that this version of `panovlm evaluate` wrote; evaluate again"
        ) from error


def _compared(report: Row) -> ComparedReport:
    name, metric, unit = (_text(report[key]) for key in ("benchmark", "metric", "unit"))
    less_is_better, judge = report["less_is_better"], report["judge"]
    if not isinstance(less_is_better, bool):
        raise ValueError(f"less_is_better {less_is_better!r}")
    graded = (str(judge["model"]), str(judge["prompt_sha256"])) if judge else None
    return ComparedReport(name, metric, UNITS[unit], less_is_better, graded, _questions(report))


def _questions(report: Row) -> dict[Key, ScoredQuestion]:
    """Return the questions; those asked twice of one picture are told apart by their order."""
    folder = Path(report["settings"]["images"])
    found: dict[Key, ScoredQuestion] = {}
    for row in report["predictions"]:
        image, question = _text(row["image"]), _text(row["question"])
        about = (os.path.relpath(image, folder), question, _references(row))
        number = 0
        while (key := (*about, number)) in found:
            number += 1
        found[key] = ScoredQuestion(image, _text(row["kind"]), _score(row))
    return found


def _references(row: Row) -> str:
    return "\n".join([str(row.get("yaw_deg")), *row["references"]])


def _score(row: Row) -> Score:
    value = row["score"]
    if value is None:
        return Score(None, Missing(row["missing"]))
    if not 0 <= value <= _MOST:
        raise ValueError(f"score {value}")
    return Score(float(value))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r}, expected a text")
    return value
