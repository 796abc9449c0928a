"""Angles wrap, directions in words become yaws, and what is ambiguous is not read."""

import json
from pathlib import Path

import pytest

from panovlm.geometry.regions import Region
from panovlm.metrics.angles import (
    great_circle_error_deg,
    sector,
    yaw_error_deg,
)
from panovlm.metrics.directions import parse_direction, parse_pitch
from panovlm.metrics.fields_of_view import parse_field_of_view
from panovlm.metrics.strata import pole_stratum, seam_distance_deg, seam_stratum


def test_errors_go_the_short_way_around() -> None:
    assert yaw_error_deg(179.0, -179.0) == pytest.approx(2.0)
    assert yaw_error_deg(-720.0, 180.0) == pytest.approx(180.0)
    assert great_circle_error_deg(170.0, 0.0, -170.0, 0.0) == pytest.approx(20.0)
    assert great_circle_error_deg(0.0, 80.0, 180.0, 80.0) == pytest.approx(20.0)
    assert great_circle_error_deg(12.0, 90.0, -100.0, 90.0) == pytest.approx(0.0, abs=1e-9)


def test_sectors_are_centred_on_the_front() -> None:
    assert [sector(yaw) for yaw in (-22.4, 22.6, 180.0, -180.0, -90.0)] == [
        "front",
        "front-right",
        "back",
        "back",
        "left",
    ]


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


def test_real_directions_are_read_as_their_yaw(real_texts: Path) -> None:
    for row in map(json.loads, (real_texts / "hotspot_directions.jsonl").read_text().splitlines()):
        for text, most_deg in ((row["answer"], 0.51), (row["direction"], 22.6)):
            yaw_deg = parse_direction(text)
            assert yaw_deg is not None, text
            assert yaw_error_deg(yaw_deg, row["yaw_deg"]) <= most_deg, text


def test_fields_of_view_are_read() -> None:
    right = Region(175.0, 0.0, 40.0, 30.0)
    assert parse_field_of_view("it is at [175, 0, 40, 30]") == right
    assert parse_field_of_view("(175, 0, 40, 30)") == right
    said = '{"yaw": 175, "pitch": 0, "width": 40, "height": 30}'
    assert parse_field_of_view(f"```json\n{said}\n```") == right


@pytest.mark.parametrize(
    "answer",
    ["", "[1, 2, 3]", "[0, 0, 0, 10]", "[0, 95, 10, 10]", "[0,0,9,9] [1,1,9,9]", '{"yaw": 1}'],
)
def test_an_impossible_field_of_view_is_not_read(answer: str) -> None:
    assert parse_field_of_view(answer) is None


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
