"""Of a panorama for two eyes the left one is kept, to the pixel where nothing was scaled."""

import cv2
import numpy as np
import pytest
from odd_pictures import WORLD
from xmp_packets import colours

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import panorama_rays
from panovlm.pictures.stereo import STEREO_PROJECTIONS, left_eye

OVER_UNDER, SIDE_BY_SIDE = STEREO_PROJECTIONS
NOISE = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3), np.uint8)


@pytest.mark.parametrize("arrangement", STEREO_PROJECTIONS)
def test_the_left_eye_is_the_first_half(arrangement):
    both = np.concatenate(NOISE, axis=STEREO_PROJECTIONS.index(arrangement))
    np.testing.assert_array_equal(left_eye(both, arrangement, "p", is_part=False), NOISE[0])


@pytest.mark.parametrize("arrangement", STEREO_PROJECTIONS)
def test_a_sphere_of_half_the_size_is_stretched_in_place(arrangement):
    height, width = WORLD.shape[:2]
    size = (width, height // 2) if arrangement == OVER_UNDER else (width // 2, height)
    half = cv2.resize(WORLD, size, interpolation=cv2.INTER_AREA)
    both = np.concatenate([half, 255 - half], axis=STEREO_PROJECTIONS.index(arrangement))
    assert both.shape == WORLD.shape
    eye = left_eye(both, arrangement, "p", is_part=False)
    assert eye.shape == WORLD.shape
    assert cv2.absdiff(eye, colours(panorama_rays(height, width))).max() <= 3  # seam, poles too


def test_a_part_of_the_sphere_is_not_stretched():
    square = NOISE[:, :, :32]  # 180 x 180 degrees for each eye
    both = np.concatenate(square, axis=1)
    np.testing.assert_array_equal(left_eye(both, SIDE_BY_SIDE, "p", is_part=True), square[0])


@pytest.mark.parametrize(
    ("arrangement", "shape", "side"),
    [(OVER_UNDER, (33, 64), "height"), (SIDE_BY_SIDE, (32, 65), "width")],
)
def test_what_has_no_halves_is_refused(arrangement, shape, side):
    with pytest.raises(
        PanoVLMError, match=rf"p: found {shape[1]}x{shape[0]}, expected an even {side}"
    ):
        left_eye(np.zeros((*shape, 3), np.uint8), arrangement, "p", is_part=False)
