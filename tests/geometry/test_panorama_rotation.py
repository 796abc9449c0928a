"""Rotating panoramas: the same way as a view, exact everywhere, without seam and aliasing."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_panoramas import colours, noise, smooth_panorama

from panovlm.errors import PanoVLMError
from panovlm.geometry.rotation import rotate_panorama, rotate_view
from panovlm.geometry.sphere import panorama_rays
from panovlm.geometry.views import View

ROTATIONS = [
    (0.0, 0.0, 0.0),
    (30.3, 0.0, 0.0),
    (0.0, 25.0, 0.0),
    (0.0, 0.0, 40.0),
    (-100.0, -35.0, 70.0),
    (180.0, 90.0, 0.0),
    (12.0, -90.0, -160.0),
]


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize(
    ("shape", "width"), [((256, 512), 512), ((301, 601), 200), ((250, 420), 400), ((128, 256), 500)]
)
def test_a_rotated_panorama_shows_what_a_rotated_view_sees(rotation, shape, width):
    rotated = rotate_panorama(smooth_panorama(*shape), *rotation, width=width)
    assert rotated.dtype == np.uint8
    rays = panorama_rays(width // 2, width) @ View(*rotation).axes().T
    assert np.abs(rotated - colours(rays)).max() < 2.0


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_rotating_does_not_shift_by_a_fraction_of_a_pixel(rotation):
    panorama = smooth_panorama(256, 512)
    # The negative rounds the other way, so that only a shift is left.
    negative = rotate_panorama(255 - panorama, *rotation)
    rotated = (rotate_panorama(panorama, *rotation) + 255.0 - negative) / 2
    errors = rotated - colours(panorama_rays(256, 512) @ View(*rotation).axes().T)
    rows = slice(64, 192)  # a column is an angle only away from the poles
    for axis in (0, 1):
        slope = np.gradient(rotated, axis=axis)[rows, 1:-1]
        shift = (errors[rows, 1:-1] * slope).sum() / (slope**2).sum()
        assert abs(shift) < 1 / 64  # OpenCV places samples to the nearest 1/32 of a pixel


@given(columns=st.integers(-600, 600), reduced=st.sampled_from([None, 96, 32]))
@settings(max_examples=20, deadline=None)
def test_a_yaw_by_whole_columns_moves_columns_bit_for_bit(columns, reduced):
    panorama = noise(48, 96)
    rotated = rotate_panorama(panorama, yaw_deg=columns * 360 / 96, width=reduced)
    expected = rotate_panorama(np.roll(panorama, -columns, axis=1), width=reduced)
    np.testing.assert_array_equal(rotated, expected)
    if reduced is None:
        np.testing.assert_array_equal(rotated, np.roll(panorama, -columns, axis=1))


@pytest.mark.parametrize("rotation", [(25.0, 0, 0), (0, 40.0, 0), (0, 0, -70.0)])
def test_a_rotation_and_its_opposite_give_the_panorama_back(rotation):
    panorama = smooth_panorama(256, 512)
    back = rotate_panorama(rotate_panorama(panorama, *rotation), *(-angle for angle in rotation))
    assert np.abs(back.astype(int) - panorama).max() <= 2


def test_rotating_upwards_brings_the_zenith_to_the_middle():
    panorama = np.zeros((64, 128, 3), np.uint8)
    panorama[:8] = 255
    rotated = rotate_panorama(panorama, pitch_deg=90.0)
    assert rotated[30:34, 62:66].min() == 255
    assert rotated[:, :32].max() == 0


def test_rolling_to_the_right_raises_what_stands_on_the_right():
    panorama = np.zeros((64, 128, 3), np.uint8)
    panorama[28:36, 92:100] = 255  # to the right, on the horizon
    rotated = rotate_panorama(panorama, roll_deg=90.0)
    assert rotated[:2].min() == 255
    assert rotated[8:].max() == 0


@pytest.mark.parametrize("rotation", [(0, 0, 0), (17.3, 0, 0), (10, 30, 20)])
@pytest.mark.parametrize("width", [256, 300])
def test_detail_finer_than_the_output_does_not_alias(rotation, width):
    stripes = np.arange(2048) % 2 * 255
    panorama = np.broadcast_to(stripes[None, :, None], (1024, 2048, 3)).astype(np.uint8)
    rotated = rotate_panorama(panorama, *rotation, width=width)
    one_stripe_left_over = 128 * width / 2048
    assert np.abs(rotated.astype(int) - 128).max() <= one_stripe_left_over + 1


def test_a_wider_panorama_has_no_seam():
    row = 127 + 100 * np.sin((np.arange(64) + 0.5) / 64 * 2 * np.pi)
    panorama = np.broadcast_to(row[None, :, None], (32, 64, 3)).astype(np.uint8)
    wide = rotate_panorama(panorama, width=512).astype(int)
    steps = np.abs(np.diff(wide, axis=1, append=wide[:, :1]))
    assert steps.max() <= 3


def test_samples_may_be_more_columns_than_opencv_maps_to():
    rotated = rotate_panorama(smooth_panorama(64, 17000), 10.0, 20.0)
    rays = panorama_rays(64, 17000) @ View(10.0, 20.0).axes().T
    assert np.abs(rotated - colours(rays)).max() < 2.0


def test_rotating_holds_one_more_picture_and_a_band_at_most():
    panorama = noise(1000, 2000)
    tracemalloc.start()
    try:
        rotate_panorama(panorama, 10.0, 20.0, 30.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Full-size maps alone would be 64 MB; OpenCV's arrays are traced as numpy's.
    assert peak < 2 * panorama.nbytes + 16_000_000


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 2, 3), (3, 5, 3), (10, 7, 3)])
@pytest.mark.parametrize("width", [None, 2, 8])
def test_tiny_pictures_are_rotated_too(shape, width):
    rotated = rotate_panorama(np.full(shape, 77, np.uint8), 10.0, 20.0, 30.0, width)
    np.testing.assert_array_equal(rotated, 77)


angles = st.floats(-180, 180)
pitches = st.floats(-90, 90) | st.sampled_from([-90.0, 0.0, 90.0])


@given(yaw=angles, pitch=pitches, roll=angles, by_yaw=angles, by_pitch=pitches, by_roll=angles)
@settings(max_examples=100, deadline=None)
def test_a_rotated_view_looks_where_the_view_of_the_rotated_panorama_does(
    yaw, pitch, roll, by_yaw, by_pitch, by_roll
):
    view, by = View(yaw, pitch, roll, 70.0), View(by_yaw, by_pitch, by_roll)
    expected = view.rays(3, 3) @ by.axes().T
    rotated = rotate_view(view, by)
    assert rotated.fov_deg == 70.0
    np.testing.assert_allclose(rotated.rays(3, 3), expected, atol=1e-5)


@pytest.mark.parametrize(
    "panorama",
    [np.zeros((4, 8), np.uint8), np.zeros((4, 8, 4), np.uint8), np.zeros((4, 8, 3), np.float32)],
)
def test_other_arrays_are_refused(panorama):
    with pytest.raises(PanoVLMError, match=r"expected uint8 \[H, W, 3\].*as_panorama"):
        rotate_panorama(panorama)


@pytest.mark.parametrize("width", [0, -2, 1, 33, 32768])
def test_odd_and_excessive_widths_are_refused(width):
    with pytest.raises(PanoVLMError, match="an even number from 2 to 32766; change width"):
        rotate_panorama(noise(8, 16), width=width)


def test_a_pitch_beyond_the_zenith_is_refused():
    with pytest.raises(PanoVLMError, match=r"found a pitch of 91°.*change pitch_deg"):
        rotate_panorama(noise(8, 16), pitch_deg=91.0)
