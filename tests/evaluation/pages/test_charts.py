"""Claims about charts: they are whole SVG, and marks lie where the numbers say."""

from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from panovlm.evaluation.pages.charts import (
    Band,
    Bar,
    bar_chart,
    legend,
    line_chart,
    small_line_chart,
    ticks,
)
from panovlm.evaluation.units import SHARE


def of_class(svg: str, name: str) -> list[Element]:
    return [e for e in ElementTree.fromstring(svg).iter() if name in e.get("class", "").split()]


def texts(svg: str) -> list[str]:
    return [e.text or "" for e in ElementTree.fromstring(svg).iter("text")]


def polyline(svg: str, name: str = "curve") -> list[tuple[float, float]]:
    [line] = of_class(svg, name)
    pairs = (pair.split(",") for pair in line.get("points", "").split())
    return [(float(x), float(y)) for x, y in pairs]


def test_bars_are_as_long_as_their_shares() -> None:
    svg = bar_chart([Bar("a", 0.4), Bar("b", 0.8)], "shares", "blind")
    short, long = (float(bar.get("width", "")) for bar in of_class(svg, "ours"))
    assert long == pytest.approx(2 * short, abs=0.1)
    assert {"40.0 %", "80.0 %"} <= set(texts(svg))


def test_the_bar_compared_with_starts_at_the_same_place() -> None:
    svg = bar_chart([Bar("a", 0.5, 0.5)], "shares", "blind")
    [ours], [other] = of_class(svg, "ours"), of_class(svg, "other")
    assert (ours.get("x"), ours.get("width")) == (other.get("x"), other.get("width"))
    assert float(other.get("y", "")) > float(ours.get("y", ""))


def test_what_is_not_there_to_compare_with_is_not_drawn() -> None:
    svg = bar_chart([Bar("a", 0.5)], "shares", "blind")
    assert of_class(svg, "other") == []
    assert not [text for text in texts(svg) if text.startswith("n = ")]


def test_counts_are_said() -> None:
    assert "n = 1,234" in texts(bar_chart([Bar("a", 0.5, count=1234)], "shares", "blind"))


def test_labels_and_titles_are_escaped() -> None:
    svg = bar_chart([Bar("<b>&", 0.5, 0.1)], '"<title>"', "<i>")
    assert "<b>&" in texts(svg)
    assert ElementTree.fromstring(svg).get("aria-label") == '"<title>"'
    assert "&lt;i" in legend([("ours", "<i")])


def test_a_curve_runs_from_left_to_right_and_falls_as_its_values_do() -> None:
    points = polyline(line_chart([(0, 10.0), (5, 5.0), (10, 0.0)], "loss"))
    xs, ys = zip(*points, strict=True)
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2) and xs[0] < xs[1]
    assert ys[1] - ys[0] == pytest.approx(ys[2] - ys[1], abs=0.2) and ys[0] < ys[1]


def test_a_band_lies_at_its_range_and_at_its_end_of_the_curve() -> None:
    bands = [Band(8, 12, "start 8–12", at_end=False), Band(2, 4, "end 2–4", at_end=True)]
    svg = line_chart([(0, 12.0), (100, 4.0)], "loss", bands)
    start, end = of_class(svg, "band")
    (left, y_12), (right, y_4) = polyline(svg)
    assert float(start.get("x", "")) == left and float(start.get("y", "")) == y_12
    assert float(end.get("x", "")) + float(end.get("width", "")) == pytest.approx(right, abs=0.2)
    assert float(end.get("y", "")) == y_4
    assert {"start 8–12", "end 2–4"} <= set(texts(svg))


def test_a_curve_below_its_bands_stays_inside_the_chart() -> None:
    bands = [Band(50, 100, "start", at_end=False)]
    svg = line_chart([(0, 3.0), (1, 2.0)], "loss", bands)
    height = float(ElementTree.fromstring(svg).get("viewBox", "").split()[-1])
    edges = [float(e.get("y", "")) for e in of_class(svg, "band")] + [y for _, y in polyline(svg)]
    assert all(0 <= edge <= height for edge in edges)


def test_values_that_are_not_finite_are_left_out() -> None:
    nan, infinite = float("nan"), float("inf")
    assert len(polyline(line_chart([(0, 1.0), (1, nan), (2, infinite), (3, 2.0)], "loss"))) == 2
    assert line_chart([(0, nan)], "loss") == line_chart([], "loss") == ""


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_a_single_point_is_a_dot(value: float) -> None:
    assert len(of_class(line_chart([(10, value)], "loss"), "dot")) == 1


def test_many_points_are_thinned_but_keep_both_ends_and_get_a_running_mean() -> None:
    points = [(float(i), float(i % 2)) for i in range(10_000)]
    svg = line_chart(points, "loss")
    raw, mean = polyline(svg, "raw"), polyline(svg)
    assert len(raw) <= 601
    assert (raw[0][0], raw[-1][0]) == (mean[0][0], mean[-1][0])
    ys = [y for _, y in mean]
    assert max(ys) - min(ys) < 1.0 < max(y for _, y in raw) - min(y for _, y in raw)


def test_a_small_chart_is_a_third_as_wide() -> None:
    points = [(0, 1.0), (1, 2.0)]
    small, large = (
        float(ElementTree.fromstring(draw(points, "x")).get("viewBox", "").split()[2])
        for draw in (small_line_chart, line_chart)
    )
    assert 3 * small <= large


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0, 100, 5, [0, 20, 40, 60, 80, 100]),
        (0, 12, 5, [0, 2.5, 5, 7.5, 10, 12.5]),
        (0, 0.9, 3, [0, 0.5, 1]),
        (-1, 1, 2, [-1, 0, 1]),
        (0, 1e-6, 1, [0, 1e-6]),
    ],
)
def test_ticks_are_round_and_span_the_range(
    low: float, high: float, most: int, expected: list[float]
) -> None:
    assert ticks(low, high, most) == pytest.approx(expected)


def test_a_share_of_all_is_a_hundred_percent() -> None:
    assert SHARE.say(1.0) == "100.0 %"
