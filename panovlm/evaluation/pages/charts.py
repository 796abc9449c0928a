"""What charts show and where it lies; `charts.html.jinja` draws them.

Places are percentages of a chart, and words are HTML that is never scaled, so that charts can be
read on any width. Colours are classes of the style sheet, light and dark.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from panovlm.geometry.sphere import DIRECTIONS
from panovlm.metrics.units import Unit

Point = tuple[float, float]

_MAX_POINTS = 600
_SMOOTHING = 25
"""A running mean spans this part of the points."""
_GAP_DEG = 3.0
"""Between a petal of a rose and the border of its sector."""


@dataclass(frozen=True)
class Bar:
    """A score: one row of a chart or of a table, or one petal of a rose.

    Attributes:
        label: What is measured.
        value: Score; None if nothing could be scored.
        other: Score of the blind baseline; None leaves it out.
        count: Number of questions; None leaves it out.
        is_total: Whether it sums up the other rows.
        interval: Low and high end of the value's interval; None leaves it out.
        scored: How many of `count` could be scored; None where all can.
    """

    label: str
    value: float | None
    other: float | None = None
    count: int | None = None
    is_total: bool = False
    interval: Sequence[float] | None = None
    scored: int | None = None

    @property
    def end(self) -> float:
        """Where the score and its interval end."""
        return max(self.value or 0.0, *(self.interval or (0.0,)))

    @property
    def size(self) -> str:
        """The number of questions, as "29 of 32" where some could not be scored."""
        scored = "" if self.scored in (None, self.count) else f"{self.scored:,} of "
        return f"{scored}{self.count:,}"


class Axis(NamedTuple):
    """A horizontal axis.

    Attributes:
        steps: Scores at equal distances, ascending; the first and the last are its ends.
        labels: Of the steps.
    """

    steps: list[float]
    labels: list[str]

    def percent(self, score: float) -> float:
        """Return where a score lies."""
        low, high = self.steps[0], self.steps[-1]
        return round(100 * (score - low) / (high - low), 2)


def bar_axis(bars: Sequence[Bar], unit: Unit) -> Axis:
    """Return an axis from 0 to a round score that holds all bars."""
    end = unit.axis_end(max(max(bar.end, bar.other or 0.0) for bar in bars))
    steps = [end * fourth / 4 for fourth in range(5)]
    return Axis(steps, [unit.tick(step) for step in steps])


def difference_axis(bars: Sequence[Bar], unit: Unit) -> Axis:
    """Return an axis with 0 that spans all intervals, and at least a few digits of the unit."""
    ends = [unit.factor * end for bar in bars for end in bar.interval or ()]
    least = 10.0 ** (1 - unit.decimals)
    scale = ticks(min(0.0, *ends), max(0.0, *ends, least), 6)
    labels = [f"{tick:+g}" if tick else "0" for tick in scale]
    return Axis([tick / unit.factor for tick in scale], labels)


def angle_deg(label: str) -> float:
    """Return the direction that a label names, clockwise from the front: "left", "+45°"."""
    return 45.0 * DIRECTIONS.index(label) if label in DIRECTIONS else float(label.rstrip("°"))


def radius(score: float, most: float) -> float:
    """Return how far out a score lies on a rose whose outermost ring, at 100, is `most`."""
    return round(100 * min(score / most, 1.0), 2)


def petal(radius: float, count: int) -> str:
    """Return the path of one of `count` petals of a rose, pointing up from its centre."""
    half = 180 / count - _GAP_DEG
    x, y = (radius * part(math.radians(half)) for part in (math.sin, math.cos))
    is_wide = int(half > 90)
    return f"M0,0 L{-x:.2f},{-y:.2f} A{radius},{radius} 0 {is_wide} 1 {x:.2f},{-y:.2f} Z"


def round_up(share: float) -> float:
    """Return the smallest of a few round shares that is not below."""
    return next(most for most in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0) if share <= most)


class Band(NamedTuple):
    """A range of values expected at the start or at the end of a curve."""

    low: float
    high: float
    at_end: bool


@dataclass(frozen=True)
class Curve:
    """Values over training steps, with their running mean if they are many.

    Attributes:
        points: (step, value) by increasing step; at least one, all finite.
        bands: Ranges of the value to shade.
        max_ticks: Steps of the vertical axis.
    """

    points: Sequence[Point]
    bands: Sequence[Band] = ()
    max_ticks: int = 5

    @cached_property
    def ticks(self) -> list[float]:
        """Round values that span the curve, its bands and 0."""
        values = [y for _, y in self.points] + [edge for band in self.bands for edge in band[:2]]
        low, high = min(0.0, *values), max(values)
        return ticks(low, high if high > low else low + 1.0, self.max_ticks)

    @property
    def last(self) -> float:
        """The last value."""
        return self.points[-1][1]

    @property
    def steps(self) -> Point:
        """The first and the last step."""
        return self.points[0][0], max(self.points[-1][0], self.points[0][0] + 1)

    def x(self, step: float) -> float:
        """Return where a step lies, in percent from the left."""
        first, last = self.steps
        return round(100 * (step - first) / (last - first), 2)

    def y(self, value: float) -> float:
        """Return where a value lies, in percent from the top."""
        low, high = self.ticks[0], self.ticks[-1]
        return round(100 * (high - value) / (high - low), 2)

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Class and points of each line: the values, and their mean if there are many."""
        window = len(self.points) // _SMOOTHING
        if window < 2:
            return [("curve", self._line(self.points))]
        smooth = zip((x for x, _ in self.points), _running_mean(self.points, window), strict=True)
        return [("raw", self._line(self.points)), ("curve", self._line([*smooth]))]

    def _line(self, points: Sequence[Point]) -> str:
        stride = -(-len(points) // _MAX_POINTS)
        kept = [*points[:-1:stride], points[-1]]
        return " ".join(f"{self.x(x)},{self.y(y)}" for x, y in kept)


def curve_of(
    log: Sequence[Mapping[str, Any]], key: str, bands: Sequence[Band] = (), max_ticks: int = 5
) -> Curve | None:
    """Return the curve of a value over the steps of a log; None where it has no finite one."""
    entries = [entry for entry in log if entry.get(key) is not None]
    points = [(float(entry["step"]), float(entry[key])) for entry in entries]
    finite = [point for point in points if all(map(math.isfinite, point))]
    return Curve(finite, bands, max_ticks) if finite else None


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return at most `most` + 1 round numbers that span [low, high] at equal distances.

    Args:
        low: Smallest value to show.
        high: Largest value to show, above `low`.
        most: Number of steps wanted, at least 1.
    """
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10, 20) if power * m >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _running_mean(points: Sequence[Point], window: int) -> list[float]:
    """Average each value with up to `window` neighbours on either side."""
    sums = np.cumsum([0.0, *(y for _, y in points)])
    places = np.arange(len(points))
    first, last = np.maximum(places - window, 0), np.minimum(places + window + 1, len(points))
    means: list[float] = ((sums[last] - sums[first]) / (last - first)).tolist()
    return means


IN_PAGES = (Band, Bar, angle_deg, bar_axis, curve_of, difference_axis, petal, radius, round_up)
"""What templates call, by these names."""
