"""Scores as pages say them: what a score is, its bar, and its words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from panovlm.evaluation.benchmarks.names import RECORDS_NAME
from panovlm.evaluation.pages.charts import Bar
from panovlm.evaluation.units import NOT_MEASURED, UNITS, Unit, is_clear
from panovlm.metrics.scores import Missing

Facts = Mapping[str, Any]

INPUTS = {
    "blind": "no panorama (blind)",
    "single_view": "front view only",
    "low_resolution": "low-resolution panorama",
}
"""What the model sees in each baseline."""
REASONS = {
    Missing.UNREADABLE: "unreadable (counted as wrong)",
    Missing.NO_REFERENCE: "without a reference answer",
    Missing.NOT_JUDGED: "not judged",
    Missing.WITHOUT_WEIGHT: "whose references hold no word that weighs",
}
"""Why answers have no score, in a few words."""
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
    less_is_better: bool

    @classmethod
    def of(cls, report: Facts) -> "Measure":
        """Return what the scores of a report are."""
        is_error = report["less_is_better"]
        name = "Accuracy" if report["benchmark"] == RECORDS_NAME else "Score"
        return cls("Mean error" if is_error else name, UNITS[report["unit"]], is_error)

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


def verdict(report: Facts) -> str:
    """Describe in one sentence how good the answers are, and against the blind baseline."""
    measure, score = Measure.of(report), report["score"]
    rest = f"; {unscored(score)}" if score["missing"] else ""
    if score["mean"] is None:
        return f"Nothing could be scored: of {score['count']:,} answers, {unscored(score)}."
    limits = limits_of(score["interval"])
    said = f"{measure.name} {measure.unit.score_text(score['mean'])}"
    said += f" [{measure.unit.limits_text(limits)}]" if limits else ""
    said += "" if measure.name == "Accuracy" else f" ({report['metric']})"
    said += f" on {score['count']:,} questions"
    if "blind" in report["baselines"]:
        gain = report["better_than"]["blind"]
        beside = "not comparable with the blind baseline, as no question has a score in both"
        said += f", {measure.against_blind(gain) if gain else beside}"
    return f"{said}{rest}."


def unscored(score: Facts) -> str:
    """Describe how many answers have no score, and why; empty if all have one."""
    return ", ".join(
        f"{count:,} {REASONS[Missing(reason)]}" for reason, count in score["missing"].items()
    )


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
