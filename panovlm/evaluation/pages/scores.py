"""What the pages on scores share: what a score is, and how it is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from panovlm.evaluation.pages.charts import Bar
from panovlm.evaluation.units import NOT_MEASURED, SHARE, Unit, is_clear

Facts = Mapping[str, Any]

INPUTS = {
    "blind": "no panorama (blind)",
    "single_view": "front view only",
    "low_resolution": "low-resolution panorama",
}
"""What the model sees in each baseline."""
MAX_KINDS = 20
"""Kinds in a chart."""


@dataclass(frozen=True)
class Measure:
    """What a page's scores are.

    Attributes:
        name: Heads sections, as in "Accuracy by kind".
        unit: Of the scores.
        less_is_better: Whether a score is an error.
    """

    name: str
    unit: Unit
    less_is_better: bool = False

    def result(self, total: Bar, metric: str = "") -> str:
        """Describe how good the answers are, with the interval and the number of questions.

        Args:
            total: Over all questions; something was scored.
            metric: What a score is, where the measure's name does not say it all.
        """
        limits = f" [{self.unit.limits_text(total.interval)}]" if total.interval else ""
        rule = f" ({metric})" if metric else ""
        value = self.unit.score_text(total.value)
        return f"{self.name} {value}{limits}{rule} on {total.count:,} questions"

    def against_blind(self, gain: Facts) -> str:
        """Compare with the blind baseline; clear is a difference whose interval leaves out 0.

        Args:
            gain: Mean of the paired differences, low and high, in any order.
        """
        better = -gain["mean"] if self.less_is_better else gain["mean"]
        limits = self.unit.reach_text(self._as_gain(gain))
        if not is_clear(gain):
            step = self.unit.step_text(better)
            few = "" if limits else ", too few panoramas for an interval"
            return f"not clearly different from the blind baseline ({step}{limits}{few})"
        size = self.unit.step_text(abs(better)).removeprefix("+")
        return f"{size}{limits} {'better' if better > 0 else 'worse'} than the blind baseline"

    def _as_gain(self, ends: Facts) -> Facts:
        """Return the ends of a difference so that more is better."""
        if ends["low"] is None or not self.less_is_better:
            return ends
        return {"low": -ends["high"], "high": -ends["low"]}


ACCURACY = Measure("Accuracy", SHARE)


def limits_of(interval: Facts | None) -> tuple[float, float] | None:
    """Return the ends of an interval in a report; None where there is none."""
    return None if not interval or interval["low"] is None else (interval["low"], interval["high"])


def row(unit: Unit, bar: Bar) -> list[str]:
    """Return a bar's label, value, interval, blind baseline, and how many were scored and asked."""
    return [
        bar.label,
        unit.score_text(bar.value),
        unit.limits_text(bar.interval),
        unit.score_text(bar.other),
        *(NOT_MEASURED if count is None else f"{count:,}" for count in (bar.scored, bar.count)),
    ]


def most_asked(kinds: Sequence[Bar]) -> list[Bar]:
    """Return the kinds with the most questions, as many as a chart holds, in their order."""
    largest = sorted(kinds, key=lambda bar: -(bar.count or 0))[:MAX_KINDS]
    return [bar for bar in kinds if bar in largest]


def duration(seconds: float) -> str:
    """Return a time as a person says it, in its two largest units."""
    whole = round(seconds)
    if whole >= 3600:
        minutes = round(seconds / 60)
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{seconds:.3g} s"
