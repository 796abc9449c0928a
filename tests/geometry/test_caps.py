"""Caps are the same discs wherever they lie, and spread evenly over what views see."""

import numpy as np
import pytest

from panovlm.errors import PanoVLMError
from panovlm.geometry.caps import Caps, caps_over_views, even_rays
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import angles_between, panorama_rays, rays_from_angles

RAYS = panorama_rays(360, 720)
SOLID_ANGLE = np.hypot(RAYS[..., 0], RAYS[..., 2])


def cap(yaw_deg: float, pitch_deg: float, radius_deg: float = 20.0) -> Caps:
    angles = np.radians([[yaw_deg], [pitch_deg]])
    return Caps(rays_from_angles(angles[0], angles[1]), radius_deg)


@pytest.mark.parametrize("place", [(0, 0), (180, 0), (-179.9, 30), (10, 90), (0, -85)])
def test_a_cap_has_its_area_across_the_seam_and_over_a_pole(place: tuple[float, float]) -> None:
    covered = cap(*place).cover(RAYS)[0]
    share = (covered * SOLID_ANGLE).sum() / SOLID_ANGLE.sum()
    assert share == pytest.approx((1 - np.cos(np.radians(20))) / 2, rel=0.01)


def test_a_cap_over_the_seam_is_one_elsewhere_shifted() -> None:
    seam, front = cap(180, 25).cover(RAYS)[0], cap(0, 25).cover(RAYS)[0]
    assert seam[:, 0].any()
    assert seam[:, -1].any()
    np.testing.assert_array_equal(seam, np.roll(front, 360, axis=1))


def test_weights_are_one_in_the_middle_and_none_outside() -> None:
    some = cap(30, 40)
    assert some.weights(some.centres[0]) == pytest.approx(1)
    np.testing.assert_array_equal(some.weights(RAYS)[~some.cover(RAYS)], 0)
    half = rays_from_angles(np.radians(np.array(30.0)), np.radians(np.array(50.0)))
    assert some.weights(half)[0] == pytest.approx(0.748, abs=0.001)


def test_rotating_by_a_stride_covers_the_next_view_alike() -> None:
    layout = ViewLayout.ring(8, 90, 64)
    rays = layout.rays(64, 64)
    first, rotated = cap(13, -20).cover(rays)[0], cap(58, -20).cover(rays)[0]
    assert first.any()
    np.testing.assert_array_equal(rotated, np.roll(first, 1, axis=0))


def test_even_rays_stand_for_like_areas() -> None:
    rays = even_rays(400)
    assert np.linalg.norm(rays, axis=-1) == pytest.approx(1)
    nearest = np.array([np.sort(angles_between(rays, ray))[1] for ray in rays])
    step = np.sqrt(4 * np.pi / 400)
    assert 0.7 * step < nearest.min() <= nearest.max() < 1.1 * step


def test_centres_are_seen_and_nothing_seen_lies_between_caps() -> None:
    layout = ViewLayout.ring()
    for step_deg in (None, 20):
        caps = caps_over_views(layout, 20, step_deg)
        assert layout.sees(caps.centres).all()
        assert caps.cover(RAYS[layout.sees(RAYS)][::17]).any(axis=0).all()
    share = len(caps_over_views(layout, 20, 5)) / (4 * np.pi / np.radians(5) ** 2)
    assert share == pytest.approx(layout.coverage(), abs=0.01)
    assert len(caps_over_views(layout.with_global())) == len(caps_over_views(layout))
    assert len(caps_over_views(ViewLayout.equirectangular())) == 413


@pytest.mark.parametrize(
    ("radius_deg", "step_deg", "said"),
    [
        (0.5, None, "radius of 0.5°"),
        (91, None, "radius of 91°"),
        (float("nan"), None, "radius of nan°"),
        (20, 0.5, "found caps 0.5° apart"),
        (20, 21, "found caps 21° apart"),
        (90, 90, "no cap's centre in any view"),
    ],
)
def test_radius_and_step_out_of_range_are_refused(
    radius_deg: float, step_deg: float | None, said: str
) -> None:
    with pytest.raises(PanoVLMError, match=said):
        caps_over_views(ViewLayout.ring(6, 30), radius_deg, step_deg)
    with pytest.raises(PanoVLMError, match="radius of 0°"):
        cap(0, 0, 0)
