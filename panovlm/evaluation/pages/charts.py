"""Charts as strings of SVG, without a library.

Pure functions: data in, markup out. Colours are classes (`ours`, `other`, `band`, `grid` ...) that
the page's style sheet defines, so a chart follows the page from light to dark. All text is escaped.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate

from panovlm.evaluation.pages.svg import circle, line, rect, svg, text
from panovlm.evaluation.units import SHARE, Unit

Point = tuple[float, float]

WIDTH = 760
LINE_HEIGHT = 270
SMALL_SIZE = (240, 150)
_ROW, _LABEL_WIDTH, _VALUE_WIDTH = 40, 150, 64
_LETTER_WIDTH, _MAX_LETTERS = 7.0, 36
"""Of a row's label, in pixels; longer ones are shortened."""
_MARGINS = (52, 14, 14, 30)
"""Left, right, top and bottom of a line chart, in its own pixels."""
_SMALL_MARGINS = (38, 6, 8, 22)
_MAX_POINTS = 600
_SMOOTHING = 25
"""A running mean spans this part of the points."""
_BAND_SHARE = 0.2


@dataclass(frozen=True)
class Bar:
    """One row of a bar chart.

    Attributes:
        label: What is measured.
        value: Score; None if nothing could be scored, which is said in place of a bar.
        other: Score to compare with; None leaves its bar out.
        count: Number of things that were asked; None leaves it out.
        is_total: Whether it sums up the other rows.
        interval: Low and high end of the value's interval; None draws none.
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
    def reach(self) -> float:
        """The highest score that is drawn."""
        ends = self.interval or ()
        return max(
            (each for each in (self.value, self.other, *ends) if each is not None), default=0
        )


@dataclass(frozen=True)
class Band:
    """A range of y expected at the start or at the end of a curve.

    Attributes:
        low: Lower limit.
        high: Upper limit.
        label: Said beside it.
        at_end: Whether it lies at the end of the curve.
    """

    low: float
    high: float
    label: str
    at_end: bool


@dataclass(frozen=True)
class _Frame:
    """Where data lies on a chart: x in [x_low, x_high], y in [y_low, y_high] inside the margins."""

    width: float
    height: float
    margins: tuple[int, int, int, int]
    x_range: Point
    y_range: Point

    @property
    def left(self) -> float:
        return self.margins[0]

    @property
    def right(self) -> float:
        return self.width - self.margins[1]

    @property
    def top(self) -> float:
        return self.margins[2]

    @property
    def bottom(self) -> float:
        return self.height - self.margins[3]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)


def bar_chart(bars: Sequence[Bar], title: str, other_name: str, unit: Unit = SHARE) -> str:
    """Draw scores as horizontal bars from 0 on, each above the one it is compared with.

    Args:
        bars: At least one.
        title: Read out by screen readers.
        other_name: What the `other` scores are of.
        unit: Of the scores.
    """
    height = len(bars) * _ROW + 24
    end = unit.axis_end(max(bar.reach for bar in bars))
    left, right = label_width([bar.label for bar in bars]), WIDTH - _VALUE_WIDTH
    parts = []
    for fourth in range(5):
        x = left + fourth / 4 * (right - left)
        parts += [
            line(x, 4, x, height - 20, "grid"),
            text(x, height - 5, unit.tick(fourth / 4 * end), "tick middle"),
        ]
    row = _Rows(left, (right - left) / end, other_name, unit)
    for place, bar in enumerate(bars):
        parts += row.of(bar, 4 + place * _ROW)
    return svg(WIDTH, height, title, parts)


@dataclass(frozen=True)
class _Rows:
    """The rows of a bar chart: where bars begin, pixels for 1, and what is said of them."""

    left: float
    scale: float
    other_name: str
    unit: Unit

    def of(self, bar: Bar, top: float) -> list[str]:
        weight = " strong" if bar.is_total else ""
        label = shortened(bar.label)
        parts = [text(self.left - 12, top + 17, label, f"label end{weight}")]
        if bar.value is None:
            parts.append(text(self.left + 8, top + 18, "nothing could be scored", "note"))
        else:
            parts += self._value(bar, bar.value, top, weight)
        if bar.count is not None:
            parts.append(text(self.left - 12, top + 31, f"n = {_count(bar)}", "tick end"))
        if bar.other is not None:
            tip = f"{bar.label}, {self.other_name}: {self.unit.say(bar.other)}"
            parts.append(rect(self.left, top + 22, bar.other * self.scale, 6, "other", tip))
        return parts

    def _value(self, bar: Bar, value: float, top: float, weight: str) -> list[str]:
        said, scale = self.unit.say(value), self.scale
        end = max(value, bar.interval[1]) if bar.interval else value
        parts = [
            rect(self.left, top + 7, value * scale, 13, "ours", f"{bar.label}: {said}"),
            text(self.left + end * scale + 8, top + 18, said, f"value{weight}"),
        ]
        if bar.interval is not None:
            parts += _whisker(self.left, scale, top + 13.5, bar.interval)
        return parts


def _count(bar: Bar) -> str:
    if bar.scored is None or bar.scored == bar.count:
        return f"{bar.count:,}"
    return f"{bar.scored:,} of {bar.count:,}"


def label_width(labels: Iterable[str]) -> float:
    """Give how many pixels of a chart the labels of its rows take."""
    longest = max(len(shortened(label)) for label in labels)
    return max(_LABEL_WIDTH, longest * _LETTER_WIDTH + 20)


def shortened(label: str) -> str:
    """Give a label with its middle left out if it is too long for a chart."""
    if len(label) <= _MAX_LETTERS:
        return label
    kept = _MAX_LETTERS // 2
    return f"{label[: kept - 1].rstrip()} … {label[1 - kept :].lstrip()}"


def _whisker(left: float, width: float, y: float, interval: Sequence[float]) -> list[str]:
    low, high = (left + end * width for end in interval)
    ends = [line(x, y - 4, x, y + 4, "whisker") for x in (low, high)]
    return [line(low, y, high, y, "whisker"), *ends]


def line_chart(points: Sequence[Point], title: str, bands: Sequence[Band] = ()) -> str:
    """Draw a curve over steps, with its running mean if it has many points.

    Args:
        points: (step, value) by increasing step; those that are not finite are left out.
        title: Read out by screen readers.
        bands: Ranges of the value to shade.

    Returns:
        An SVG element, or an empty string if no point is left.
    """
    return _curve(points, title, bands, (WIDTH, LINE_HEIGHT), _MARGINS)


def small_line_chart(points: Sequence[Point], title: str) -> str:
    """Draw a curve as `line_chart` does, small enough for three beside each other."""
    return _curve(points, title, (), SMALL_SIZE, _SMALL_MARGINS)


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """Give the list of (class, meaning) that goes with a chart, as HTML."""
    items = "".join(f'<li><i class="{name}"></i>{escape(text)}</li>' for name, text in entries)
    return f'<ul class="legend">{items}</ul>'


def ticks(low: float, high: float, most: int) -> list[float]:
    """Give at most `most` + 1 round numbers that span [low, high] at equal distances.

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


def _curve(
    points: Sequence[Point],
    title: str,
    bands: Sequence[Band],
    size: tuple[int, int],
    margins: tuple[int, int, int, int],
) -> str:
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not finite:
        return ""
    values = [y for _, y in finite] + [edge for band in bands for edge in (band.low, band.high)]
    low, high = min(0.0, *values), max(values)
    y_ticks = ticks(low, high if high > low else low + 1.0, 5 if size[0] == WIDTH else 3)
    steps = (finite[0][0], max(finite[-1][0], finite[0][0] + 1))
    frame = _Frame(*size, margins, steps, (y_ticks[0], y_ticks[-1]))
    parts = _axes(frame, y_ticks)
    for band in bands:
        parts += _band(frame, band)
    parts += _lines(frame, finite)
    return svg(*size, title, parts)


def _axes(frame: _Frame, y_ticks: Sequence[float]) -> list[str]:
    parts = []
    for value in y_ticks:
        y = frame.y(value)
        parts += [
            line(frame.left, y, frame.right, y, "grid"),
            text(frame.left - 7, y + 4, f"{value:g}", "tick end"),
        ]
    below = frame.height - 6
    first, last = (f"{value:,g}" for value in frame.x_range)
    parts.append(text(frame.left, below, f"step {first}", "tick"))
    parts.append(text(frame.right, below, last, "tick end"))
    return parts


def _band(frame: _Frame, band: Band) -> list[str]:
    width = _BAND_SHARE * (frame.right - frame.left)
    left = frame.right - width if band.at_end else frame.left
    top, bottom = frame.y(band.high), frame.y(band.low)
    anchor = (frame.right - 6, "note end") if band.at_end else (frame.left + 6, "note")
    has_room_above = top - 5 > frame.top + 8
    return [
        rect(left, top, width, bottom - top, "band", band.label),
        text(anchor[0], top - 5 if has_room_above else top + 15, band.label, anchor[1]),
    ]


def _lines(frame: _Frame, points: Sequence[Point]) -> list[str]:
    if len(points) == 1:
        x, y = points[0]
        return [circle(frame.x(x), frame.y(y), 3, "dot")]
    window = len(points) // _SMOOTHING
    if window < 2:
        return [_polyline(frame, points, "curve")]
    smooth = _running_mean([y for _, y in points], window)
    smoothed = [(x, y) for (x, _), y in zip(points, smooth, strict=True)]
    return [_polyline(frame, points, "raw"), _polyline(frame, smoothed, "curve")]


def _running_mean(values: Sequence[float], window: int) -> list[float]:
    """Average each value with up to `window` neighbours on either side."""
    sums = [0.0, *accumulate(values)]
    spans = [(max(i - window, 0), min(i + window + 1, len(values))) for i in range(len(values))]
    return [(sums[stop] - sums[start]) / (stop - start) for start, stop in spans]


def _polyline(frame: _Frame, points: Sequence[Point], name: str) -> str:
    stride = -(-len(points) // _MAX_POINTS)
    kept = [*points[:-1:stride], points[-1]]
    path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in kept)
    return f'<polyline class="{name}" points="{path}"/>'
