"""A benchmark's own metrics, in words: what its report has under `extras`."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from panovlm.evaluation.pages.charts import Bar
from panovlm.evaluation.pages.scores import Facts, limits_of
from panovlm.evaluation.units import DEGREES, NOT_MEASURED, SHARE, Unit
from panovlm.geometry.sphere import DIRECTIONS

PLAIN = Unit("number", 1.0, 3, "", "", (1.0,))
WORDS: dict[str, tuple[str, Unit]] = {
    "bleu_1": ("BLEU-1", PLAIN),
    "bleu_2": ("BLEU-2", PLAIN),
    "bleu_3": ("BLEU-3", PLAIN),
    "bleu_4": ("BLEU-4", PLAIN),
    "rouge_l": ("ROUGE-L", PLAIN),
    "cider": ("CIDEr (CIDEr-D) of the whole set", PLAIN),
    "cider_plain": ("CIDEr without clipping and penalty", PLAIN),
    "median_error_deg": ("median error", DEGREES),
    "mean_unreadable_guessed_deg": ("mean error, unreadable answers as random guesses", DEGREES),
    "great_circle_deg": ("mean great-circle error", DEGREES),
    "right_sector": ("accuracy over eight sectors", SHARE),
    "chance": ("chance: a random option", SHARE),
    "chance.drawn_evenly_deg": ("chance: a uniformly random direction", DEGREES),
    "chance.always_front_deg": ("chance: always the front", DEGREES),
    "chance.best_for_all_deg": ("chance: the best constant direction", DEGREES),
    "chance.best_for_all_yaw_deg": ("yaw of the best constant direction", DEGREES),
    "chance.right_words_deg": ("least possible error with the eight direction words", DEGREES),
    "chance.most_frequent_sector": ("chance: always the most frequent sector", SHARE),
    "within_5_deg": ("within 5°, of all answers", SHARE),
    "within_10_deg": ("within 10°, of all answers", SHARE),
    "within_20_deg": ("within 20°, of all answers", SHARE),
    "mean_yaw_error_deg": ("mean yaw error from the centre of the target", DEGREES),
    "every_order_right": ("correct under every order of the options", SHARE),
    "mean_of_categories": ("mean over categories", SHARE),
    "contains_accuracy": ("accuracy, reference contained in the answer", SHARE),
    "accuracy": ("accuracy, fully correct answers", SHARE),
    "map.f1": ("maps: F1", SHARE),
    "map.precision": ("maps: precision", SHARE),
    "map.recall": ("maps: recall", SHARE),
    "map.mean_distance": ("maps: distance of matched objects, in cells", PLAIN),
    "map.chair_i": ("maps: CHAIR-i, hallucinated categories", SHARE),
    "map.chair_s": ("maps: CHAIR-s, maps with a hallucinated category", SHARE),
    "pitch_said": ("answers with a pitch", PLAIN),
    "maps_read": ("readable maps", PLAIN),
    "listings.count": ("listings", PLAIN),
    "listings.empty": ("listings: directions that hold nothing", SHARE),
    "listings.f1": ("listings: F1 of labels", PLAIN),
    "listings.occupied": ("listings: directions rightly said to hold something", SHARE),
    "listings.lines": ("listings: whole lines", SHARE),
    "listings.recall": ("listings: recall of labels", SHARE),
    "listings.precision": ("listings: precision of labels", SHARE),
}
"""What each metric is called, and its unit; of others the key is shown."""
GROUPS = {
    "accuracy_by_type": "accuracy, fully correct answers",
    "accuracy_by_group": "accuracy",
    "contains_accuracy_by_group": "accuracy, reference contained",
}
"""Metrics of which there is one for each group; all are shares."""


class _Metric(NamedTuple):
    """One metric: its key, its value (None if there is none), and what it rests on."""

    key: str
    value: float | None
    facts: Facts


def metric_rows(report: Facts) -> list[list[str]]:
    """Return a table's row for each further metric of a benchmark, beside the blind baseline."""
    blind: Facts = report["baselines"].get("blind", {}).get("extras", {})
    others = {each.key: each for each in _metrics(blind) if not each.key.startswith("chance")}
    return [_row(each, others.get(each.key)) for each in _metrics(report["extras"])]


def directions_answered(extras: Facts) -> list[Bar]:
    """Return the shares of the directions answered; empty if answers are none."""
    counts: Mapping[str, int] = extras.get("said", {})
    total = sum(counts.values())
    return [Bar(word, counts.get(word, 0) / total) for word in DIRECTIONS] if counts else []


def _metrics(extras: Facts, prefix: str = "") -> Iterator[_Metric]:
    for name, value in extras.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and "mean" in value:
            yield _Metric(key, value["mean"], value)
        elif isinstance(value, Mapping) and key != "said":
            yield from _metrics(value, f"{key}.")
        elif value is None or isinstance(value, int | float):
            yield _Metric(key, value, {})


def _row(each: _Metric, other: _Metric | None) -> list[str]:
    words, unit = _words(each.key)
    count = each.facts.get("count", NOT_MEASURED)
    return [
        words,
        _text(unit, each.value),
        unit.limits_text(limits_of(each.facts.get("interval", each.facts))),
        _text(unit, other.value) if other else NOT_MEASURED,
        str(each.facts.get("scored", count)),
        str(count),
    ]


def _words(key: str) -> tuple[str, Unit]:
    group, _, name = key.partition(".")
    if group in GROUPS:
        return f"{GROUPS[group]}: {name}", SHARE
    return WORDS.get(key, (key.replace("_", " "), PLAIN))


def _text(unit: Unit, value: float | None) -> str:
    if value is None:
        return "no score"
    return f"{value:,}" if isinstance(value, int) else unit.score_text(value)
