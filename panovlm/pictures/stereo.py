"""Panoramas for two eyes: the left eye's, at full size."""

import cv2
import numpy as np

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import Pixels, with_pole_rows
from panovlm.pictures.recognising import is_full_sphere

STEREO_PROJECTIONS = ("stereo-over-under", "stereo-side-by-side")
"""How two eyes' panoramas may lie in one picture."""


def left_eye(pixels: Pixels, arrangement: str, name: str, *, is_part: bool) -> Pixels:
    """Return the left eye's panorama: the upper or the left half.

    A sphere at half its height or width is stretched to 2:1; nothing else is resampled.

    Args:
        pixels: uint8 [H, W, 3], both eyes.
        arrangement: How they lie, one of `STEREO_PROJECTIONS`.
        name: What errors call the picture.
        is_part: Whether each eye sees a part of the sphere, as in 180° video; then the half is
            returned as it is.

    Returns:
        uint8 [h, w, 3].

    Raises:
        PanoVLMError: If the picture has no halves.

    Source:
        Spherical Video V2, box st3d: the left eye is on top, or on the left,
        https://github.com/google/spatial-media/blob/master/docs/spherical-video-v2-rfc.md.
    """
    axis = STEREO_PROJECTIONS.index(arrangement)
    if pixels.shape[axis] % 2:
        raise PanoVLMError(
            f"{name}: found {pixels.shape[1]}x{pixels.shape[0]}, expected an even "
            f"{('height', 'width')[axis]} that two eyes share; crop it or change --projection"
        )
    eye = np.ascontiguousarray(np.split(pixels, 2, axis)[0])
    full = [side * (1 + (number == axis)) for number, side in enumerate(eye.shape[:2])]
    if is_part or not is_full_sphere(full[1], full[0]):
        return eye
    return _stretched(eye, *full)


def _stretched(sphere: Pixels, height: int, width: int) -> Pixels:
    """Enlarge a sphere [h, w, 3] by whole factors, smoothly across the seam and the poles."""
    down, across = height // len(sphere), width // sphere.shape[1]
    bordered = np.pad(with_pole_rows(sphere), ((0, 0), (1, 1), (0, 0)), "wrap")
    size = (width + 2 * across, height + 2 * down)
    enlarged = cv2.resize(bordered, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    return np.ascontiguousarray(enlarged[down:-down, across:-across])
