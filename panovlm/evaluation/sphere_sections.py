"""The report's sections on what only a panorama has: directions, seam, poles, turns and views."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from panovlm.evaluation.charts import Bar, bar_chart, percent
from panovlm.evaluation.page import NOT_MEASURED, data_table, folded
from panovlm.evaluation.roses import Petal, rose
from panovlm.model.sphere import DIRECTIONS

Facts = Mapping[str, Any]

_ROTATION_NOTE = (
    "The same questions with the camera turned right. Being right under every turn and giving the "
    "same answer (turned back by its direction words) are two things: a model may be wrong the "
    "same way all around. Questions whose answer is meant to change, as “What is to my left?”, are "
    "not compared with themselves."
)
_VIEW_NOTE = (
    "Drawn by where the view looks from the object's direction, which is at the top. Views "
    "overlap: what one loses, its neighbour may still see."
)
_INTERVAL_NOTE = "Thin lines are 95 % intervals, drawn by whole panoramas."


def direction_section(accuracy: Facts) -> str:
    """Give roses of accuracy by the true direction, over all and for each kind."""
    if not accuracy.get("by_sector"):
        return ""
    figures = [_figure(_sector_rose("all", accuracy, "by_sector"), "all kinds")]
    for kind, scores in accuracy.get("by_kind_and_sector", {}).items():
        figures.append(_figure(_sector_rose(kind, scores, "by_sector"), kind))
    return (
        '<h2>Accuracy by direction</h2>\n<p class="soft">As seen from above, the front of the '
        f"panorama at the top: where what is asked about really is. {_INTERVAL_NOTE}</p>\n"
        + _grid(figures)
        + folded("As a table", _strata_table(accuracy, "sector", "direction", DIRECTIONS))
    )


def stratum_section(accuracy: Facts) -> str:
    """Give accuracy by the distance from the seam and from the nearest pole."""
    parts = []
    for name, place in (("seam_distance", "the seam"), ("pole_distance", "the nearest pole")):
        shares = accuracy.get(f"by_{name}", {})
        if len(shares) > 1:  # one alone compares nothing
            bars = [_bar(accuracy, name, stratum) for stratum in shares]
            chart = bar_chart(bars, f"Accuracy by distance from {place}", "")
            parts.append(
                f'<h3>By distance from {place}</h3>\n<div class="chart">{chart}</div>\n'
                + folded("As a table", _strata_table(accuracy, name, "distance", list(shares)))
            )
    return "<h2>Seam and poles</h2>\n" + "\n".join([*parts, _crossing(accuracy)]) if parts else ""


def rotation_section(report: Facts) -> str:
    """Give accuracy under each turn, and how often answers are right, or the same, under all."""
    rotation = report.get("rotation")
    if not rotation:
        return ""
    petals = [
        Petal(turn, float(turn.rstrip("°")), share, rotation["interval_by_turn"][turn])
        for turn, share in rotation["by_turn"].items()
    ]
    rows = [
        [f"right under all {rotation['rolls']} turns", *_share(rotation, "right_every", "count")]
    ]
    if "consistent" in rotation:
        rows.append(
            ["the same answer under all", *_share(rotation, "consistent", "consistent_count")]
        )
        agreement = percent(rotation["agreement"])
        rows.append(
            [
                "pairs of turns that agree",
                agreement,
                NOT_MEASURED,
                f"{rotation['consistent_count']:,}",
            ]
        )
    return (
        f'<h2>Rotation</h2>\n<p class="soft">{_ROTATION_NOTE}</p>\n'
        '<div class="beside">'
        + _figure(rose(petals, "Accuracy by turn of the camera"), "right, by turn")
        + data_table("Over all turns", ["answers", "share", "95 % interval", "questions"], rows)
        + "</div>"
    )


def view_section(report: Facts) -> str:
    """Give which views answers depend on, by their offset from the object."""
    ablation = report.get("view_ablation")
    if not ablation or not ablation.get("changed_by_offset"):
        return ""
    shares = ablation["changed_by_offset"]
    most = _round_up(max(end for ends in ablation["interval_by_offset"].values() for end in ends))
    petals = [
        Petal(name, float(name.rstrip("°")), share, ablation["interval_by_offset"][name])
        for name, share in shares.items()
    ]
    parts = ablation["share_by_offset"]
    rows = [
        [name, percent(share), _limits(ablation["interval_by_offset"][name]), _part(parts, name)]
        for name, share in shares.items()
    ]
    header = ["view, from the object", "answers that change", "95 % interval", "share of changes"]
    return (
        f'<h2>Which view carries the answer</h2>\n<p class="soft">One view at a time is replaced '
        f"by a blank one, for {ablation['count']:,} questions; "
        f"{percent(ablation['changed_by_any'])} of the answers change without some single view. "
        f'{_VIEW_NOTE}</p>\n<div class="beside">'
        + _figure(rose(petals, "Answers that change, by view", most=most), "answers that change")
        + data_table("By the view's offset", header, rows)
        + "</div>"
    )


def _sector_rose(name: str, scores: Facts, key: str) -> str:
    petals = [
        Petal(
            direction,
            45.0 * place,
            scores[key].get(direction),
            scores.get("interval_by_sector", {}).get(direction),
            scores.get("count_by_sector", {}).get(direction),
        )
        for place, direction in enumerate(DIRECTIONS)
    ]
    return rose(petals, f"Accuracy by direction, {name}")


def _bar(accuracy: Facts, name: str, stratum: str) -> Bar:
    limits = accuracy.get(f"interval_by_{name}", {}).get(stratum)
    count = accuracy.get(f"count_by_{name}", {}).get(stratum)
    return Bar(stratum, accuracy[f"by_{name}"][stratum], count=count, interval=limits)


def _strata_table(accuracy: Facts, name: str, column: str, order: Sequence[str]) -> str:
    shares = accuracy[f"by_{name}"]
    limits = accuracy.get(f"interval_by_{name}", {})
    counts = accuracy.get(f"count_by_{name}", {})
    rows = [
        [key, percent(shares[key]), _limits(limits.get(key)), _count(counts.get(key))]
        for key in order
        if key in shares
    ]
    return data_table(f"Accuracy by {column}", [column, "right", "95 % interval", "asked"], rows)


def _crossing(accuracy: Facts) -> str:
    if "seam" not in accuracy or "count_seam" not in accuracy:
        return ""
    rows = [
        [name, *_share(accuracy, key, f"count_{key}")]
        for name, key in (("cut by the picture's edge", "seam"), ("all others", "not_seam"))
    ]
    return data_table("Objects", ["object", "right", "95 % interval", "asked"], rows)


def _share(facts: Facts, key: str, count: str) -> list[str]:
    return [percent(facts[key]), _limits(facts.get(f"interval_{key}")), _count(facts.get(count))]


def _limits(limits: Sequence[float] | None) -> str:
    return f"{100 * limits[0]:.1f}–{100 * limits[1]:.1f}" if limits else NOT_MEASURED


def _count(count: int | None) -> str:
    return NOT_MEASURED if count is None else f"{count:,}"


def _part(parts: Facts, name: str) -> str:
    return percent(parts[name]) if name in parts else NOT_MEASURED


def _round_up(share: float) -> float:
    """Give the smallest of a few round shares that is not below."""
    return next(
        round_share for round_share in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0) if share <= round_share
    )


def _figure(chart: str, caption: str) -> str:
    return f"<figure>{chart}<figcaption>{escape(caption)}</figcaption></figure>"


def _grid(figures: Sequence[str]) -> str:
    return '<div class="roses">\n' + "\n".join(figures) + "\n</div>\n"
