"""Angles wrap, directions in words become yaws, and what is ambiguous is not read."""

import json
from pathlib import Path

import pytest

from panovlm.geometry.regions import Region
from panovlm.metrics.angles import (
    clock_hour,
    great_circle_error_deg,
    sector,
    sectors_apart,
    yaw_error_deg,
    yaw_of_clock_deg,
)
from panovlm.metrics.directions import (
    direction_error_deg,
    direction_in_sector,
    parse_direction,
    parse_pitch,
)
from panovlm.metrics.fields_of_view import (
    field_of_view_interval_iou,
    field_of_view_iou,
    parse_field_of_view,
)
from panovlm.metrics.scores import UNREADABLE
from panovlm.metrics.strata import pole_stratum, seam_distance_deg, seam_stratum


def test_errors_go_the_short_way_around() -> None:
    assert yaw_error_deg(179.0, -179.0) == pytest.approx(2.0)
    assert yaw_error_deg(-720.0, 180.0) == pytest.approx(180.0)
    assert great_circle_error_deg(170.0, 0.0, -170.0, 0.0) == pytest.approx(20.0)
    assert great_circle_error_deg(0.0, 80.0, 180.0, 80.0) == pytest.approx(20.0)
    assert great_circle_error_deg(12.0, 90.0, -100.0, 90.0) == pytest.approx(0.0, abs=1e-9)


def test_sectors_and_hours_are_centred_on_the_front() -> None:
    assert [sector(yaw) for yaw in (-22.4, 22.6, 180.0, -180.0, -90.0)] == [
        "front",
        "front-right",
        "back",
        "back",
        "left",
    ]
    assert sectors_apart(-170.0, 135.0) == 1
    assert sectors_apart(0.0, 180.0) == 4
    assert [clock_hour(yaw) for yaw in (0.0, 89.0, 180.0, -30.0, -16.0)] == [12, 3, 6, 11, 11]
    assert [yaw_of_clock_deg(hour) for hour in (12, 3, 6, 9)] == [0.0, 90.0, 180.0, -90.0]


@pytest.mark.parametrize(
    ("answer", "yaw_deg"),
    [
        ("about 45 degrees to the left", -45.0),
        ("Turn right by about 30°.", 30.0),
        ("200 degrees to the right", -160.0),
        ("90 degrees counterclockwise", -90.0),
        ("at 3 o'clock", 90.0),
        ("Nine o’clock", -90.0),
        ("6 o'clock", 180.0),
        ("behind (yaw -166.1 degrees)", -166.1),
        ("yaw: -180", 180.0),
        ("−45 degrees", -45.0),
        ("180°", 180.0),
        ("behind me", 180.0),
        ("Left.", -90.0),
        ("Back Right", 135.0),
        ("front-left", -45.0),
        ("It is behind you and to your left", -135.0),
        ("in front of me, on the right", 45.0),
        ("straight ahead", 0.0),
        ("to starboard", 90.0),
    ],
)
def test_a_direction_is_read(answer: str, yaw_deg: float) -> None:
    assert parse_direction(answer) == pytest.approx(yaw_deg)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "the kitchen",
        "45 degrees",
        "left or right",
        "not behind me",
        "to the left of the door",
        "behind the sofa",
        "13 o'clock",
        "at 3 o'clock or at 9 o'clock",
        "in front and behind",
        "brightly lit",
    ],
)
def test_a_direction_is_not_guessed(answer: str) -> None:
    assert parse_direction(answer) is None
    assert direction_error_deg(answer, 0.0) == UNREADABLE


def test_directions_are_scored_across_the_seam() -> None:
    assert direction_error_deg("yaw 175", -175.0).value == pytest.approx(10.0)
    assert direction_in_sector("behind me", -160.0).value == 1.0
    assert direction_in_sector("behind me", -150.0).value == 0.0


def test_real_directions_are_read_as_their_yaw(real_texts: Path) -> None:
    for row in map(json.loads, (real_texts / "hotspot_directions.jsonl").read_text().splitlines()):
        assert direction_error_deg(row["answer"], row["yaw_deg"]).value <= 0.51, row["answer"]
        assert direction_error_deg(row["direction"], row["yaw_deg"]).value <= 22.6, row["direction"]


def test_fields_of_view_are_read_and_compared_on_the_sphere() -> None:
    right = Region(175.0, 0.0, 40.0, 30.0)
    assert field_of_view_iou("[175, 0, 40, 30]", right).value == pytest.approx(1.0)
    across = field_of_view_iou("it is at [-175, 0, 40, 30]", right).value
    level = field_of_view_iou("[165, 0, 40, 30]", right).value
    assert across == pytest.approx(level)
    assert across is not None
    assert 0.4 < across < 0.7
    assert field_of_view_interval_iou("(-175, 0, 40, 30)", right).value == pytest.approx(0.6)
    said = '{"yaw": 175, "pitch": 0, "width": 40, "height": 30}'
    assert parse_field_of_view(f"```json\n{said}\n```") == right


@pytest.mark.parametrize(
    "answer",
    ["", "[1, 2, 3]", "[0, 0, 0, 10]", "[0, 95, 10, 10]", "[0,0,9,9] [1,1,9,9]", '{"yaw": 1}'],
)
def test_an_impossible_field_of_view_is_not_read(answer: str) -> None:
    assert field_of_view_iou(answer, Region(0.0, 0.0, 10.0, 10.0)) == UNREADABLE


def test_strata_name_the_distance_from_seam_and_pole() -> None:
    assert seam_distance_deg(-170.0) == pytest.approx(10.0)
    assert seam_distance_deg(0.0) == 180.0
    assert [seam_stratum(yaw) for yaw in (180.0, -136.0, -135.0, 0.0, None)] == [
        "0-45°",
        "0-45°",
        "45-90°",
        "135-180°",
        None,
    ]
    assert [pole_stratum(pitch) for pitch in (-90.0, 61.0, 60.0, 0.0, None)] == [
        "0-30°",
        "0-30°",
        "30-60°",
        "60-90°",
        None,
    ]


@pytest.mark.parametrize(
    ("answer", "pitch_deg"),
    [
        ("yaw 10, pitch −5", -5.0),
        ("Pitch: +12.5 degrees", 12.5),
        ("its pitch is about 90", 90.0),
        ("pitch 91", None),
        ("pitch 1 or pitch 2", None),
        ("5 degrees up", None),
    ],
)
def test_a_pitch_is_read_where_it_is_called_so(answer: str, pitch_deg: float | None) -> None:
    assert parse_pitch(answer) == pitch_deg
