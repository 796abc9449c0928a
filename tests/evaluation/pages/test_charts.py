"""Claims about charts: marks lie where the numbers say, words are said and escaped."""

import math
from collections.abc import Sequence

import pytest
from reading_pages import Page, part, percent

from panovlm.evaluation.pages.charts import Band, Bar, Curve, petal, radius, ticks
from panovlm.metrics.units import DEGREES, SHARE, Unit


def bar_chart(*bars: Bar, title: str = "shares", unit: Unit = SHARE) -> Page:
    return part("charts.html.jinja", "bar_chart", title, bars, unit)


def difference_chart(*bars: Bar, less_is_better: bool = False) -> Page:
    return part("charts.html.jinja", "difference_chart", "gain", bars, SHARE, less_is_better)


def rose(*bars: Bar, most: float = 1.0) -> Page:
    return part("charts.html.jinja", "rose", "directions", bars, SHARE, most)


def line_chart(curve: Curve) -> Page:
    return part("charts.html.jinja", "line_chart", "loss", curve)


def polyline(page: Page, name: str = "curve") -> list[tuple[float, float]]:
    [line] = page.of_class(name)
    pairs = (pair.split(",") for pair in (line["points"] or "").split())
    return [(float(x), float(y)) for x, y in pairs]


def test_bars_are_as_long_as_their_shares() -> None:
    chart = bar_chart(Bar("a", 0.4), Bar("b", 0.8))
    assert [percent(bar, "width") for bar in chart.of_class("ours")] == [40.0, 80.0]
    assert "40.0 %" in chart.text and "80.0 %" in chart.text


def test_the_bar_of_the_blind_baseline_starts_at_the_same_place() -> None:
    chart = bar_chart(Bar("a", 0.5, 0.5))
    [ours], [other] = chart.of_class("ours"), chart.of_class("other")
    assert ours["style"] == other["style"] == "width:50.0%"


def test_an_interval_lies_at_its_ends() -> None:
    [whisker] = bar_chart(Bar("a", 0.5, interval=(0.25, 0.75))).of_class("whisker")
    assert (percent(whisker, "left"), percent(whisker, "width")) == (25.0, 50.0)


def test_what_is_not_there_to_compare_with_is_not_drawn() -> None:
    chart = bar_chart(Bar("a", 0.5))
    assert chart.of_class("other") == chart.of_class("whisker") == []
    assert "n = " not in chart.text


def test_counts_are_said() -> None:
    assert "n = 1,234" in bar_chart(Bar("a", 0.5, count=1234)).text
    assert "n = 5 of 1,234" in bar_chart(Bar("a", 0.5, count=1234, scored=5)).text


def test_a_bar_without_a_score_says_so() -> None:
    chart = bar_chart(Bar("a", None, count=3, scored=0), Bar("b", 30.0), unit=DEGREES)
    assert "nothing was scored" in chart.text
    assert [percent(bar, "width") for bar in chart.of_class("ours")] == [75.0]  # of 40°


def test_labels_and_titles_are_escaped() -> None:
    chart = bar_chart(Bar("<b>&", 0.5, 0.1), title='"<title>"')
    assert "<b>&" in chart.text and chart.charts == ['"<title>"']
    entries = part("charts.html.jinja", "legend", [("ours", "<i")])
    assert entries.text == "<i"


@pytest.mark.parametrize(
    ("ends", "less_is_better", "tone"),
    [
        ((0.1, 0.3), False, "gain"),
        ((0.1, 0.3), True, "loss"),
        ((-0.3, -0.1), False, "loss"),
        ((-0.1, 0.3), False, "unclear"),
    ],
)
def test_a_difference_is_clear_only_where_its_interval_leaves_out_zero(
    ends: Sequence[float], less_is_better: bool, tone: str
) -> None:
    bar = Bar("a", sum(ends) / 2, interval=ends)
    chart = difference_chart(bar, less_is_better=less_is_better)
    [mark], [zero] = chart.of_class("mark", tone), chart.of_class("zero")
    assert (percent(mark, "left") > percent(zero, "left")) == (sum(ends) > 0)


def test_petals_lie_at_their_angles_and_are_as_long_as_their_shares() -> None:
    chart = rose(Bar("front", 0.25, interval=(0.2, 0.3)), Bar("left", 0.5), Bar("back", None))
    assert [attrs["d"] for attrs in chart.of_class("ours")] == [petal(25.0, 3), petal(50.0, 3)]
    turns = [attrs["transform"] for tag, attrs in chart.tags if tag == "g"]
    assert turns == ["rotate(0.0)", "rotate(270.0)", "rotate(180.0)"]
    [whisker] = chart.of_class("whisker")
    assert (whisker["y1"], whisker["y2"]) == ("-20.0", "-30.0")
    assert "front: 25.0 %" in chart.text


def test_a_petal_ends_at_its_radius() -> None:
    x, y = (float(end) for end in petal(80.0, 8).split("L")[1].split(" A")[0].split(","))
    assert math.hypot(x, y) == pytest.approx(80, abs=0.01) and x < 0 and y < 0
    assert radius(0.3, 0.6) == 50.0 and radius(2.0, 1.0) == 100.0


def test_a_curve_runs_from_left_to_right_and_falls_as_its_values_do() -> None:
    chart = line_chart(Curve([(0, 10.0), (5, 5.0), (10, 0.0)]))
    assert polyline(chart) == [(0.0, 0.0), (50.0, 50.0), (100.0, 100.0)]
    assert "step 0" in chart.text


def test_a_band_lies_at_its_range_and_at_its_end_of_the_curve() -> None:
    curve = Curve([(0, 12.0), (100, 4.0)], [Band(8, 12, False), Band(2, 4, True)])
    chart = line_chart(curve)
    start, end = chart.of_class("band")
    assert (start["x"], float(start["y"] or "")) == ("0", curve.y(12))
    assert float(start["y"] or "") + float(start["height"] or "") == pytest.approx(curve.y(8))
    assert (end["x"], end["width"], float(end["y"] or "")) == ("80", "20", curve.y(4))
    assert "expected 8–12" in chart.text and "expected 2–4" in chart.text


def test_a_curve_below_its_bands_stays_inside_the_chart() -> None:
    chart = line_chart(Curve([(0, 3.0), (1, 2.0)], [Band(50, 100, False)]))
    edges = [float(band["y"] or "") for band in chart.of_class("band")]
    assert all(0 <= edge <= 100 for edge in [*edges, *(y for _, y in polyline(chart))])


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_a_single_point_is_a_dot(value: float) -> None:
    [dot] = line_chart(Curve([(10, value)])).of_class("dot")
    assert 0 <= percent(dot, "top") <= 100


def test_many_points_are_thinned_but_keep_both_ends_and_get_a_running_mean() -> None:
    chart = line_chart(Curve([(float(i), float(i % 2)) for i in range(10_000)]))
    raw, mean = polyline(chart, "raw"), polyline(chart)
    assert len(raw) <= 601
    assert (raw[0][0], raw[-1][0]) == (mean[0][0], mean[-1][0]) == (0.0, 100.0)
    ys = [y for _, y in mean]
    assert max(ys) - min(ys) < 1.0 < max(y for _, y in raw) - min(y for _, y in raw)


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
    assert SHARE.score_text(1.0) == "100.0 %"
