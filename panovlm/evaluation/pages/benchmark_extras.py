"""A benchmark's own figures, in words: what its report has under `extras`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from panovlm.evaluation.pages.page import data_table, figure, grid
from panovlm.evaluation.pages.roses import Petal, rose, round_up
from panovlm.evaluation.units import DEGREES, NOT_MEASURED, SHARE, Unit
from panovlm.geometry.sphere import DIRECTIONS

Facts = Mapping[str, Any]

PLAIN = Unit("number", 1.0, 3, "", "", (1.0,))
WORDS: dict[str, tuple[str, Unit]] = {
    "bleu_1": ("BLEU-1", PLAIN),
    "bleu_2": ("BLEU-2", PLAIN),
    "bleu_3": ("BLEU-3", PLAIN),
    "bleu_4": ("BLEU-4", PLAIN),
    "rouge_l": ("ROUGE-L", PLAIN),
    "cider": ("CIDEr (CIDEr-D) of the whole set", PLAIN),
    "cider_plain": ("CIDEr without clipping and penalty", PLAIN),
    "meteor": ("METEOR", PLAIN),
    "spice": ("SPICE", PLAIN),
    "median_error_deg": ("median error", DEGREES),
    "mean_unreadable_guessed_deg": ("mean error, what cannot be read counted as a guess", DEGREES),
    "great_circle_deg": ("mean great-circle error", DEGREES),
    "right_sector": ("in the right one of eight sectors", SHARE),
    "chance": ("right by drawing an option", SHARE),
    "chance.drawn_evenly_deg": ("without looking: a direction drawn evenly", DEGREES),
    "chance.always_front_deg": ("without looking: always the front", DEGREES),
    "chance.best_for_all_deg": ("without looking: the one best direction for all", DEGREES),
    "chance.best_for_all_yaw_deg": ("the yaw of that direction", DEGREES),
    "chance.right_words_deg": ("the least error of the eight words", DEGREES),
    "chance.most_frequent_sector": ("without looking: always the most frequent sector", SHARE),
    "within_5_deg": ("within 5°, of all answers", SHARE),
    "within_10_deg": ("within 10°, of all answers", SHARE),
    "within_20_deg": ("within 20°, of all answers", SHARE),
    "mean_yaw_error_deg": ("mean yaw error from the middle of the target", DEGREES),
    "every_order_right": ("right under every order of the options", SHARE),
    "mean_of_types": ("mean of the types' accuracies", SHARE),
    "mean_of_categories": ("mean of the categories' means", SHARE),
    "contains_accuracy": ("accuracy, the right answer contained", SHARE),
    "accuracy": ("accuracy, fully right", SHARE),
    "map.f1": ("maps: F1", SHARE),
    "map.precision": ("maps: precision", SHARE),
    "map.recall": ("maps: recall", SHARE),
    "map.mean_distance": ("maps: cells between matched objects", PLAIN),
    "map.chair_i": ("maps: named categories that are not there", SHARE),
    "map.chair_s": ("maps: naming any such category", SHARE),
    "pitch_said": ("answers that say a pitch", PLAIN),
    "maps_read": ("maps that could be read", PLAIN),
}
"""What each figure is called, and its unit; of others the key is shown."""
GROUPS = {
    "accuracy_by_type": "accuracy, fully right",
    "accuracy_by_group": "accuracy",
    "contains_accuracy_by_group": "accuracy, the right answer contained",
    "by_level": "level",
}
"""Figures of which there is one for each group; all are shares."""
_NO_FIGURES = ("said", "not_computed")


@dataclass(frozen=True)
class _Figure:
    """One figure: its key, its value (None if there is none), and what it rests on."""

    key: str
    value: float | None
    facts: Facts


def extras_section(report: Facts) -> str:
    """Give a benchmark's further figures, beside those of the blind baseline; empty without any."""
    extras: Facts = report["extras"]
    blind: Facts = report["baselines"].get("blind", {}).get("extras", {})
    others = {each.key: each for each in _figures(blind) if not each.key.startswith("chance")}
    rows = [_row(each, others.get(each.key)) for each in _figures(extras)]
    table = data_table(
        "Further figures", ["figure", "value", "95 % interval", "blind", "scored", "asked"], rows
    )
    said, missing = extras.get("said"), extras.get("not_computed") or {}
    drawn = f"{grid([_said_rose(said)]) if said else ''}{table}" if rows else ""
    left_out = [[name, why] for name, why in missing.items()]
    note = data_table("Not computed", ["figure", "why"], left_out) if left_out else ""
    return f"<h2>The benchmark's own figures</h2>\n{drawn}{note}" if drawn or note else ""


def _figures(extras: Facts, prefix: str = "") -> Iterator[_Figure]:
    for name, value in extras.items():
        key = f"{prefix}{name}"
        if key in _NO_FIGURES:
            continue
        if isinstance(value, Mapping) and "mean" in value and "scored" in value:
            yield _Figure(key, value["mean"], value)
        elif isinstance(value, Mapping):
            yield from _figures(value, f"{key}.")
        elif value is None or isinstance(value, int | float):
            yield _Figure(key, value, {})


def _row(each: _Figure, other: _Figure | None) -> list[str]:
    words, unit = _words(each.key)
    interval = each.facts.get("interval")
    return [
        words,
        _say(unit, each.value),
        unit.say_limits((interval["low"], interval["high"]) if interval else None),
        _say(unit, other.value) if other else NOT_MEASURED,
        *(str(each.facts.get(key, NOT_MEASURED)) for key in ("scored", "count")),
    ]


def _words(key: str) -> tuple[str, Unit]:
    group, _, name = key.partition(".")
    if group in GROUPS:
        return f"{GROUPS[group]}: {name}", SHARE
    return WORDS.get(key, (key.replace("_", " "), PLAIN))


def _say(unit: Unit, value: float | None) -> str:
    if value is None:
        return "no score"
    return f"{value:,}" if isinstance(value, int) else unit.say(value)


def _said_rose(said: Mapping[str, int]) -> str:
    total = sum(said.values())
    shares = [said.get(word, 0) / total for word in DIRECTIONS]
    petals = [
        Petal(word, 45.0 * place, share)
        for place, (word, share) in enumerate(zip(DIRECTIONS, shares, strict=True))
    ]
    drawn = rose(petals, "Where answers point", most=round_up(max(shares)))
    return figure(drawn, f"where the {total:,} answers that were read point")
