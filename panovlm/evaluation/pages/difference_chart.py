"""Differences with their intervals beside zero, as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

from panovlm.evaluation.pages.charts import WIDTH, label_width, shortened, ticks
from panovlm.evaluation.pages.svg import circle, line, svg, text
from panovlm.evaluation.units import SHARE, Unit

_ROW, _RIGHT = 34, 80


@dataclass(frozen=True)
class Difference:
    """One row.

    Attributes:
        label: What differs.
        value: Difference of two scores.
        low: Lower end of its interval.
        high: Upper end.
        less_is_better: Whether the scores are errors.
    """

    label: str
    value: float
    low: float
    high: float
    less_is_better: bool = False

    @property
    def tone(self) -> str:
        """Class of its colour: better, worse, or not clear where the interval holds 0."""
        if self.low <= 0 <= self.high:
            return "unclear"
        return "gain" if (self.low > 0) != self.less_is_better else "loss"


def difference_chart(differences: Sequence[Difference], title: str, unit: Unit = SHARE) -> str:
    """Draw a dot with its interval for each difference, over a scale around 0.

    Args:
        differences: At least one.
        title: Read out by screen readers.
        unit: Of the scores.
    """
    ends = [unit.factor * end for d in differences for end in (d.low, d.high)]
    least = 10.0**-unit.decimals * 10
    scale = ticks(min(0.0, *ends), max(0.0, *ends, least), 6)
    left = label_width([each.label for each in differences])
    height = len(differences) * _ROW + 30

    def x(step: float) -> float:
        return left + (step - scale[0]) / (scale[-1] - scale[0]) * (WIDTH - _RIGHT - left)

    parts = []
    for tick in scale:
        parts += [
            line(x(tick), 4, x(tick), height - 24, "zero" if tick == 0 else "grid"),
            text(x(tick), height - 8, f"{tick:+g}" if tick else "0", "tick middle"),
        ]
    for row, each in enumerate(differences):
        y, high = 4 + row * _ROW + _ROW / 2, x(unit.factor * each.high)
        parts += [
            text(left - 12, y + 4, shortened(each.label), "label end"),
            line(x(unit.factor * each.low), y, high, y, f"reach {each.tone}"),
            circle(x(unit.factor * each.value), y, 5, f"mark {each.tone}"),
            text(high + 10, y + 4, unit.signed(each.value), "value"),
        ]
    return svg(WIDTH, height, title, parts)
