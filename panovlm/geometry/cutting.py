"""Cutting views from a panorama: exact at pixel centres, smooth, without a seam.

For each perspective view the panorama is first reduced to the resolution the view can show, then
the view takes 2x2 samples per pixel through a cached fixed-point map (`sampling.py`). A global view
is an average of areas. Beside the panorama and the views, one reduced panorama is held at a time.

Shapes: V views, S x S pixels each, H x W panorama, h x w reduced panorama.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sampling import (
    SAMPLES,
    STEPS,
    Reduction,
    SampleMap,
    needed_width,
    reductions,
    sample_map,
    whole_columns,
)
from panovlm.geometry.sphere import Mask, Pixels, with_pole_rows
from panovlm.geometry.views import AnyView


def required_width(layout: ViewLayout) -> int:
    """Compute the columns a panorama needs to carry all the detail the views can show.

    For level views of 90° it is 8.24 times the view size, set by their corners; for a global view
    alone it is twice the view size. More columns do not make the views sharper;
    `load_panorama(path, required_width(layout))` skips decoding them.
    """
    return max(needed_width(view, layout.view_size) for view in layout.views)


def cut_views(panorama: Pixels, layout: ViewLayout) -> Pixels:
    """Cut the views of a layout from a panorama.

    Rotating the panorama by the stride of a ring shifts the views by one, bit for bit, wherever
    that is a whole number of columns before and after the reduction to the views' resolution.

    Args:
        panorama: uint8 [H, W, 3], the full sphere. A picture that is not 2:1 is taken as stretched.
        layout: The views.

    Returns:
        uint8 [V, S, S, 3] in the order of `layout.views`.

    Raises:
        PanoVLMError: If the panorama is not a uint8 array [H, W, 3].
    """
    require_panorama(panorama)
    views = np.empty((layout.num_views, layout.view_size, layout.view_size, 3), np.uint8)
    for reduction in reductions(layout, *panorama.shape[:2]):
        _cut_reduced(panorama, layout, reduction, views)
    for view, pixels in zip(layout.views, views, strict=True):
        if view.is_global:
            _cut_global(panorama, view, pixels)
    return views


def require_panorama(pixels: Pixels) -> None:
    """Raise a PanoVLMError for what is no uint8 array [H, W, 3]."""
    if pixels.ndim != 3 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
        raise PanoVLMError(
            f"found a panorama of shape {pixels.shape} and type {pixels.dtype}, expected uint8 "
            "[H, W, 3]; pass it through as_panorama"
        )


def cut_mask(mask: Mask, layout: ViewLayout) -> Mask:
    """Compute which pixels of the views show only known pixels of a partial panorama.

    A pixel of a view counts where `cut_views` mixes it from known pixels and from no others; those
    of weight 0 beside a sample count too.

    Args:
        mask: bool [H, W], the full sphere: True where the panorama has pixels.
        layout: The views.

    Returns:
        bool [V, S, S] in the order of `layout.views`.

    Raises:
        PanoVLMError: If the mask is not a bool array [H, W].
    """
    if mask.ndim != 2 or mask.size == 0 or mask.dtype != np.bool_:
        raise PanoVLMError(
            f"found a mask of shape {mask.shape} and type {mask.dtype}, expected bool [H, W]; "
            "compare it with a number first"
        )
    size = layout.view_size
    known = np.empty((layout.num_views, size, size), np.bool_)
    for reduction in reductions(layout, *mask.shape):
        corners = _all_around(_all_of_area(mask, reduction.height, reduction.width))
        for index in reduction.views:
            where, shift = sample_map(layout.views[index], size, reduction.height, reduction.width)
            columns, rows = np.moveaxis(where.coarse.astype(np.int64), -1, 0)
            columns = (columns + where.left + shift) % reduction.width
            samples = corners[rows + where.top + 1, columns]
            known[index] = samples.reshape(size, SAMPLES, size, SAMPLES).all(axis=(1, 3))
    for view, pixels in zip(layout.views, known, strict=True):
        if view.is_global:
            rows_known = _all_of_area(mask, size, mask.shape[1])
            rotated = np.roll(rows_known, -whole_columns(view, mask.shape[1]), axis=1)
            pixels[:] = _all_of_area(rotated, size, size)
    return known


def _cut_reduced(panorama: Pixels, layout: ViewLayout, reduction: Reduction, views: Pixels) -> None:
    """Fill in the views [V, S, S, 3] that are cut from the same reduced panorama."""
    reduced = resize_by_area(panorama, reduction.height, reduction.width)
    size = layout.view_size
    for index in reduction.views:
        where, shift = sample_map(layout.views[index], size, reduction.height, reduction.width)
        samples = _sample(reduced, where, shift)
        cv2.resize(samples, (size, size), dst=views[index], interpolation=cv2.INTER_AREA)


def resize_by_area(picture: Pixels, height: int, width: int) -> Pixels:
    """Resize a picture by averaging areas; the same size returns the same picture."""
    if picture.shape[:2] == (height, width):
        return picture
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return resized.astype(np.uint8, copy=False)


def _sample(reduced: Pixels, where: SampleMap, shift: int) -> Pixels:
    """Sample a panorama [h, w, 3] for a view, its map shifted by whole columns, [2S, 2S, 3]."""
    height, width = reduced.shape[:2]
    left = (where.left + shift) % width
    right = left + where.right - where.left
    if where.top >= 0 and where.bottom <= height and right <= width:
        source, coarse = reduced[where.top : where.bottom, left:right], where.coarse
    else:  # moving the map, not the picture, spares a copy of what may be a large part of it
        source, coarse = reduced, _wrapped(where, left, width)
    samples = cv2.remap(
        source, coarse, where.fine, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
    ).astype(np.uint8, copy=False)
    if where.polar.size:
        samples.reshape(-1, 3)[where.polar] = _sample_poles(reduced, where, shift)
    return samples


def _wrapped(where: SampleMap, left: int, width: int) -> NDArray[np.int16]:
    """Move a coarse map to where it begins in a whole panorama, its columns wrapped around."""
    # A place is moved as one int32, its column in the lower half: several times faster than apart.
    places = where.coarse.view(np.int32) + np.int32((where.top << 16) + left)
    places -= np.int32(width) * ((places & 0xFFFF) >= width)
    return places.view(np.int16)


def _sample_poles(reduced: Pixels, where: SampleMap, shift: int) -> Pixels:
    """Sample between an outermost row and itself, continued over a pole, [M, 3]."""
    height, width = reduced.shape[:2]
    column, row = where.coarse.reshape(-1, 2)[where.polar].astype(np.int64).T
    column, row = column + where.left + shift, row + where.top
    below, beside = np.divmod(where.fine.ravel()[where.polar].astype(np.int64), STEPS)
    total = np.zeros((where.polar.size, 3), np.int64)
    for rows, row_share in ((row, STEPS - below), (row + 1, below)):
        beyond = (rows < 0) | (rows >= height)
        half_circle = np.where(beyond, width // 2, 0)  # beyond a pole lies the row's other side
        for columns, share in ((column, STEPS - beside), (column + 1, beside)):
            pixels = reduced[np.clip(rows, 0, height - 1), (columns - half_circle) % width]
            total += (row_share * share)[:, None] * pixels
    return ((total + STEPS**2 // 2) // STEPS**2).astype(np.uint8)


def _cut_global(panorama: Pixels, view: AnyView, pixels: Pixels) -> None:
    """Fill in a global view [S, S, 3]: each pixel is the average of its area of the panorama.

    It is rotated by the whole columns nearest to its yaw, in bands of rows, since rotating copies.
    """
    height, width = panorama.shape[:2]
    size = len(pixels)
    shift = whole_columns(view, width)
    num_bands = math.gcd(height, size)
    bands = zip(np.split(panorama, num_bands), np.split(pixels, num_bands), strict=True)
    for band, target in bands:
        rotated = np.roll(band, -shift, axis=1) if shift else band
        if height < size:  # OpenCV averages along one axis only if it adds nothing along the other
            rotated = resize_by_area(rotated, len(band), size)
        cv2.resize(rotated, target.shape[1::-1], dst=target, interpolation=cv2.INTER_AREA)


def _all_of_area(mask: Mask, height: int, width: int) -> Mask:
    """Reduce a mask to a size: True where all pixels are that a pixel's area touches."""
    for axis, size in enumerate((height, width)):
        edges = np.arange(size + 1) * mask.shape[axis]
        first, last = edges[:-1] // size, -(-edges[1:] // size) - 1
        mask = np.logical_and.reduceat(mask, first, axis=axis) & mask.take(last, axis=axis)
    return mask


def _all_around(mask: Mask) -> Mask:
    """Check for each place between four pixels whether all are known, [h + 1, w].

    Row r lies between the rows r - 1 and r; the first and the last one lie on the poles.
    """
    rows = with_pole_rows(mask)
    pairs = rows[:-1] & rows[1:]
    around: Mask = pairs & np.roll(pairs, -1, axis=1)
    return around
