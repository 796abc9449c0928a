"""`panovlm compare`: is one model better than another on the questions that both were asked?

A paired bootstrap over whole panoramas: what makes a question hard for both does not blur the
difference. It covers the choice of questions, not the seeds of training.
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from panovlm.errors import PanoVLMError
from panovlm.evaluation.pages.page import COMPARE, write_page
from panovlm.metrics.intervals import difference_interval
from panovlm.metrics.scores import Missing, Score, counted, summarise
from panovlm.metrics.units import UNITS, Unit

Key = tuple[str, str, str, int]
"""Picture, question, reference, and which of those that are alike in these."""
_MOST = max(unit.ends[-1] for unit in UNITS.values())
"""No score of any benchmark is above."""


class Question(BaseModel):
    """A question with the score of its answer, one of a report's `predictions`."""

    image: str
    question: str
    references: list[str]
    kind: str
    score: float | None = Field(ge=0.0, le=_MOST)
    missing: Missing | None
    yaw_deg: float | None = None

    @cached_property
    def scored(self) -> Score:
        """Its score, or why there is none; a ValueError if it has both or neither."""
        return Score(self.score, self.missing)


class _Judge(BaseModel):
    """Who graded, and by which prompt."""

    model: str
    prompt_sha256: str


class _Settings(BaseModel):
    """Which model was asked, how the pictures were shown to it, and where they lie."""

    model: str
    show: str
    images: Path


class Report(BaseModel):
    """What `panovlm compare` reads of a report of `panovlm evaluate`."""

    benchmark: str
    metric: str
    unit_name: str = Field(alias="unit")
    judge: _Judge | None
    settings: _Settings
    predictions: list[Question]

    @property
    def unit(self) -> Unit:
        """Of the scores."""
        return UNITS[self.unit_name]

    @cached_property
    def questions(self) -> dict[Key, Question]:
        """Return the questions; those asked twice of one picture are told apart by their order."""
        found: dict[Key, Question] = {}
        times: Counter[tuple[str, str, str]] = Counter()
        for row in self.predictions:
            image = os.path.relpath(row.image, self.settings.images)
            about = (image, row.question, "\n".join([str(row.yaw_deg), *row.references]))
            found[*about, times[about]] = row
            times[about] += 1
        return found


Pair = tuple[Question, Question]


def compare(first: Path, second: Path) -> dict[str, Any]:
    """Compare two reports of `panovlm evaluate` on the questions they share.

    Args:
        first: JSON of one model.
        second: JSON of the other, whose gain is asked for; of the same benchmark.

    Returns:
        `models`, `benchmark`, `metric`, `unit`, `less_is_better`; `shared`, `only_first`,
        `only_second` (numbers of questions); `overall` and, by kind, `by_kind`, each with `first`,
        `second` (means, the worst score for what could not be read), `difference` (second - first)
        with `low` and `high` (None of few panoramas; all None if no question has a score in both),
        `count` of these questions, how many `gained` and `lost`, and the shares of answers that
        could be read: `coverage_first`, `coverage_second`.

    Raises:
        PanoVLMError: If a file is no such report, they share no question, or their scores do not
            compare.
    """
    reports = read_report(first), read_report(second)
    _check_alike(*reports)
    unit, metric = reports[0].unit, reports[0].metric
    ours, theirs = (report.questions for report in reports)
    shared = [key for key in ours if key in theirs]
    if not shared:
        raise PanoVLMError(
            f"found no question that both {first} ({len(ours)} questions) and {second} "
            f"({len(theirs)}) were asked; evaluate both models on the same --data"
        )
    only_first, only_second = (len(each) - len(shared) for each in (ours, theirs))
    if unit.depends_on_set and (only_first or only_second):
        raise PanoVLMError(
            f"found {only_first} items of {first} and {only_second} of {second} alone, but "
            f"{metric} weighs words by all items; evaluate both models on the same ones"
        )
    pairs = [(ours[key], theirs[key]) for key in shared]
    return {
        "first": str(first),
        "second": str(second),
        "models": [f"{each.settings.model} (--show {each.settings.show})" for each in reports],
        "benchmark": reports[0].benchmark,
        "metric": metric,
        "unit": unit.name,
        "less_is_better": unit.less_is_better,
        "shared": len(shared),
        "only_first": only_first,
        "only_second": only_second,
        "overall": _difference(pairs, unit),
        "by_kind": {
            kind: _difference([pair for pair in pairs if pair[0].kind == kind], unit)
            for kind in sorted({a.kind for a, _ in pairs})
        },
    }


def read_report(path: Path) -> Report:
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
        read = Report.model_validate(report)
        _ = read.unit, [row.scored for row in read.questions.values()]
    except (ValidationError, ValueError, KeyError) as error:
        found = error.errors()[0]["msg"] if isinstance(error, ValidationError) else repr(error)
        raise PanoVLMError(
            f"found in {path} no predictions with their scores ({found}), "
            "expected a report that this version of `panovlm evaluate` wrote; evaluate again"
        ) from error
    return read


def _check_alike(ours: Report, theirs: Report) -> None:
    """Check that the scores of two reports mean the same.

    Raises:
        PanoVLMError: If they do not.
    """
    if ours.benchmark != theirs.benchmark:
        raise PanoVLMError(
            f"found reports of {ours.benchmark} and of {theirs.benchmark}, expected two of the "
            "same; evaluate both models on one --data with the same --benchmark"
        )
    for word, first, second in (
        ("metrics", ours.metric, theirs.metric),
        ("judges", ours.judge, theirs.judge),
    ):
        if first != second:
            raise PanoVLMError(
                f"found two {word}, {first} and {second}, whose scores do not compare; evaluate "
                "both models in the same way"
            )


def write_comparison(comparison: dict[str, Any], out: Path) -> None:
    """Write a comparison as a page, whole or not at all."""
    write_page("comparison.html.jinja", out, COMPARE, comparison=comparison)


def _difference(pairs: Sequence[Pair], unit: Unit) -> dict[str, Any]:
    """Compare scores on the questions of both."""
    sign = -1 if unit.less_is_better else 1
    given = [[pair[i].scored for pair in pairs] for i in (0, 1)]
    first, second = (counted(scores, unit.worst) for scores in given)
    found = difference_interval(first, second, [pair[0].image for pair in pairs])
    both = [
        (a.value, b.value)
        for a, b in zip(first, second, strict=True)
        if a.value is not None and b.value is not None
    ]
    facts = asdict(found) if found else {"mean": None, "low": None, "high": None, "count": 0}
    return {
        "first": fmean(a for a, _ in both) if both else None,
        "second": fmean(b for _, b in both) if both else None,
        "difference": facts.pop("mean"),
        **facts,
        "panoramas": len({pair[0].image for pair in pairs}),
        "gained": sum(sign * (b - a) > 0 for a, b in both),
        "lost": sum(sign * (b - a) < 0 for a, b in both),
        "coverage_first": summarise(given[0]).coverage,
        "coverage_second": summarise(given[1]).coverage,
    }
