"""Boxes of views and of the panorama, and the regions they show."""

from dataclasses import replace

import numpy as np
import pytest

from panovlm.errors import PanoVLMError
from panovlm.geometry.boxes import (
    PanoramaBox,
    ViewBox,
    panorama_box_to_region,
    region_to_panorama_box,
    region_to_view_box,
    view_box_to_panorama_box,
    view_box_to_region,
)
from panovlm.geometry.places import panorama_to_rays
from panovlm.geometry.regions import Region
from panovlm.geometry.views import View

SIZE = (180, 360)  # a pixel is a degree


def sides(box):
    return pytest.approx((box.left, box.top, box.width, box.height), abs=1e-6)


def test_a_box_across_the_seam_splits_in_two():
    parts = PanoramaBox(350, 20, 30, 5).split(360)
    assert parts == (PanoramaBox(350, 20, 10, 5), PanoramaBox(0, 20, 20, 5))


def test_a_box_that_ends_at_the_seam_stays_whole():
    box = PanoramaBox(350, 20, 10, 5)
    assert box.split(360) == (box,)


def test_a_right_side_left_of_the_left_one_crosses_the_seam():
    assert PanoramaBox.from_sides(350, 20, 20, 25, 360) == PanoramaBox(350, 20, 30, 5)
    assert PanoramaBox.from_sides(20, 20, 350, 25, 360) == PanoramaBox(20, 20, 330, 5)


@pytest.mark.parametrize("kind", [ViewBox, PanoramaBox])
@pytest.mark.parametrize("size", [(0, 5), (5, -1), (float("nan"), 5)])
def test_boxes_without_pixels_are_refused(kind, size):
    with pytest.raises(PanoVLMError, match="expected more than 0 on both sides; change width"):
        kind(0, 0, *size)


def test_a_box_with_equal_sides_is_refused():
    with pytest.raises(PanoVLMError, match="found a box of 0x5 px"):
        PanoramaBox.from_sides(20, 20, 20, 25, 360)


def test_a_level_region_is_as_wide_as_its_middle_and_higher_than_its_corners():
    box = region_to_panorama_box(Region(0, 0, 90, 90), *SIZE)
    assert sides(box) == (135, 45, 90, 90)


def test_a_region_across_the_seam_gives_a_box_across_the_seam():
    box = region_to_panorama_box(Region(175, 0, 40, 20), *SIZE)
    assert sides(box) == (335, 80, 40, 20)


def test_the_upper_side_of_a_raised_region_is_highest_at_its_middle():
    region = Region(0, 40, 80, 20)
    box = region_to_panorama_box(region, *SIZE)
    assert 90 - box.top == pytest.approx(50)  # not at the corners, which lie at 40.9°
    assert box.top + box.height > 90 - 30 + 1  # the lower corners, below the lower side's middle


@pytest.mark.parametrize("pitch_deg", [85, -85, 90, -90])
def test_a_region_that_holds_a_pole_takes_the_whole_width(pitch_deg):
    box = region_to_panorama_box(Region(30, pitch_deg, 40, 40), *SIZE)
    assert (box.left, box.width) == (0, 360)
    assert (box.top == pytest.approx(0)) == (pitch_deg > 0)
    assert (box.top + box.height == pytest.approx(180)) == (pitch_deg < 0)


def test_a_region_with_the_pole_on_its_border_takes_the_whole_width():
    assert region_to_panorama_box(Region(30, 70, 40, 40), *SIZE).width == 360


def test_a_box_in_a_view_reaches_the_panorama_more_tightly_than_through_a_region():
    view, box = View(10, 30, 25), ViewBox(40, 5, 20, 30)
    direct = view_box_to_panorama_box(box, view, 64, *SIZE)
    by_region = region_to_panorama_box(view_box_to_region(box, view, 64), *SIZE)
    assert direct.width * direct.height < by_region.width * by_region.height


def test_a_box_in_the_middle_of_a_view_is_a_region_and_back():
    view = View(-178, 35, fov_deg=90)
    region = view_box_to_region(ViewBox(16, 24, 32, 16), view, 64)
    expected = Region(-178, 35, np.degrees(2 * np.arctan(0.5)), np.degrees(2 * np.arctan(0.25)))
    assert region.iou(expected) == pytest.approx(1)
    assert sides(region_to_view_box(region, view, 64)) == (16, 24, 32, 16)


def test_a_region_partly_seen_is_cut_off_at_the_view():
    box = region_to_view_box(Region(45, 0, 20, 20), View(0), 64)
    assert box.left + box.width == pytest.approx(64)
    assert box.left == pytest.approx(32 + 32 * np.tan(np.radians(35)))


@pytest.mark.parametrize("roll_deg", [0, 90, 180, -90])
def test_a_region_cut_off_by_any_side_is_as_tight_as_what_is_left(roll_deg):
    region, view = Region(60, 20, 80, 30), View(0, roll_deg=roll_deg)
    box = region_to_view_box(region, view, 64)
    rays = View(0).rays(800, 800).reshape(-1, 3)
    places = np.stack(view.places_of(rays[region.contains(rays)])) * 64
    assert (box.left, box.top) == pytest.approx(places.min(axis=1), abs=0.2)
    assert (box.width, box.height) == pytest.approx(np.ptp(places, axis=1), abs=0.4)


def test_a_view_inside_a_region_is_filled_by_it():
    assert sides(region_to_view_box(Region(0, 0, 150, 150), View(0, 5), 64)) == (0, 0, 64, 64)


@pytest.mark.parametrize("yaw_deg", [180, 120, 55])  # the last one touches
def test_a_region_out_of_sight_has_no_box(yaw_deg):
    assert region_to_view_box(Region(yaw_deg, 0, 20, 20), View(0), 64) is None


@pytest.mark.parametrize(
    "box",
    [
        PanoramaBox(100, 60, 40, 60),
        PanoramaBox(340, 20, 60, 30),
        PanoramaBox(0, 0, 360, 40),  # a whole cap
        PanoramaBox(200, 140, 300, 30),  # most of the way around the lower pole
        PanoramaBox(90, 5, 190, 60),
    ],
)
def test_the_region_of_a_panorama_box_just_holds_it(box):
    region = panorama_box_to_region(box, *SIZE)
    share = np.linspace(0, 1, 4001)
    x = box.left + box.width * np.concatenate([share, share, 0 * share, 0 * share + 1])
    y = box.top + box.height * np.concatenate([0 * share, 0 * share + 1, share, share])
    rays = panorama_to_rays(x, y, *SIZE)
    wider, narrower, lower = (
        replace(region, width_deg=region.width_deg + more, height_deg=region.height_deg + higher)
        for more, higher in ((1e-6, 1e-6), (-1e-3, 1e-6), (1e-6, -1e-3))
    )
    assert wider.contains(rays).all()
    assert not narrower.contains(rays).all()
    assert not lower.contains(rays).all()


def test_the_region_of_a_cap_looks_at_the_pole():
    region = panorama_box_to_region(PanoramaBox(0, 0, 360, 40), *SIZE)
    assert (region.pitch_deg, region.width_deg) == pytest.approx((90, 80))


@pytest.mark.parametrize("box", [PanoramaBox(0, 80, 360, 20), PanoramaBox(10, 85, 180, 10)])
def test_boxes_that_reach_too_far_around_have_no_region(box):
    with pytest.raises(PanoVLMError, match=r"reaches too far around the sphere.*split it"):
        panorama_box_to_region(box, *SIZE)


@pytest.mark.parametrize(
    "box",
    [
        PanoramaBox(-1, 20, 10, 10),
        PanoramaBox(360, 20, 10, 10),
        PanoramaBox(5, 20, 361, 10),
        PanoramaBox(5, -1, 10, 10),
        PanoramaBox(5, 175, 10, 10),
    ],
)
def test_boxes_outside_the_panorama_are_refused(box):
    with pytest.raises(PanoVLMError, match=r"outside a panorama of 360x180 px, expected left in"):
        panorama_box_to_region(box, *SIZE)
