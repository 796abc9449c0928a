"""Parts of the sphere: every direction is projected to where it belongs, and nothing else is."""

import math

import numpy as np
import pytest

from panovlm.geometry.sphere import panorama_rays, rays_from_angles
from panovlm.geometry.views import View
from panovlm.pictures.surfaces import (
    MAX_SPHERE_WIDTH,
    Cylindrical,
    Equirectangular,
    camera_axes,
    project_to_sphere,
)

TILTS = [(0.0, 20.0), (15.0, 0.0), (-35.0, 60.0), (90.0, 0.0), (5.0, -179.0)]


def colours(rays):
    """A smooth colour for every direction."""
    x, y, z = np.moveaxis(rays, -1, 0)
    waves = [x + 0.3 * y * z, y - 0.4 * x * z, z + 0.2 * x * y]
    return np.rint(127.5 + 90 * np.stack(waves, axis=-1)).astype(np.uint8)


def taken(height, axes=None, rays=None):
    """What a camera takes of the coloured world: its ray r looks at axes · r."""
    rays = panorama_rays(height, 2 * height) if rays is None else rays
    return colours(rays if axes is None else rays @ axes.T)


def farthest(found, expected, mask=None):
    off = np.abs(found.astype(int) - expected.astype(int)).max(axis=-1)
    return off.max() if mask is None else off[mask].max()


@pytest.mark.parametrize(("pitch_deg", "roll_deg"), TILTS)
def test_a_tilted_cameras_horizon_comes_back_level(pitch_deg, roll_deg):
    axes = camera_axes(pitch_deg, roll_deg)
    sphere, mask = project_to_sphere(taken(128, axes), Equirectangular(), axes)
    assert mask is None
    assert farthest(sphere, taken(128)) <= 2  # at the poles and across the seam too


@pytest.mark.parametrize(("pitch_deg", "roll_deg"), TILTS)
def test_the_axes_are_those_of_a_view_with_the_same_pitch_and_roll(pitch_deg, roll_deg):
    view, axes = View(0.0, pitch_deg, roll_deg), camera_axes(pitch_deg, roll_deg)
    np.testing.assert_allclose(view.rays_at(np.array(0.5), np.array(0.5)), axes[:, 2], atol=1e-12)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    right = view.rays_at(np.array(1.0), np.array(0.5)) - view.rays_at(np.array(0.0), np.array(0.5))
    np.testing.assert_allclose(right / np.linalg.norm(right), axes[:, 0], atol=1e-12)


def test_looking_up_and_rolling_clockwise_are_positive():
    up = camera_axes(30.0, 0.0)[:, 2]
    assert up[1] == pytest.approx(0.5)
    right = camera_axes(0.0, 30.0)[:, 0]
    assert right[1] == pytest.approx(-0.5)  # the camera's right side is lowered
    # A world that is bright above the horizon: a camera rolled clockwise sees more of it to its
    # right side's left, so that the horizon in its picture falls from the upper right.
    yaw_deg = np.radians([-60.0, 60.0])
    left, right = rays_from_angles(yaw_deg, np.zeros(2)) @ camera_axes(0.0, 30.0).T
    assert left[1] > 0 > right[1]


def test_a_patch_is_copied_pixel_for_pixel_where_it_was_cropped():
    full = np.random.default_rng(0).integers(0, 256, (40, 80, 3), np.uint8)
    sphere, mask = project_to_sphere(
        full[5:25, 10:40], Equirectangular(10 / 80, 5 / 40, 30 / 80, 20 / 40)
    )
    expected = np.zeros((40, 80), bool)
    expected[5:25, 10:40] = True
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(sphere, np.where(expected[..., None], full, 0))


def test_a_patch_may_reach_across_the_seam():
    full = np.random.default_rng(0).integers(0, 256, (40, 80, 3), np.uint8)
    patch = np.roll(full, 20, axis=1)[:, :40]  # columns 60 to 80 and 0 to 20
    sphere, mask = project_to_sphere(patch, Equirectangular(60 / 80, 0.0, 0.5, 1.0))
    expected = np.zeros((40, 80), bool)
    expected[:, 60:] = expected[:, :20] = True
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(sphere, np.where(expected[..., None], full, 0))


def test_a_patch_that_was_scaled_is_placed_by_its_shares():
    patch = taken(120)[30:90, 40:120].reshape(30, 2, 40, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
    sphere, mask = project_to_sphere(patch, Equirectangular(40 / 240, 0.25, 80 / 240, 0.5))
    assert sphere.shape == (60, 120, 3)
    assert farthest(sphere, taken(60), mask) <= 3
    assert mask.sum() == 30 * 40


def test_a_tilted_patch_is_levelled_and_its_mask_with_it():
    axes = camera_axes(20.0, 10.0)
    patch = taken(128, axes)[32:96, 64:192]
    sphere, mask = project_to_sphere(patch, Equirectangular(0.25, 0.25, 0.5, 0.5), axes)
    assert farthest(sphere, taken(128), mask) <= 3
    assert sphere[~mask].max() == 0
    seen = panorama_rays(128, 256) @ axes
    yaw_deg, pitch_deg = (
        np.degrees(np.arctan2(seen[..., 0], seen[..., 2])),
        np.degrees(np.arcsin(np.clip(seen[..., 1], -1, 1))),
    )
    np.testing.assert_array_equal(mask, (np.abs(yaw_deg) <= 90) & (np.abs(pitch_deg) <= 45))


@pytest.mark.parametrize(("hfov_deg", "upper", "lower"), [(360.0, 1.0, -1.0), (180.0, 1.5, -0.5)])
def test_a_cylinder_shows_every_direction_where_it_belongs(hfov_deg, upper, lower):
    columns = round(512 * hfov_deg / 360)
    rows = round((upper - lower) * 512 / (2 * math.pi))
    yaw_rad = ((np.arange(columns) + 0.5) / columns - 0.5) * math.radians(hfov_deg)
    tangent = upper - (np.arange(rows) + 0.5) / rows * (upper - lower)
    rays = rays_from_angles(yaw_rad[None], np.arctan(tangent)[:, None])
    cylinder = Cylindrical(0.5 - hfov_deg / 720, hfov_deg / 360, upper, lower)
    sphere, mask = project_to_sphere(taken(0, rays=rays), cylinder)
    assert sphere.shape == (256, 512, 3)
    assert farthest(sphere, taken(256), mask) <= 2
    assert sphere[~mask].max() == 0
    pitch_tan = np.tan((0.5 - (np.arange(256) + 0.5) / 256) * np.pi)[:, None]
    yaw_deg = ((np.arange(512) + 0.5) / 512 - 0.5)[None] * 360
    expected = (pitch_tan <= upper) & (pitch_tan >= lower) & (np.abs(yaw_deg) <= hfov_deg / 2)
    np.testing.assert_array_equal(mask, expected)


def test_a_picture_of_more_columns_than_wanted_is_reduced_first():
    sphere, mask = project_to_sphere(
        taken(256)[64:192, 128:256], Equirectangular(0.25, 0.25, 0.25, 0.5), None, 100
    )
    assert sphere.shape == (50, 100, 3)
    assert farthest(sphere, taken(50), mask) <= 6
    assert project_to_sphere(taken(64), Equirectangular(), camera_axes(1.0, 0.0), 100)[0].shape == (
        64,
        128,
        3,
    )


def test_a_small_picture_cannot_ask_for_a_large_sphere():
    picture = np.full((40, 40, 3), 9, np.uint8)
    sphere, mask = project_to_sphere(picture, Equirectangular(0.5, 0.5, 0.002, 0.004))
    assert sphere.shape == (MAX_SPHERE_WIDTH // 2, MAX_SPHERE_WIDTH, 3)
    assert sphere[mask].min() == 9
    small, mask = project_to_sphere(picture, Equirectangular(0.5, 0.5, 0.002, 0.004), None, 1)
    assert len(small) <= 2000
    assert mask.any()
