"""The report's sections on what only a panorama has: directions, seam, poles, turns and views."""

from collections.abc import Mapping
from typing import Any

from panovlm.evaluation.pages.charts import Bar
from panovlm.evaluation.pages.page import beside, data_table, figure, folded, grid
from panovlm.evaluation.pages.roses import Petal, rose, round_up
from panovlm.evaluation.pages.score_sections import (
    ACCURACY,
    bars_table,
    on_seam_section,
    strata_section,
)
from panovlm.evaluation.units import NOT_MEASURED, SHARE
from panovlm.geometry.sphere import DIRECTIONS

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
    figures = [figure(_sector_rose("all", accuracy, "by_sector"), "all kinds")]
    for kind, scores in accuracy.get("by_kind_and_sector", {}).items():
        figures.append(figure(_sector_rose(kind, scores, "by_sector"), kind))
    return (
        '<h2>Accuracy by direction</h2>\n<p class="soft">As seen from above, the front of the '
        f"panorama at the top: where what is asked about really is. {_INTERVAL_NOTE}</p>\n"
        + grid(figures)
        + folded("As a table", bars_table(ACCURACY, "direction", _sectors(accuracy)))
    )


def stratum_section(accuracy: Facts) -> str:
    """Give accuracy by the distance from the seam and from the nearest pole."""
    names = {"the seam": "seam_distance", "the nearest pole": "pole_distance"}
    parts = {place: _bars(accuracy, name) for place, name in names.items()}
    return strata_section(ACCURACY, parts, _crossing(accuracy))


def seam_section(report: Facts) -> str:
    """Give accuracy with what is asked about on the seam beside that of the same as it is."""
    seam = report.get("seam_shifted")
    if not seam:
        return ""
    as_it_is = Bar("where it is", seam["as_it_is"], count=seam["count"])
    on_seam = Bar("on the seam", seam["overall"], count=seam["count"], interval=seam["interval"])
    return on_seam_section(ACCURACY, as_it_is, on_seam, seam["gain"])


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
        [
            f"right under all {rotation['rotations']} turns",
            *_share(rotation, "right_every", "count"),
        ]
    ]
    if "consistent" in rotation:
        rows.append(
            ["the same answer under all", *_share(rotation, "consistent", "consistent_count")]
        )
        agreement = SHARE.say(rotation["agreement"])
        rows.append(
            [
                "pairs of turns that agree",
                agreement,
                NOT_MEASURED,
                f"{rotation['consistent_count']:,}",
            ]
        )
    return f'<h2>Rotation</h2>\n<p class="soft">{_ROTATION_NOTE}</p>\n' + beside(
        figure(rose(petals, "Accuracy by turn of the camera"), "right, by turn"),
        data_table("Over all turns", ["answers", "share", "95 % interval", "questions"], rows),
    )


def view_section(report: Facts) -> str:
    """Give which views answers depend on, by their offset from the object where it is known."""
    ablation = report.get("view_ablation")
    if not ablation:
        return ""
    told = (
        "One view at a time is replaced by a blank one, for "
        f"{ablation['count']:,} questions; {SHARE.say(ablation['changed_by_any'])} of the answers "
        "change without some single view."
    )
    drawn = _offsets(ablation) if ablation["changed_by_offset"] else ""
    note = f" {_VIEW_NOTE}" if drawn else ""
    return f'<h2>Which view carries the answer</h2>\n<p class="soft">{told}{note}</p>\n{drawn}'


def _offsets(ablation: Facts) -> str:
    shares, limits = ablation["changed_by_offset"], ablation["interval_by_offset"]
    most = round_up(max(end for ends in limits.values() for end in ends))
    petals = [
        Petal(name, float(name.rstrip("°")), share, limits[name]) for name, share in shares.items()
    ]
    parts = ablation["share_by_offset"]
    rows = [
        [name, SHARE.say(share), SHARE.say_limits(limits[name]), SHARE.say(parts.get(name))]
        for name, share in shares.items()
    ]
    header = ["view, from the object", "answers that change", "95 % interval", "share of changes"]
    return beside(
        figure(rose(petals, "Answers that change, by view", most=most), "answers that change"),
        data_table("By the view's offset", header, rows),
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


def _sectors(accuracy: Facts) -> list[Bar]:
    """Give the rows of all sectors asked about, from the front on to the right."""
    return sorted(_bars(accuracy, "sector"), key=lambda bar: DIRECTIONS.index(bar.label))


def _bars(accuracy: Facts, name: str) -> list[Bar]:
    limits = accuracy.get(f"interval_by_{name}", {})
    counts = accuracy.get(f"count_by_{name}", {})
    return [
        Bar(key, share, count=counts.get(key), interval=limits.get(key))
        for key, share in accuracy.get(f"by_{name}", {}).items()
    ]


def _crossing(accuracy: Facts) -> str:
    if "seam" not in accuracy or "count_seam" not in accuracy:
        return ""
    rows = [
        [name, *_share(accuracy, key, f"count_{key}")]
        for name, key in (("cut by the picture's edge", "seam"), ("all others", "not_seam"))
    ]
    return data_table("Objects", ["object", "right", "95 % interval", "asked"], rows)


def _share(facts: Facts, key: str, count: str) -> list[str]:
    return [
        SHARE.say(facts[key]),
        SHARE.say_limits(facts.get(f"interval_{key}")),
        _count(facts.get(count)),
    ]


def _count(count: int | None) -> str:
    return NOT_MEASURED if count is None else f"{count:,}"
