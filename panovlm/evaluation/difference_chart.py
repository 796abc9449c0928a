"""Differences with their intervals beside zero, as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

from panovlm.evaluation.charts import WIDTH, ticks
from panovlm.evaluation.svg import circle, line, svg, text

_ROW, _LEFT, _RIGHT = 34, 150, 80


@dataclass(frozen=True)
class Difference:
    """One row.

    Attributes:
        label: What differs.
        value: Difference of two shares, in [-1, 1].
        low: Lower end of its interval.
        high: Upper end.
    """

    label: str
    value: float
    low: float
    high: float

    @property
    def tone(self) -> str:
        """Class of its colour: better, worse, or not clear where the interval holds 0."""
        return "gain" if self.low > 0 else "loss" if self.high < 0 else "unclear"


def difference_chart(differences: Sequence[Difference], title: str) -> str:
    """Draw a dot with its interval for each difference, over a scale of points.

    Args:
        differences: At least one.
        title: Read out by screen readers.
    """
    ends = [100 * end for d in differences for end in (d.low, d.high)]
    scale = ticks(min(0.0, *ends), max(0.0, *ends, 1.0), 6)
    height = len(differences) * _ROW + 30

    def x(points: float) -> float:
        return _LEFT + (points - scale[0]) / (scale[-1] - scale[0]) * (WIDTH - _RIGHT - _LEFT)

    parts = []
    for tick in scale:
        parts += [
            line(x(tick), 4, x(tick), height - 24, "zero" if tick == 0 else "grid"),
            text(x(tick), height - 8, f"{tick:+g}" if tick else "0", "tick middle"),
        ]
    for row, each in enumerate(differences):
        y, high = 4 + row * _ROW + _ROW / 2, x(100 * each.high)
        parts += [
            text(_LEFT - 12, y + 4, each.label, "label end"),
            line(x(100 * each.low), y, high, y, f"reach {each.tone}"),
            circle(x(100 * each.value), y, 5, f"mark {each.tone}"),
            text(high + 10, y + 4, f"{100 * each.value:+.1f}", "value"),
        ]
    return svg(WIDTH, height, title, parts)
