"""Cutting perspective views from a panorama: exact at pixel centres, smooth, without a seam.

The panorama is first reduced to the resolution the views can show, then each view takes 2x2 samples
per pixel through a cached fixed-point map. Level views of a ring share one map: a yaw is a shift of
columns.

Shapes: V views, S x S pixels each, H x W panorama.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import PanoVLMError
from .layouts import ViewLayout
from .panorama import Pixels
from .sphere import angles_from_rays, wrap_deg
from .views import View

_SAMPLES = 2
"""Samples per pixel along each axis."""


@lru_cache(maxsize=64)
def required_width(layout: ViewLayout) -> int:
    """Give the columns a panorama needs to carry all the detail the views can show.

    For level views of 90° it is 8.24 times the view size, set by their corners. More columns do not
    make the views sharper; `load_panorama(path, required_width(layout))` skips decoding them.

    Args:
        layout: The views.
    """
    finest_rad = min(view.finest_step_rad(layout.view_size) for view in layout.views)
    return math.ceil(2 * math.pi / finest_rad)


def cut_views(panorama: Pixels, layout: ViewLayout) -> Pixels:
    """Cut the views of a layout from a panorama.

    Turning the panorama by the stride of a ring shifts the views by one, bit for bit, wherever that
    is a whole number of columns before and after the reduction to the views' resolution.

    Args:
        panorama: uint8 [H, W, 3], the full sphere. A picture that is not 2:1 is taken as stretched.
        layout: The views.

    Returns:
        uint8 [V, S, S, 3] in the order of `layout.views`.

    Raises:
        PanoVLMError: If the panorama is not a uint8 array [H, W, 3].
    """
    if panorama.ndim != 3 or panorama.shape[-1] != 3 or panorama.dtype != np.uint8:
        raise PanoVLMError(
            f"found a panorama of shape {panorama.shape} and type {panorama.dtype}, expected uint8 "
            "[H, W, 3]; pass it through as_panorama"
        )
    panorama = _reduced(panorama, layout)
    height, width = panorama.shape[:2]
    shifts = [_whole_columns(view, width) for view in layout.views]
    windows = [
        _window(_unshifted(view, shift, width), layout.view_size, height, width)
        for view, shift in zip(layout.views, shifts, strict=True)
    ]
    surroundings = _Surroundings.of(panorama, shifts, windows)
    views = np.empty((layout.num_views, layout.view_size, layout.view_size, 3), np.uint8)
    for view, shift, window in zip(views, shifts, windows, strict=True):
        samples = cv2.remap(
            surroundings.piece(window, shift),
            window.coarse_map,
            window.fine_map,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        cv2.resize(samples, view.shape[:2], dst=view, interpolation=cv2.INTER_AREA)
    return views


@dataclass(frozen=True)
class _Window:
    """Where one view reads the panorama, before its shift by whole columns.

    Attributes:
        top: First row read; -1 is the row beyond the upper pole.
        bottom: Row after the last one read.
        left: First column read; columns wrap around.
        right: Column after the last one read.
        coarse_map: Whole-pixel part of the samples' places in the window, int16 [2S, 2S, 2].
        fine_map: Fractional part in OpenCV's interpolation table, uint16 [2S, 2S].
    """

    top: int
    bottom: int
    left: int
    right: int
    coarse_map: NDArray[np.int16]
    fine_map: NDArray[np.uint16]


@lru_cache(maxsize=32)
def _window(view: View, view_size: int, height: int, width: int) -> _Window:
    """Work out where a view's samples lie in a panorama of a given size."""
    yaw_rad, pitch_rad = angles_from_rays(view.rays(_SAMPLES * view_size, _SAMPLES * view_size))
    columns = (yaw_rad / (2 * np.pi) + 0.5) * width - 0.5
    rows = (0.5 - pitch_rad / np.pi) * height - 0.5
    left, top = math.floor(columns.min()), math.floor(rows.min())
    right, bottom = math.floor(columns.max()) + 2, math.floor(rows.max()) + 2
    coarse_map, fine_map = cv2.convertMaps(
        (columns - left).astype(np.float32), (rows - top).astype(np.float32), cv2.CV_16SC2
    )
    return _Window(
        top, bottom, left, right, coarse_map.astype(np.int16), fine_map.astype(np.uint16)
    )


@dataclass(frozen=True)
class _Surroundings:
    """The part of a panorama that the views read, continued around the seam and over the poles.

    Attributes:
        pixels: uint8 [rows, columns, 3].
        top: Panorama row of the first row.
        left: Panorama column of the first column.
    """

    pixels: Pixels
    top: int
    left: int

    @classmethod
    def of(cls, panorama: Pixels, shifts: list[int], windows: list[_Window]) -> "_Surroundings":
        """Copy what the windows, shifted by whole columns, read of a panorama."""
        height, width = panorama.shape[:2]
        top = min(window.top for window in windows)
        bottom = max(window.bottom for window in windows)
        left = min(shift + window.left for shift, window in zip(shifts, windows, strict=True))
        right = max(shift + window.right for shift, window in zip(shifts, windows, strict=True))
        top_inside = max(top, 0)
        rows = panorama[top_inside : min(bottom, height)]
        if top < 0 or bottom > height:
            above, below = (
                panorama[: top_inside - top],
                panorama[min(2 * height - bottom, height) :],
            )
            half_turn = width // 2  # the row beyond a pole is the same row on the other side
            rows = np.concatenate(
                [np.roll(above, half_turn, axis=1), rows, np.roll(below, half_turn, axis=1)]
            )
        before, after = max(-left, 0), max(right - width, 0)
        pixels = cv2.copyMakeBorder(rows, 0, 0, before, after, cv2.BORDER_WRAP)
        return cls(pixels.astype(np.uint8, copy=False), top, -before)

    def piece(self, window: _Window, shift: int) -> Pixels:
        """Give the pixels under one window shifted by whole columns."""
        top, left = window.top - self.top, window.left + shift - self.left
        height, width = window.bottom - window.top, window.right - window.left
        return self.pixels[top : top + height, left : left + width]


def _whole_columns(view: View, width: int) -> int:
    """Give the whole number of panorama columns nearest to a view's yaw."""
    return round(wrap_deg(view.yaw_deg) * width / 360.0)


def _unshifted(view: View, shift: int, width: int) -> View:
    """Turn a view back by whole columns; views that then coincide share one map."""
    left_over = round(wrap_deg(view.yaw_deg) * width / 360.0 - shift, 6)
    return replace(view, yaw_deg=left_over * 360.0 / width)


def _reduced(panorama: Pixels, layout: ViewLayout) -> Pixels:
    """Average a panorama down to the views' resolution, so that they do not alias."""
    height, width = panorama.shape[:2]
    factor = _reduction(layout, height, width)
    if factor == 1:
        return panorama
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    return cv2.resize(panorama, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _reduction(layout: ViewLayout, height: int, width: int) -> int:
    """Give the whole factor to reduce a panorama by, keeping the views' required width.

    A factor that divides the picture and the views' shifts keeps those shifts whole; it is taken
    unless it falls short of the largest factor by more than half.
    """
    largest = max(width // required_width(layout), 1)
    shifts = [_whole_columns(view, width) for view in layout.views]
    whole = [
        shift
        for view, shift in zip(layout.views, shifts, strict=True)
        if _unshifted(view, shift, width).yaw_deg == 0.0
    ]
    common = math.gcd(height, width, *whole)
    exact = max(factor for factor in range(1, largest + 1) if common % factor == 0)
    return exact if 2 * exact >= largest else largest
