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
from panovlm.geometry.sphere import Pixels
from panovlm.geometry.views import AnyView

Mask = NDArray[np.bool_]


def required_width(layout: ViewLayout) -> int:
    """Give the columns a panorama needs to carry all the detail the views can show.

    For level views of 90° it is 8.24 times the view size, set by their corners; for a global view
    alone it is twice the view size. More columns do not make the views sharper;
    `load_panorama(path, required_width(layout))` skips decoding them.

    Args:
        layout: The views.
    """
    return max(needed_width(view, layout.view_size) for view in layout.views)


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
    require_panorama(panorama)
    views = np.empty((layout.num_views, layout.view_size, layout.view_size, 3), np.uint8)
    for reduction in reductions(layout, *panorama.shape[:2]):
        _cut_alike(panorama, layout, reduction, views)
    for view, pixels in zip(layout.views, views, strict=True):
        if view.is_global:
            _squeeze(panorama, view, pixels)
    return views


def require_panorama(pixels: Pixels) -> None:
    """Refuse what is no uint8 array [H, W, 3].

    Raises:
        PanoVLMError: If it is none.
    """
    if pixels.ndim != 3 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
        raise PanoVLMError(
            f"found a panorama of shape {pixels.shape} and type {pixels.dtype}, expected uint8 "
            "[H, W, 3]; pass it through as_panorama"
        )


def cut_mask(mask: Mask, layout: ViewLayout) -> Mask:
    """Give which pixels of the views see only pixels that are there, in a partial panorama.

    A pixel of a view is seen where `cut_views` mixes it from pixels that are there and from no
    others; those of weight 0 beside a sample count too.

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
    seen = np.empty((layout.num_views, size, size), np.bool_)
    for reduction in reductions(layout, *mask.shape):
        whole = _all_around(_all_of_area(mask, reduction.height, reduction.width))
        for place in reduction.views:
            view = layout.views[place]
            where, shift = sample_map(view, size, reduction.height, reduction.width)
            columns, rows = np.moveaxis(where.coarse.astype(np.int64), -1, 0)
            samples = whole[rows + where.top + 1, (columns + where.left + shift) % reduction.width]
            seen[place] = samples.reshape(size, SAMPLES, size, SAMPLES).all(axis=(1, 3))
    for view, pixels in zip(layout.views, seen, strict=True):
        if view.is_global:
            rows_whole = _all_of_area(mask, size, mask.shape[1])
            turned = np.roll(rows_whole, -whole_columns(view, mask.shape[1]), axis=1)
            pixels[:] = _all_of_area(turned, size, size)
    return seen


def _cut_alike(panorama: Pixels, layout: ViewLayout, reduction: Reduction, views: Pixels) -> None:
    """Fill in the views [V, S, S, 3] that are cut from the same reduced panorama."""
    reduced = averaged(panorama, reduction.height, reduction.width)
    size = layout.view_size
    for place in reduction.views:
        where, shift = sample_map(layout.views[place], size, reduction.height, reduction.width)
        samples = _sampled(reduced, where, shift)
        cv2.resize(samples, (size, size), dst=views[place], interpolation=cv2.INTER_AREA)


def averaged(picture: Pixels, height: int, width: int) -> Pixels:
    """Reduce a picture to a size by averaging areas; the same size is the same picture."""
    if picture.shape[:2] == (height, width):
        return picture
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return resized.astype(np.uint8, copy=False)


def _sampled(reduced: Pixels, where: SampleMap, shift: int) -> Pixels:
    """Sample a panorama [h, w, 3] at a view's places shifted by whole columns, [2S, 2S, 3]."""
    height, width = reduced.shape[:2]
    left = (where.left + shift) % width
    right = left + where.right - where.left
    if where.top >= 0 and where.bottom <= height and right <= width:
        source, coarse = reduced[where.top : where.bottom, left:right], where.coarse
    else:  # moving the map, not the picture, spares a copy of what may be a large part of it
        source, coarse = reduced, _around(where, left, width)
    samples = cv2.remap(
        source, coarse, where.fine, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
    ).astype(np.uint8, copy=False)
    if where.polar.size:
        samples.reshape(-1, 3)[where.polar] = _over_the_poles(reduced, where, shift)
    return samples


def _around(where: SampleMap, left: int, width: int) -> NDArray[np.int16]:
    """Move a coarse map to where it begins in a whole panorama, its columns wrapped around."""
    # A place is moved as one int32, its column in the lower half: several times faster than apart.
    places = where.coarse.view(np.int32) + np.int32((where.top << 16) + left)
    places -= np.int32(width) * ((places & 0xFFFF) >= width)
    return places.view(np.int16)


def _over_the_poles(reduced: Pixels, where: SampleMap, shift: int) -> Pixels:
    """Sample where a row and itself, continued over a pole, lie around the place, [M, 3]."""
    height, width = reduced.shape[:2]
    column, row = where.coarse.reshape(-1, 2)[where.polar].astype(np.int64).T
    column, row = column + where.left + shift, row + where.top
    below, beside = np.divmod(where.fine.ravel()[where.polar].astype(np.int64), STEPS)
    total = np.zeros((where.polar.size, 3), np.int64)
    for rows, row_share in ((row, STEPS - below), (row + 1, below)):
        beyond = (rows < 0) | (rows >= height)
        half_turn = np.where(beyond, width // 2, 0)  # beyond a pole lies the row's other side
        for columns, share in ((column, STEPS - beside), (column + 1, beside)):
            pixels = reduced[np.clip(rows, 0, height - 1), (columns - half_turn) % width]
            total += (row_share * share)[:, None] * pixels
    return ((total + STEPS**2 // 2) // STEPS**2).astype(np.uint8)


def _squeeze(panorama: Pixels, view: AnyView, pixels: Pixels) -> None:
    """Fill in a global view [S, S, 3]: each pixel is the average of its area of the panorama.

    It is turned by the whole columns nearest to its yaw, in bands of rows, since turning copies.
    """
    height, width = panorama.shape[:2]
    size = len(pixels)
    shift = whole_columns(view, width)
    num_bands = math.gcd(height, size)
    bands = zip(np.split(panorama, num_bands), np.split(pixels, num_bands), strict=True)
    for band, squeezed in bands:
        turned = np.roll(band, -shift, axis=1) if shift else band
        if height < size:  # OpenCV averages along one axis only if it adds nothing along the other
            turned = averaged(turned, len(band), size)
        cv2.resize(turned, squeezed.shape[1::-1], dst=squeezed, interpolation=cv2.INTER_AREA)


def _all_of_area(mask: Mask, height: int, width: int) -> Mask:
    """Reduce a mask to a size: True where all pixels are that a pixel's area touches."""
    for axis, size in enumerate((height, width)):
        edges = np.arange(size + 1) * mask.shape[axis]
        first, last = edges[:-1] // size, -(-edges[1:] // size) - 1
        mask = np.logical_and.reduceat(mask, first, axis=axis) & mask.take(last, axis=axis)
    return mask


def _all_around(mask: Mask) -> Mask:
    """Say for each place between four pixels whether all are there, [h + 1, w], around the sphere.

    Row r lies between the rows r - 1 and r; the first and the last one lie on the poles.
    """
    half_turn = mask.shape[1] // 2
    above, below = (np.roll(row, half_turn, axis=1) for row in (mask[:1], mask[-1:]))
    rows = np.concatenate([above, mask, below])
    pairs = rows[:-1] & rows[1:]
    around: Mask = pairs & np.roll(pairs, -1, axis=1)
    return around
