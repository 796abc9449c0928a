"""Two fisheye circles come back as the world they were taken of, on both sides and upright."""

import cv2
import numpy as np
import pytest
from odd_pictures import dual_fisheye
from xmp_packets import colours

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import angles_between, panorama_rays
from panovlm.pictures.dual_fisheye import sphere_from_dual_fisheye

AHEAD = np.array([0.0, 0.0, 1.0])


def from_axis_deg(height):
    """How far every pixel of a sphere is from straight ahead."""
    return np.degrees(angles_between(panorama_rays(height, 2 * height), AHEAD))


@pytest.mark.parametrize("fov_deg", [180.0, 183.0, 195.0, 220.0, 280.0])
def test_the_world_comes_back(fov_deg):
    sphere = sphere_from_dual_fisheye(dual_fisheye(512, fov_deg), fov_deg, "p")
    height = round(180 / fov_deg * 512)
    assert sphere.shape == (height, 2 * height, 3)
    off = cv2.absdiff(sphere, colours(panorama_rays(height, 2 * height))).astype(float)
    away = np.abs(from_axis_deg(height) - 90) > 6
    assert off[away].max() <= 1.5  # the pictures are cut off to whole levels
    assert 10 * np.log10(255**2 / np.mean(off[away] ** 2)) > 50
    assert off.max() <= 4  # at the seam too: no black of the rims


@pytest.mark.parametrize(
    ("column", "row", "yaw_deg", "pitch_deg"),
    [
        (0.25, 0.5, 0.0, 0.0),
        (0.375, 0.5, 50.0, 0.0),  # the front lens sees to its right what is right of ahead
        (0.25, 0.25, 0.0, 50.0),
        (0.75, 0.25, 180.0, 50.0),
        (0.625, 0.5, 130.0, 0.0),  # what the back lens sees to its left is right of ahead
        (0.875, 0.5, -130.0, 0.0),
        (0.75, 0.75, 180.0, -50.0),
    ],
)
def test_each_lens_looks_its_way_upright(column, row, yaw_deg, pitch_deg):
    raw = np.zeros((400, 800, 3), np.uint8)
    top, left = round(400 * row), round(800 * column)
    raw[top - 3 : top + 3, left - 3 : left + 3] = 255
    sphere = sphere_from_dual_fisheye(raw, 200.0, "p")
    height = len(sphere)
    rays = panorama_rays(height, 2 * height)[sphere[..., 0] > 128]
    yaw, pitch = np.radians([yaw_deg, pitch_deg])
    ray = [np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)]
    assert len(rays)
    assert np.degrees(angles_between(rays, np.array(ray))).max() < 3
    mean = rays.mean(axis=0)
    assert np.degrees(angles_between(mean, np.array(ray))) < 0.3


def test_lenses_of_other_brightness_pass_into_each_other():
    raw = np.concatenate([np.full((256, 256, 3), 90, np.uint8), np.full((256, 256, 3), 110)], 1)
    sphere = sphere_from_dual_fisheye(raw.astype(np.uint8), 200.0, "p")
    from_axis = from_axis_deg(len(sphere))
    expected = 90 + 20 * np.clip(0.5 + (from_axis - 90) / 10, 0, 1)
    assert np.abs(sphere - expected[..., None]).max() <= 0.5 + 1e-6
    hard = sphere_from_dual_fisheye(raw.astype(np.uint8), 180.0, "p")
    assert set(np.unique(hard)) == {90, 110}


def test_no_more_columns_are_made_than_are_enough():
    raw = dual_fisheye(512, 200.0)
    assert sphere_from_dual_fisheye(raw, 200.0, "p", 800).shape[1] == 922
    small = sphere_from_dual_fisheye(raw, 200.0, "p", 128)
    assert small.shape == (64, 128, 3)
    away = np.abs(from_axis_deg(64) - 90) > 6
    assert cv2.absdiff(small, colours(panorama_rays(64, 128)))[away].max() < 3
    assert sphere_from_dual_fisheye(raw, 200.0, "p", 1).shape[1] >= 2


@pytest.mark.parametrize("shape", [(480, 854), (100, 100), (2, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(PanoVLMError, match=r"raw\.jpg: found \d+x\d+, expected two fisheye circl"):
        sphere_from_dual_fisheye(np.zeros((*shape, 3), np.uint8), 200.0, "raw.jpg")
