"""Scores of a report as bars of a chart and as rows of a table."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from panovlm.evaluation.pages.charts import Bar
from panovlm.geometry.sphere import DIRECTIONS
from panovlm.metrics.units import NOT_MEASURED, Unit

Facts = Mapping[str, Any]


def limits_of(interval: Facts | None) -> tuple[float, float] | None:
    """Return the ends of an interval in a report; None where there is none."""
    if interval is None or interval.get("low") is None:
        return None
    return interval["low"], interval["high"]


def bar_of(label: str, score: Facts, other: float | None = None, *, is_total: bool = False) -> Bar:
    """Return the bar of a summary in a report, or of an interval: those have all their scores."""
    limits = limits_of(score.get("interval", score))
    scored = score.get("scored", score["count"])
    return Bar(label, score["mean"], other, score["count"], is_total, limits, scored)


def bars_of(groups: Mapping[str, Facts], others: Mapping[str, Facts] | None = None) -> list[Bar]:
    """Return the bars of groups, each with the score of the blind baseline where there is one."""
    blind = {name: score["mean"] for name, score in (others or {}).items()}
    return [bar_of(name, score, blind.get(name)) for name, score in groups.items()]


def sectors_of(scores: Mapping[str, Facts]) -> list[Bar]:
    """Return the bars of scores by direction, from the front on to the right."""
    found = {bar.label: bar for bar in bars_of(scores)}
    return [found.get(word, Bar(word, None)) for word in DIRECTIONS]


def row(unit: Unit, bar: Bar) -> list[str]:
    """Return a bar's label, value, interval, blind baseline, and how many were scored and asked."""
    return [
        bar.label,
        unit.score_text(bar.value),
        unit.limits_text(bar.interval),
        unit.score_text(bar.other),
        *(NOT_MEASURED if count is None else f"{count:,}" for count in (bar.scored, bar.count)),
    ]


class Metric(NamedTuple):
    """A benchmark's own metric: its key, its value (None if there is none), what it rests on."""

    key: str
    value: float | None
    facts: Facts


def metrics_of(extras: Facts, prefix: str = "") -> Iterator[Metric]:
    """Yield what a report has under `extras`, but for what was said how often."""
    for name, value in extras.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and "mean" in value:
            yield Metric(key, value["mean"], value)
        elif isinstance(value, Mapping) and key != "said":
            yield from metrics_of(value, f"{key}.")
        elif value is None or isinstance(value, int | float):
            yield Metric(key, value, {})


def duration(seconds: float) -> str:
    """Return a time as a person says it, in its two largest units."""
    whole = round(seconds)
    if whole >= 3600:
        minutes = round(seconds / 60)
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{seconds:.3g} s"


IN_PAGES = (bar_of, bars_of, duration, limits_of, metrics_of, row, sectors_of)
"""What templates call, by these names."""
