"""Regions of the sphere and their exact overlap."""

from dataclasses import astuple

import numpy as np
import pytest

from panovlm.errors import PanoVLMError
from panovlm.geometry.regions import Region, interval_iou
from panovlm.geometry.sphere import angles_from_rays, rays_from_angles
from panovlm.geometry.views import View

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
def test_rotating_both_changes_nothing(first, second):
    rotated = [
        Region(r.yaw_deg + 77, r.pitch_deg, r.width_deg, r.height_deg) for r in (first, second)
    ]
    assert rotated[0].iou(rotated[1]) == pytest.approx(first.iou(second))


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


@pytest.mark.parametrize("points_per_side", [1, 16])
@pytest.mark.parametrize(
    "region", [Region(-178, 20, 30, 50), Region(0, -80, 60, 90), Region(90, 0, 170, 1)]
)
def test_the_region_around_an_outline_is_the_region(region, points_per_side):
    found = Region.around(region.outline(points_per_side))
    assert astuple(found) == pytest.approx(astuple(region))


def test_the_region_around_points_has_one_on_each_of_its_sides():
    rays = rays_from_angles(np.radians([170, -175, 178, 160]), np.radians([40, 10, -20, 5]))
    region = Region.around(rays)
    places = np.stack(View(region.yaw_deg, region.pitch_deg).places_of(rays))
    reach_deg = np.degrees(np.arctan(2 * places - 1))
    half = np.array([region.width_deg, region.height_deg]) / 2
    np.testing.assert_allclose(reach_deg.max(axis=1), half)
    np.testing.assert_allclose(reach_deg.min(axis=1), -half)


def test_points_crowded_at_one_end_still_have_a_region():
    yaws_deg, pitches_deg = [-70.0] * 50 + [70.0, 0.0, 0.0], [0.0] * 51 + [9.0, -9.0]
    crowd = rays_from_angles(np.radians(yaws_deg), np.radians(pitches_deg))
    assert Region.around(crowd).width_deg == pytest.approx(140)


def test_a_region_with_a_given_middle_reaches_the_farthest_point_on_either_side():
    rays = rays_from_angles(np.radians([-10.0, 30.0]), np.radians([5.0, 0.0]))
    region = Region.holding(rays, 0.0, 0.0)
    assert region.width_deg == pytest.approx(60)


def test_points_behind_a_given_middle_are_refused():
    with pytest.raises(PanoVLMError, match="split them"):
        Region.holding(rays_from_angles(np.radians([95.0]), np.zeros(1)), 0.0, 0.0)


@pytest.mark.parametrize(
    ("first", "second", "overlap"),
    [
        ((0, 0, 40, 20), (20, 0, 40, 20), 1 / 3),
        ((0, 0, 40, 20), (0, 10, 40, 20), 1 / 3),
        ((175, 0, 40, 20), (-165, 0, 40, 20), 1 / 3),  # across the seam
        ((0, 0, 40, 20), (90, 0, 40, 20), 0),
        ((0, 80, 40, 40), (0, 75, 40, 30), 1),  # both end at the pole
        ((0, 0, 300, 10), (180, 0, 300, 10), 240 / 360),  # shared on both sides
        ((0, 0, 500, 10), (77, 0, 360, 10), 1),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0),
    ],
)
def test_overlap_of_intervals_is_that_of_rectangles_on_the_chart(first, second, overlap):
    assert interval_iou(first, second) == pytest.approx(overlap)
    assert interval_iou(second, first) == pytest.approx(overlap)


def test_overlap_of_intervals_by_solid_angle_counts_rows_by_their_area():
    low, high = (0, 10, 30, 20), (0, 30, 30, 20)  # 0° to 20°, 20° to 40°
    whole = (0, 20, 30, 40)
    sines = np.sin(np.radians([20, 40]))
    assert interval_iou(low, whole, by_solid_angle=True) == pytest.approx(sines[0] / sines[1])
    assert interval_iou(high, whole, by_solid_angle=True) < interval_iou(high, whole)


def test_overlap_of_intervals_is_near_the_true_one_for_small_regions_at_the_horizon_only():
    level = Region(0, 0, 10, 10), Region(4, 2, 10, 10)
    raised = Region(0, 60, 10, 10), Region(4, 62, 10, 10)
    assert interval_iou(*map(astuple, level)) == pytest.approx(level[0].iou(level[1]), abs=0.01)
    assert raised[0].iou(raised[1]) > interval_iou(*map(astuple, raised)) + 0.1


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
