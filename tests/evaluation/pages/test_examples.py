"""Claims about marked pictures: marks stand at their yaws and pitches, in the right colours."""

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from reading_pages import Page, part, percent

from panovlm.errors import PanoVLMError
from panovlm.evaluation.pages.examples import WIDTH, Example, Mark
from panovlm.figures.sheets import as_data_uri
from panovlm.metrics.units import DEGREES, SHARE, Unit


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "black.png"
    Image.new("RGB", (256, 128)).save(path)
    return path


def example(
    picture: Path,
    expected: str,
    answer: str,
    yaw_deg: float | None,
    unit: Unit = SHARE,
    **known: Any,
) -> Example:
    row = {
        "image": str(picture),
        "question": "Where is it?",
        "references": [expected],
        "answer": answer,
        "score": float(expected == answer),
        "missing": None,
        "kind": "direction",
        "yaw_deg": yaw_deg,
        "pitch_deg": None,
    }
    return Example(row | known, unit, ("front", "right", "back"))


def shown(example: Example) -> Page:
    return part("example.html.jinja", "example", example)


def places(page: Page, tone: str) -> list[float]:
    """Yaws at which marks of a colour are drawn, those beyond the picture's edges too."""
    return [
        float((attrs["transform"] or "").removeprefix("translate(").rstrip(")"))
        for tag, attrs in page.tags
        if tag == "g" and attrs["class"] == tone
    ]


@pytest.mark.parametrize(("yaw_deg", "left"), [(0.0, 50.0), (90.0, 75.0), (-90.0, 25.0)])
def test_the_arrow_and_its_label_stand_at_the_yaw(
    picture: Path, yaw_deg: float, left: float
) -> None:
    page = shown(example(picture, "a cube", "a cube", yaw_deg))
    assert places(page, "good") == [yaw_deg - 360, yaw_deg, yaw_deg + 360]
    [label] = page.of_class("tag", "good")
    assert percent(label, "--x") == left
    assert ("svg", {"viewbox": "-180 -90 360 180"}) in page.tags  # x is the yaw in degrees


def test_an_arrow_at_the_seam_shows_at_both_ends(picture: Path) -> None:
    assert {-180.0, 180.0} <= {*places(shown(example(picture, "x", "x", 180.0)), "good")}


def test_a_wrong_answer_turns_the_arrow_red(picture: Path) -> None:
    page = shown(example(picture, "a cube", "a cone", 0.0))
    assert places(page, "bad") and not places(page, "good")


def test_a_wrong_direction_word_gets_a_bracket_over_its_sector(picture: Path) -> None:
    wrong = example(picture, "front", "Right.", 0.0)
    bracket, arrow = wrong.marks
    assert bracket == Mark("sector", 90.0, None, "answered", "answer: right")
    assert (arrow.shape, arrow.label, arrow.tone) == ("down", "target: front", "bad")
    [rect, *_] = [attrs for tag, attrs in shown(wrong).tags if tag == "rect"]
    assert (rect["x"], rect["width"]) == ("-22.5", "45")


def test_the_bracket_of_the_back_shows_at_both_ends(picture: Path) -> None:
    page = shown(example(picture, "back", "back", 180.0))
    assert {-180.0, 180.0} <= {*places(page, "good")}


def test_without_yaw_and_direction_word_the_picture_stays_as_it_is(picture: Path) -> None:
    assert example(picture, "3", "4", None).marks == []


def test_an_arrow_from_below_points_where_an_answer_was_read_to_point(picture: Path) -> None:
    known = {"pitch_deg": 10.0, "answered_deg": (45.0, None), "score": 45.0}
    read = example(picture, "yaw 90", "front-right", 90.0, DEGREES, **known)
    assert read.score == "error 45.0°"
    assert read.marks == [
        Mark("up", 45.0, None, "answered", "answer"),
        Mark("down", 90.0, 10.0, "target", "target"),
    ]
    rings = [attrs["cy"] for tag, attrs in shown(read).tags if tag == "circle"]
    assert rings == ["-10.0"] * 3  # of the target alone; up is negative in SVG


def test_texts_are_escaped_and_an_empty_answer_is_told(picture: Path) -> None:
    hostile = example(picture, "<b>a", "", None, question="<script>", kind="<i>")
    page = shown(hostile)
    assert page.count("b") == page.count("script") == page.count("i") == 0
    assert "<script>" in page.text and "(empty)" in page.text


def test_what_else_is_known_of_an_answer_is_told(picture: Path) -> None:
    rotated = [{"score": float(place < 3)} for place in range(8)]
    changed = [True, False, True]
    known = example(picture, "a", "a", None, yaw_rotated=rotated, changed_by_view=changed)
    assert "correct under 3 of 8 rotations" in shown(known).text
    assert "view front, back" in shown(known).text


def test_a_missing_picture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PanoVLMError, match="no such file"):
        shown(example(tmp_path / "gone.jpg", "a", "a", None))


def test_a_picture_lies_inside_the_page(picture: Path) -> None:
    start, data = example(picture, "a", "a", None).source.split(",")
    assert start == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (WIDTH, WIDTH // 2)


def test_a_data_uri_holds_the_picture() -> None:
    data = as_data_uri(Image.new("RGBA", (32, 16), (255, 0, 0, 255))).split(",")[1]
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (32, 16)
