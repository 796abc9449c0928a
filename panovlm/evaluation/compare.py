"""`panovlm compare`: is one model better than another on the questions that both were asked?

A paired bootstrap over whole panoramas: what makes a question hard for both does not blur the
difference. It covers the choice of questions, not the seeds of training.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from panovlm.errors import PanoVLMError
from panovlm.evaluation.compared_reports import ComparedReport, ScoredQuestion, read_compared
from panovlm.evaluation.pages.compare_page import comparison_page
from panovlm.evaluation.pages.page import COMPARE, write_page
from panovlm.metrics.intervals import difference_interval
from panovlm.metrics.scores import counted, summarise

Pair = tuple[ScoredQuestion, ScoredQuestion]


def compare(first: Path, second: Path) -> dict[str, Any]:
    """Compare two reports of `panovlm evaluate` on the questions they share.

    Args:
        first: JSON of one model.
        second: JSON of the other, whose gain is asked for; of the same benchmark.

    Returns:
        `benchmark`, `metric`, `unit`, `less_is_better`; `shared`, `only_first`,
        `only_second` (numbers of questions); `overall` and, by kind, `by_kind`, each with `first`,
        `second` (means, the worst score for what could not be read), `difference` (second - first)
        with `low` and `high` (None of few panoramas; all None if no question has a score in both),
        `count` of these questions, how many `gained` and `lost`, and the shares of answers that
        could be read: `coverage_first`, `coverage_second`.

    Raises:
        PanoVLMError: If a file is no such report, they share no question, or their scores do not
            compare.
    """
    ours, theirs = read_compared(first), read_compared(second)
    _check_alike(ours, theirs)
    shared = [key for key in ours.questions if key in theirs.questions]
    if not shared:
        raise PanoVLMError(
            f"found no question that both {first} ({len(ours.questions)} questions) and {second} "
            f"({len(theirs.questions)}) were asked; evaluate both models on the same --data"
        )
    only_first, only_second = (len(each.questions) - len(shared) for each in (ours, theirs))
    if ours.unit.depends_on_set and (only_first or only_second):
        raise PanoVLMError(
            f"found {only_first} items of {first} and {only_second} of {second} alone, but "
            f"{ours.metric} weighs words by all items; evaluate both models on the same ones"
        )
    pairs = [(ours.questions[key], theirs.questions[key]) for key in shared]
    return {
        "first": str(first),
        "second": str(second),
        "benchmark": ours.benchmark,
        "metric": ours.metric,
        "unit": ours.unit.name,
        "less_is_better": ours.less_is_better,
        "shared": len(shared),
        "only_first": only_first,
        "only_second": only_second,
        "overall": _difference(pairs, ours),
        "by_kind": {
            kind: _difference([pair for pair in pairs if pair[0].kind == kind], ours)
            for kind in sorted({a.kind for a, _ in pairs})
        },
    }


def _check_alike(ours: ComparedReport, theirs: ComparedReport) -> None:
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
    write_page(comparison_page(comparison), out, COMPARE)


def _difference(pairs: Sequence[Pair], report: ComparedReport) -> dict[str, Any]:
    """Compare scores of two such reports."""
    sign = -1 if report.less_is_better else 1
    given = [[pair[i].score for pair in pairs] for i in (0, 1)]
    first, second = (counted(scores, report.worst) for scores in given)
    found = difference_interval(first, second, [pair[0].panorama for pair in pairs])
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
        "panoramas": len({pair[0].panorama for pair in pairs}),
        "gained": sum(sign * (b - a) > 0 for a, b in both),
        "lost": sum(sign * (b - a) < 0 for a, b in both),
        "coverage_first": summarise(given[0]).coverage,
        "coverage_second": summarise(given[1]).coverage,
    }
