"""Which answers to a benchmark its page shows with their pictures: best, worst, not scored."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from panovlm.evaluation.pages.examples import changed_views, spread
from panovlm.evaluation.pages.marked_pictures import Example
from panovlm.evaluation.units import UNITS
from panovlm.pictures.declaring import Declaration, declare

Row = Mapping[str, Any]

SHOWN = 6
"""Best answers shown, and as many of the worst."""
UNSCORED_SHOWN = 4
MAX_REFERENCES = 5


def best_and_worst(report: Mapping[str, Any], rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Choose scored answers, the best and the worst first, each about another picture.

    Best are those better than the mean, or perfect; the others are the worst. Among equals, those
    that stay so when yaw-rotated come first.
    """
    sign = -1 if report["less_is_better"] else 1
    scored = [row for row in rows if row["score"] is not None]
    if not scored:
        return [], []
    mean = fmean(row["score"] for row in scored)
    perfect = 0.0 if report["less_is_better"] else UNITS[report["unit"]].ends[-1]

    def goodness(row: Row) -> tuple[float, float]:
        rotated = [r["score"] for r in row.get("yaw_rotated", ()) if r["score"] is not None]
        return sign * row["score"], sign * fmean(rotated or [row["score"]])

    def is_good(row: Row) -> bool:
        return sign * (row["score"] - mean) > 0 or row["score"] == perfect

    good = sorted(filter(is_good, scored), key=goodness, reverse=True)
    bad = sorted((row for row in scored if not is_good(row)), key=goodness)
    return _chosen(good, SHOWN), _chosen(bad, SHOWN)


def without_score(rows: Sequence[Row]) -> list[Row]:
    """Choose answers that could not be scored, each about another picture."""
    return _chosen([row for row in rows if row["score"] is None], UNSCORED_SHOWN)


def _chosen(rows: Sequence[Row], most: int) -> list[Row]:
    num_kinds = len({row["kind"] for row in rows})
    return spread(rows, lambda row: (row["image"], row["kind"]), num_kinds, most)


def example_of(report: Mapping[str, Any], row: Row) -> Example:
    """Return an answer as it is shown."""
    declared = report.get("settings", {}).get("declared")
    views = report.get("view_ablation", {}).get("views", ())
    unit, score, answered = UNITS[report["unit"]], row["score"], row.get("answered_deg")
    is_between = score is None or report["less_is_better"] or 0 < score < unit.ends[-1]
    error = "error " if report["less_is_better"] else ""
    return Example(
        picture=declare(Path(row["image"]), Declaration(**declared) if declared else None),
        question=row["question"],
        expected=_expected(row),
        answer=row["answer"],
        kind=row["kind"],
        is_right=None if is_between else score > 0,
        yaw_deg=row["yaw_deg"],
        pitch_deg=row["pitch_deg"],
        answered_deg=(answered[0], answered[1]) if answered else None,
        score=f"none: {row['missing']}" if score is None else f"{error}{unit.score_text(score)}",
        changed_views=changed_views(views, row.get("changed_by_view")),
    )


def _expected(row: Row) -> str:
    """Return the right answers, or where the target is if there are none in words."""
    references = row["references"]
    if references:
        more = len(references) - MAX_REFERENCES
        end = [f"and {more:,} more"] if more > 0 else []
        return "\n".join([*references[:MAX_REFERENCES], *end])
    if row["yaw_deg"] is None:
        return "none given"
    pitch = "" if row["pitch_deg"] is None else f", pitch {row['pitch_deg']:.1f}°"
    return f"yaw {row['yaw_deg']:.1f}°{pitch}"
