"""A panorama is shown as views, whole, as a contact sheet or as one view, and it is said how."""

import numpy as np
import pytest

from panovlm.errors import PanoVLMError
from panovlm.figures.showing import GREY, Showing
from panovlm.geometry.cutting import cut_views
from panovlm.geometry.sphere import DIRECTIONS, Pixels


@pytest.fixture
def panorama() -> Pixels:
    return np.random.default_rng(0).integers(0, 255, (64, 128, 3), np.uint8)


def test_views_stand_behind_their_directions(panorama: Pixels) -> None:
    showing = Showing("views", view_size=16)
    head, *rest = showing.parts(panorama)
    assert "8 pictures are views of one 360° panorama, each 90° wide" in head
    assert rest[::2] == [f"{word}:" for word in DIRECTIONS]
    assert np.array_equal(np.stack(rest[1::2]), cut_views(panorama, showing.ring))
    without = showing.parts(panorama, without=3)
    assert (without[8] == GREY).all()
    assert np.array_equal(without[2], rest[1])


def test_a_panorama_is_shown_whole_and_no_wider_than_needed(panorama: Pixels) -> None:
    head, shown = Showing("equirectangular").parts(panorama)
    assert "equirectangular" in head
    assert np.array_equal(shown, panorama)
    _, narrow = Showing("equirectangular", width=32).parts(panorama)
    assert narrow.shape == (16, 32, 3)


def test_a_sheet_holds_every_view_under_its_direction(panorama: Pixels) -> None:
    showing = Showing("sheet", view_size=48)
    head, sheet = showing.parts(panorama)
    views = cut_views(panorama, showing.ring)
    assert "contact sheet shows 8 views" in head
    band = sheet.shape[0] // 2 - 48
    assert sheet.shape == (2 * (48 + band), 4 * 48, 3)
    for place, view in enumerate(views):
        y, x = place // 4 * (48 + band), place % 4 * 48
        assert np.array_equal(sheet[y + band : y + band + 48, x : x + 48], view)
        assert sheet[y : y + band, x : x + 48].max() > 150  # the word is drawn


def test_a_single_view_is_the_one_to_the_front(panorama: Pixels) -> None:
    showing = Showing("view", view_size=16)
    head, view = showing.parts(panorama)
    assert "front view" in head
    assert np.array_equal(view, cut_views(panorama, showing.ring)[0])


def test_another_way_is_refused() -> None:
    with pytest.raises(PanoVLMError, match="found --show cube, expected views, sheet"):
        Showing("cube")
