"""Claims about marked pictures: marks stand at the columns of their yaws, in the right colours."""

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from panovlm.errors import PanoVLMError
from panovlm.evaluation.pages.marked_pictures import (
    ANSWERED,
    MEANT,
    RIGHT,
    WIDTH,
    WRONG,
    Colour,
    Example,
    Worth,
    as_data_uri,
    draw_marks,
)

ARROW_ROW = 150
"""A row that the arrow's shaft crosses, and no label."""
BRACKET_ROW = 500


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "black.png"
    Image.new("RGB", (256, 128)).save(path)
    return path


def example(picture: Path, expected: str, answer: str, yaw_deg: float | None) -> Example:
    return Example(picture, "Where is it?", expected, answer, "direction", yaw_deg)


def columns_of(image: Image.Image, row: int, colour: Colour) -> NDArray[np.intp]:
    """Columns of a row in a colour, as bright as the half-transparent bracket at least."""
    pixels = np.asarray(image, np.float64)[row]
    shades = pixels @ colour / (np.linalg.norm(pixels, axis=1) * np.linalg.norm(colour) + 1e-9)
    return np.nonzero((shades > 0.99) & (pixels.sum(axis=1) > 50))[0]


@pytest.mark.parametrize(("yaw_deg", "column"), [(0.0, 512), (90.0, 768), (-90.0, 256)])
def test_the_arrow_stands_at_the_yaw(picture: Path, yaw_deg: float, column: int) -> None:
    drawn = draw_marks(example(picture, "a cube", "a cube", yaw_deg))
    assert drawn.size == (WIDTH, WIDTH // 2)
    assert columns_of(drawn, ARROW_ROW, RIGHT).mean() == pytest.approx(column, abs=1)


def test_ticks_stand_at_the_upper_and_lower_edge(picture: Path) -> None:
    drawn = draw_marks(example(picture, "a cube", "a cube", 90.0))
    for row in (0, WIDTH // 2 - 1):
        assert columns_of(drawn, row, RIGHT).mean() == pytest.approx(768, abs=1)


def test_an_arrow_at_the_seam_shows_at_both_ends(picture: Path) -> None:
    columns = columns_of(draw_marks(example(picture, "x", "x", 180.0)), ARROW_ROW, RIGHT)
    assert columns.min() == 0 and columns.max() == WIDTH - 1
    assert len(columns) <= 6


def test_a_wrong_answer_turns_the_arrow_red(picture: Path) -> None:
    drawn = draw_marks(example(picture, "a cube", "a cone", 0.0))
    assert len(columns_of(drawn, ARROW_ROW, WRONG)) > 0
    assert len(columns_of(drawn, ARROW_ROW, RIGHT)) == 0


def test_a_wrong_direction_word_gets_a_bracket_over_its_sector(picture: Path) -> None:
    columns = columns_of(
        draw_marks(example(picture, "front", "Right.", 0.0)), BRACKET_ROW, ANSWERED
    )
    assert columns.min() == pytest.approx(768 - WIDTH / 16, abs=2)
    assert columns.max() == pytest.approx(768 + WIDTH / 16, abs=2)


def test_the_bracket_of_the_back_shows_at_both_ends(picture: Path) -> None:
    columns = columns_of(draw_marks(example(picture, "back", "back", 180.0)), BRACKET_ROW, RIGHT)
    assert (columns < WIDTH / 16 + 2).any() and (columns > WIDTH - WIDTH / 16 - 2).any()
    assert not ((columns > 100) & (columns < 900)).any()


def test_without_yaw_and_direction_word_the_picture_stays_as_it_is(picture: Path) -> None:
    drawn = draw_marks(example(picture, "3", "4", None))
    assert np.asarray(drawn).max() == 0


def test_an_answer_is_right_up_to_case_and_a_final_stop(picture: Path) -> None:
    assert example(picture, "back-left", "Back-left.", None).is_right
    assert not example(picture, "back-left", "left", None).is_right


def test_a_missing_picture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PanoVLMError, match="no such file"):
        draw_marks(example(tmp_path / "gone.jpg", "a", "a", None))


def test_a_data_uri_holds_the_picture() -> None:
    start, data = as_data_uri(Image.new("RGBA", (32, 16), (255, 0, 0, 255))).split(",")
    assert start == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (32, 16)


def test_an_arrow_from_below_points_where_an_answer_was_read_to_point(picture: Path) -> None:
    worth = Worth("45.0° off", None)
    shown = example(picture, "yaw 90", "front-right", 90.0)
    drawn = draw_marks(replace(shown, pitch_deg=0.0, answered_deg=(45.0, None), worth=worth))
    assert columns_of(drawn, ARROW_ROW, MEANT).mean() == pytest.approx(768, abs=1)
    assert columns_of(drawn, 420, ANSWERED).mean() == pytest.approx(640, abs=1)
    assert columns_of(drawn, WIDTH // 4 + 30, MEANT).size == 0  # it ends at its pitch
