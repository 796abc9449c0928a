"""Regions of the sphere and their exact overlap."""

import numpy as np
import pytest

from panovlm.model.errors import PanoVLMError
from panovlm.model.regions import Region
from panovlm.model.sphere import angles_from_rays
from panovlm.model.views import View

PAIRS = [
    (Region(10, 0, 60, 40), Region(30, 10, 50, 50)),
    (Region(175, 20, 50, 30), Region(-170, 30, 40, 60)),  # across the seam
    (Region(0, 85, 60, 60), Region(120, 80, 70, 40)),  # over a pole
    (Region(-60, -30, 120, 20), Region(-60, -30, 20, 120)),  # a cross
    (Region(0, 0, 90, 90), Region(5, 5, 10, 10)),  # one inside the other
]


@pytest.fixture(scope="module")
def directions():
    rays = np.random.default_rng(0).normal(size=(400_000, 3))
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_overlap_is_that_of_counted_directions(first, second, directions):
    inside, also = first.contains(directions), second.contains(directions)
    counted = (inside & also).sum() / (inside | also).sum()
    assert first.iou(second) == pytest.approx(counted, abs=0.01)
    assert second.iou(first) == pytest.approx(first.iou(second))


@pytest.mark.parametrize("region", [region for pair in PAIRS for region in pair])
def test_solid_angle_is_that_of_counted_directions(region, directions):
    counted = 4 * np.pi * region.contains(directions).mean()
    assert region.solid_angle_sr == pytest.approx(counted, rel=0.06)


@pytest.mark.parametrize("region", [region for pair in PAIRS for region in pair])
def test_a_region_overlaps_itself_wholly_and_its_opposite_not_at_all(region):
    assert region.iou(region) == pytest.approx(1.0)
    opposite = Region(region.yaw_deg + 180, -region.pitch_deg, region.width_deg, region.height_deg)
    assert region.iou(opposite) == 0.0


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_turning_both_changes_nothing(first, second):
    turned = [
        Region(r.yaw_deg + 77, r.pitch_deg, r.width_deg, r.height_deg) for r in (first, second)
    ]
    assert turned[0].iou(turned[1]) == pytest.approx(first.iou(second))


def test_a_tiny_region_in_a_large_one_is_the_ratio_of_their_areas():
    large, tiny = Region(0, 0, 100, 100), Region(3, 4, 0.01, 0.01)
    assert large.iou(tiny) == pytest.approx(tiny.solid_angle_sr / large.solid_angle_sr, rel=1e-6)


def test_a_square_region_is_what_a_view_sees(directions):
    region, view = Region(140, -35, 70, 70), View(140, -35, fov_deg=70)
    assert (region.contains(directions) == view.sees(directions)).all()


def test_sides_are_as_far_apart_as_said():
    upper, right, lower, left = Region(0, 0, 80, 30).outline(2)[1::2]
    assert np.degrees(angles_from_rays(right)[0]) == pytest.approx(40)
    assert np.degrees(angles_from_rays(left)[0]) == pytest.approx(-40)
    assert np.degrees(angles_from_rays(upper)[1]) == pytest.approx(15)
    assert np.degrees(angles_from_rays(lower)[1]) == pytest.approx(-15)


def test_the_region_around_an_outline_is_the_region():
    region = Region(-178, 20, 30, 50)
    found = Region.around(region.outline(16))
    wider = Region(found.yaw_deg, found.pitch_deg, found.width_deg + 1e-6, found.height_deg + 1e-6)
    assert wider.contains(region.outline(16)).all()
    assert found.iou(region) > 0.9


@pytest.mark.parametrize("size", [(0, 10), (10, 180), (-5, 10)])
def test_sizes_out_of_range_are_refused(size):
    with pytest.raises(PanoVLMError, match=r"more than 0 and less than 180"):
        Region(0, 0, *size)


def test_a_pitch_beyond_the_poles_is_refused():
    with pytest.raises(PanoVLMError, match="change pitch_deg"):
        Region(0, 91, 10, 10)


def test_points_all_around_have_no_region():
    with pytest.raises(PanoVLMError, match="split them"):
        Region.around(np.array([[1.0, -0.2, 0.0], [-1.0, -0.2, 0.0], [0.0, 1.0, 0.0]]))
