"""Rotating a whole panorama and bringing it to another width, without aliasing and without a seam.

Panoramas are worked on in bands of rows: beside the picture given and the one returned, at most one
more picture and the maps of one band are held.

Shapes: H x W panorama given, h x w panorama returned.
"""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from panovlm.errors import PanoVLMError
from panovlm.geometry.cutting import require_panorama, resize_by_area
from panovlm.geometry.sphere import Floats, Pixels, column_yaws_rad, with_pole_rows, wrap_deg
from panovlm.geometry.views import View

MAX_WIDTH = 32766
"""The widest panorama made: OpenCV maps to no more columns."""
_SAMPLES = 2
"""Samples per pixel along each axis."""
_BAND_SAMPLES = 2**18
"""Samples of a band of rows: few enough to stay in the processor's cache."""


def rotate_panorama(
    pixels: Pixels,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
    width: int | None = None,
) -> Pixels:
    """Compute the panorama that a camera rotated by these angles would have taken.

    What a view with these angles sees is the front of the panorama returned. A rotation by yaw
    alone, by a whole number of columns, moves columns and changes no pixel. Otherwise every pixel
    is the mean of 2x2 samples of the panorama, first averaged down to less than twice the width.

    Args:
        pixels: uint8 [H, W, 3], the full sphere. A picture that is not 2:1 is taken as stretched.
        yaw_deg: Rotation to the right, any angle in degrees.
        pitch_deg: Rotation upwards, in [-90, 90] degrees.
        roll_deg: Rotation about the optical axis; positive lowers the camera's right side.
        width: Columns of the panorama returned, w, even, at most `MAX_WIDTH`; None keeps H and W.

    Returns:
        uint8 [h, w, 3]; h is w/2 where a width is given.

    Raises:
        PanoVLMError: If the panorama is no uint8 array [H, W, 3], or an angle or the width is out
            of its range.
    """
    require_panorama(pixels)
    if width is not None:
        require_width("width", width)
    shape = pixels.shape[:2] if width is None else (width // 2, width)
    camera = View(yaw_deg, pitch_deg, roll_deg)
    shift = yaw_deg * pixels.shape[1] / 360.0
    is_shift = pitch_deg == roll_deg == 0.0 and abs(shift - round(shift)) < 1e-6
    if is_shift and shape[0] <= pixels.shape[0] and shape[1] <= pixels.shape[1]:
        return resize_by_area(np.roll(pixels, -round(shift), axis=1), *shape)
    return _sample(_reduce(pixels, shape), camera.axes(), shape)


def require_width(name: str, width: int) -> None:
    """Raise a PanoVLMError for a width that no panorama can have, calling it by a name."""
    if not 2 <= width <= MAX_WIDTH or width % 2:
        raise PanoVLMError(
            f"found {name} {width}, expected an even number from 2 to {MAX_WIDTH}; change {name}"
        )


def rotate_view(view: View, by: View) -> View:
    """Compute the view that sees in a panorama what `view` sees in the panorama rotated by `by`.

    Cutting it from the panorama given saves rotating the whole.

    Args:
        view: What is to be seen of the rotated panorama.
        by: The camera's rotation; its field of view is not used.
    """
    if by.pitch_deg == by.roll_deg == 0.0:  # exactly, so that level views stay level
        return replace(view, yaw_deg=wrap_deg(view.yaw_deg + by.yaw_deg))
    right, up, forward = (by.axes() @ view.axes()).T
    pitch_rad = np.arcsin(np.clip(forward[1], -1.0, 1.0))
    if abs(forward[1]) < 1.0 - 1e-12:
        yaw_rad = np.arctan2(forward[0], forward[2])
        roll_rad = np.arctan2(-right[1], up[1])
    else:  # at a pole a roll is a yaw
        yaw_rad, roll_rad = np.arctan2(-right[2], right[0]), 0.0
    yaw_deg, pitch_deg, roll_deg = (float(np.degrees(a)) for a in (yaw_rad, pitch_rad, roll_rad))
    return replace(view, yaw_deg=yaw_deg, pitch_deg=pitch_deg, roll_deg=roll_deg)


def _reduce(pixels: Pixels, shape: tuple[int, int]) -> Pixels:
    """Average a panorama down to less than twice [h, w] and add the rows beyond both poles."""
    height, width = (
        max(1, round(given / max(1, given // wanted)))
        for given, wanted in zip(pixels.shape[:2], shape, strict=True)
    )
    return with_pole_rows(resize_by_area(pixels, height, width))


def _sample(source: Pixels, axes: Floats, shape: tuple[int, int]) -> Pixels:
    """Sample a panorama with pole rows at every pixel of the rotated one, [h, w, 3]."""
    height, width = shape
    rotated = np.empty((height, width, 3), np.uint8)
    band = max(1, _BAND_SAMPLES // (_SAMPLES**2 * width))
    for top in range(0, height, band):
        rows = rotated[top : top + band]
        down = (top + (np.arange(_SAMPLES * len(rows)) + 0.5) / _SAMPLES) / height
        places = _places(axes, down, _SAMPLES * width, source.shape)
        # The samples are as many columns twice over; a map's shape is free.
        columns, place_rows = (each.reshape(-1, width) for each in places)
        samples = cv2.remap(
            source, columns, place_rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
        )
        samples = samples.reshape(len(down), _SAMPLES * width, 3)
        cv2.resize(samples, (width, len(rows)), dst=rows, interpolation=cv2.INTER_AREA)
    return rotated


def _places(
    axes: Floats, down: Floats, num_across: int, shape: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute where rows of the rotated panorama lie in the source, as columns and rows.

    Single precision is a thousandth of a pixel of the widest panorama.
    """
    height, width = shape[0] - 2, shape[1]
    yaw_rad = column_yaws_rad(num_across)
    pitch_rad = ((0.5 - down) * np.pi)[:, None]
    level = np.cos(pitch_rad).astype(np.float32)
    around = (axes[:, :1] * np.sin(yaw_rad) + axes[:, 2:] * np.cos(yaw_rad)).astype(np.float32)
    above = (axes[:, 1] * np.sin(pitch_rad)).astype(np.float32)  # [rows, 3]
    x, y, z = (level * around[axis] + above[:, axis, None] for axis in range(3))
    columns = (np.arctan2(x, z) / np.float32(2 * np.pi) + np.float32(0.5)) * width
    rows = (np.float32(0.5) - np.arctan2(y, np.hypot(x, z)) / np.float32(np.pi)) * height
    return columns - np.float32(0.5), rows + np.float32(0.5)


def roll_to_seam(pixels: Pixels, yaw_deg: float) -> Pixels:
    """Roll the columns of a panorama until a yaw is at its left and right edge, to half a pixel.

    Args:
        pixels: uint8 [H, W, 3], yaw 0 in the middle.
        yaw_deg: Positive to the right.
    """
    column = (yaw_deg / 360 + 0.5) * pixels.shape[1]
    return np.roll(pixels, -round(column), axis=1)


def tilt(pixels: Pixels, yaw_deg: float, from_pitch_deg: float, to_pitch_deg: float) -> Pixels:
    """Tilt a panorama until a place is at another pitch, its yaw as before, to half a pixel.

    Args:
        pixels: uint8 [H, W, 3], yaw 0 in the middle.
        yaw_deg: Of the place, positive to the right.
        from_pitch_deg: Its pitch, positive up.
        to_pitch_deg: The pitch that it is brought to.
    """
    ahead = rotate_panorama(pixels, yaw_deg, from_pitch_deg - to_pitch_deg)
    return np.roll(ahead, round(yaw_deg / 360 * pixels.shape[1]), axis=1)
