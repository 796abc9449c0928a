"""The quality of a view: PSNR and SSIM against a supersampled reference.

Shapes: S x S pixels of a view, K x K rays of a pixel, H x W panorama.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from panovlm.geometry.sphere import angles_from_rays, angles_to_pixels
from panovlm.geometry.views import View

RAYS = 8
"""K: rays along each side of a pixel of the reference."""
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Grid:
    """Where a renderer puts its pixel centres, set against half-integer centres.

    Attributes:
        scale: Spacing of the pixels, about the middle of the view.
        shift_px: Shift of the pixels to the right and down, in pixels of the view.
        panorama_shift_px: The same in pixels of the panorama, added where it is read.
    """

    scale: float = 1.0
    shift_px: float = 0.0
    panorama_shift_px: float = 0.0


HALF_INTEGER = Grid()


def end_point_grid(view_size: int) -> Grid:
    """Return the grid whose outermost pixel centres lie on the edges of the view."""
    return Grid(scale=view_size / (view_size - 1))


def reference(
    panorama: NDArray[np.uint8], view: View, view_size: int, grid: Grid = HALF_INTEGER
) -> NDArray[np.float32]:
    """Render a view as a pinhole camera with square pixels would see the panorama.

    Each pixel is the mean of K x K rays, evenly spaced over its square on the image plane. Each ray
    reads the full panorama bilinearly in float32, around the seam, clamped at the poles. Values are
    averaged as stored (gamma-encoded), as all renderers compared here do.

    Args:
        panorama: uint8 [H, W, 3].
        view: The view.
        view_size: S.
        grid: Where the pixel centres lie.

    Returns:
        float32 [S, S, 3], 0 to 255, unrounded.
    """
    rays = view_size * RAYS
    places = 0.5 + ((np.arange(rays) + 0.5) / rays - 0.5) * grid.scale + grid.shift_px / view_size
    picture = np.empty((view_size, view_size, 3), np.float32)
    for row in range(view_size):  # one row of pixels at a time, to bound the memory
        down = places[row * RAYS : (row + 1) * RAYS, None]
        values = _read(panorama, view.rays_at(places[None, :], down), grid.panorama_shift_px)
        picture[row] = values.reshape(RAYS, view_size, RAYS, 3).mean(axis=(0, 2))
    return picture


def _read(panorama: NDArray[np.uint8], rays: Floats, shift_px: float) -> NDArray[np.float32]:
    """Read a panorama bilinearly along rays [..., 3], giving float32 [..., 3]."""
    height, width = panorama.shape[:2]
    places = angles_to_pixels(*angles_from_rays(rays), height, width)
    column, row = (place + shift_px for place in places)
    left, top = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
    across = (column - left).astype(np.float32)[..., None]
    down = (row - top).astype(np.float32)[..., None]
    columns = left % width, (left + 1) % width
    rows = np.clip(top, 0, height - 1), np.clip(top + 1, 0, height - 1)
    pixels = panorama.reshape(-1, 3)
    upper, lower = (
        pixels[each * width + columns[0]] * (1 - across)
        + pixels[each * width + columns[1]] * across
        for each in rows
    )
    return upper * (1 - down) + lower * down


def psnr_db(pictures: Floats, truth: Floats) -> float:
    """Compute the peak signal-to-noise ratio for a peak of 255, infinite for equal pictures.

    Args:
        pictures: Any shape, 0 to 255.
        truth: The same shape.
    """
    error = np.mean((np.asarray(pictures, np.float64) - truth) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(picture: Floats, truth: Floats) -> float:
    """Compute the mean structural similarity over the channels.

    Args:
        picture: [S, S, 3], 0 to 255, S of 11 or more.
        truth: The same shape.

    Returns:
        At most 1, which equal pictures have.

    Source:
        Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to
        structural similarity", IEEE TIP 13(4), 2004, eq. 13: Gaussian window 11 x 11 of deviation
        1.5, K1 = 0.01, K2 = 0.03, windows that lie wholly inside.
    """
    a, b = np.asarray(picture, np.float64), np.asarray(truth, np.float64)
    mean_a, mean_b = _windowed(a), _windowed(b)
    var_a, var_b = _windowed(a * a) - mean_a**2, _windowed(b * b) - mean_b**2
    covariance = _windowed(a * b) - mean_a * mean_b
    likeness = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    return float(np.mean(likeness / ((mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2))))


def _windowed(values: Floats) -> Floats:
    """Average with the Gaussian window, where it lies wholly inside."""
    edge = _WINDOW // 2
    return cv2.GaussianBlur(values, (_WINDOW, _WINDOW), _SIGMA)[edge:-edge, edge:-edge]
