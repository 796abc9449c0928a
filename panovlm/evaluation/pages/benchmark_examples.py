"""Which answers to a benchmark its page shows with their pictures: best, worst, not scored."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from panovlm.evaluation.pages.examples import spread
from panovlm.evaluation.pages.marked_pictures import Example, Worth
from panovlm.evaluation.units import UNITS, Unit

Row = Mapping[str, Any]

SHOWN = 6
"""Best answers shown, and as many of the worst."""
UNSCORED_SHOWN = 4
MAX_REFERENCES = 5


def best_and_worst(report: Mapping[str, Any], rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Choose scored answers, the best and the worst first, each about another picture.

    Best are those better than the mean, or perfect; the others are the worst. What stays so under
    more turns comes first among equals.
    """
    sign = -1 if report["less_is_better"] else 1
    scored = [row for row in rows if row["score"] is not None]
    if not scored:
        return [], []
    mean = fmean(row["score"] for row in scored)
    perfect = 0.0 if report["less_is_better"] else UNITS[report["unit"]].ends[-1]

    def goodness(row: Row) -> tuple[float, float]:
        turned = [t["score"] for t in row.get("yaw_rotated", ()) if t["score"] is not None]
        return sign * row["score"], sign * fmean(turned or [row["score"]])

    good = [r for r in scored if sign * (r["score"] - mean) > 0 or r["score"] == perfect]
    kept = {id(row) for row in good}
    bad = [row for row in scored if id(row) not in kept]
    return (
        _chosen(sorted(good, key=goodness, reverse=True), SHOWN),
        _chosen(sorted(bad, key=goodness), SHOWN),
    )


def without_score(rows: Sequence[Row]) -> list[Row]:
    """Choose answers that could not be scored, each about another picture."""
    return _chosen([row for row in rows if row["score"] is None], UNSCORED_SHOWN)


def _chosen(rows: Sequence[Row], most: int) -> list[Row]:
    num_kinds = len({row["kind"] for row in rows})
    return spread(rows, lambda row: (row["image"], row["kind"]), num_kinds, most)


def example_of(report: Mapping[str, Any], row: Row) -> Example:
    """Give an answer as it is shown."""
    unit, said = UNITS[report["unit"]], row.get("answered_deg")
    return Example(
        picture=Path(row["image"]),
        question=row["question"],
        expected=_expected(row),
        answer=row["answer"],
        kind=row["kind"],
        yaw_deg=row["yaw_deg"],
        pitch_deg=row["pitch_deg"],
        answered_deg=(said[0], said[1]) if said else None,
        changed_views=tuple(row.get("changed_by_view", ())),
        worth=_worth(unit, row, less_is_better=report["less_is_better"]),
    )


def _expected(row: Row) -> str:
    """Give the right answers, or where the question is about if there are none in words."""
    references = row["references"]
    if references:
        more = len(references) - MAX_REFERENCES
        end = [f"and {more:,} more"] if more > 0 else []
        return "\n".join([*references[:MAX_REFERENCES], *end])
    if row["yaw_deg"] is None:
        return "none is given"
    pitch = "" if row["pitch_deg"] is None else f", pitch {row['pitch_deg']:.1f}°"
    return f"yaw {row['yaw_deg']:.1f}°{pitch}"


def _worth(unit: Unit, row: Row, *, less_is_better: bool) -> Worth:
    score = row["score"]
    if score is None:
        return Worth(f"none: {row['missing']}", None)
    said = f"{unit.say(score)} off" if less_is_better else unit.say(score)
    if less_is_better or 0 < score < unit.ends[-1]:
        return Worth(said, None)
    return Worth(said, score > 0)
