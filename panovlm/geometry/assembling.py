"""From views back to the panorama: the inverse of `cutting`, for pictures and for heat maps.

Shapes: V views, S x S pixels each, C channels, H x W panorama.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from panovlm.errors import PanoVLMError
from panovlm.geometry.boxes import PanoramaBox, ViewBox, view_box_to_panorama_box
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.places import panorama_to_rays
from panovlm.geometry.sphere import Floats, Mask
from panovlm.geometry.views import AnyView, GlobalView

_LEAST_WEIGHT = 1e-3
"""Of a view's very border and of a global view, which show where no other view does."""
_BORDER_TOLERANCE = 1e-12
"""Of a view's side: what lies on the border of two views must not slip between them by rounding."""
_BAND_PIXELS = 2**18
"""Pixels of the panorama worked on at a time, so that memory is that of the result."""
_SLIVER_PX = 1e-6


def assemble_panorama(
    views: NDArray[np.generic], layout: ViewLayout, height: int
) -> tuple[NDArray[np.float32], Mask]:
    """Project views back onto the whole sphere, blended where they overlap.

    A view counts most at its middle and least at its border, so that no edge shows. A global view,
    which is never sharp, counts as little as a border: it shows where no other view does. Between
    pixel centres views are interpolated bilinearly.

    Args:
        views: Numbers of any kind, [V, S, S, C]: pictures or maps of values, one for each view of
            the layout. S need not be the layout's.
        layout: The views.
        height: Rows of the panorama, H, 1 or more; it has 2·H columns.

    Returns:
        The panorama, float32 [H, 2·H, C], 0 where no view shows anything, and where any does, bool
        [H, 2·H].

    Raises:
        PanoVLMError: If the array does not hold square pictures, one for each view, or there are no
            rows.
    """
    if views.ndim != 4 or len(views) != layout.num_views or views.shape[1] != views.shape[2]:
        raise PanoVLMError(
            f"found views of shape {views.shape}, expected [{layout.num_views}, S, S, C], one "
            "square picture for each view of the layout"
        )
    if height < 1:
        raise PanoVLMError(f"found a panorama of {height} rows, expected 1 or more; change height")
    total = np.zeros((height, 2 * height, views.shape[-1]), np.float32)
    weights = np.zeros((height, 2 * height), np.float32)
    for view, pixels in zip(layout.views, views, strict=True):
        values_of_view = pixels.astype(np.float32)
        for rows, columns in _bands(view, height):
            rays = panorama_to_rays(columns[None] + 0.5, rows[:, None] + 0.5, height, 2 * height)
            across, down = view.places_of(rays)
            weight = _weight(view, across, down)
            seen = np.nonzero(weight)
            places = across[seen], down[seen]
            values = _interpolate(values_of_view, *places, wraps=view.is_global)
            band = rows[seen[0]], columns[seen[1]]
            weights[band] += weight[seen]
            total[band] += weight[seen][:, None] * values
    total /= np.maximum(weights, np.float32(_LEAST_WEIGHT))[..., None]
    return total, weights > 0


def _bands(view: AnyView, height: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield the rows and columns of the panorama that a view may see, a few rows at a time."""
    box = (
        PanoramaBox(0, 0, 2 * height, height)
        if isinstance(view, GlobalView)
        else view_box_to_panorama_box(ViewBox(0, 0, 1, 1), view, 1, height, 2 * height)
    )
    left, top = math.floor(box.left - _SLIVER_PX), math.floor(box.top - _SLIVER_PX)
    right = math.ceil(box.left + box.width + _SLIVER_PX)
    bottom = min(math.ceil(box.top + box.height + _SLIVER_PX), height)
    columns = np.arange(left, min(right, left + 2 * height)) % (2 * height)
    step = max(_BAND_PIXELS // len(columns), 1)
    for start in range(max(top, 0), bottom, step):
        yield np.arange(start, min(start + step, bottom)), columns


def _weight(view: AnyView, across: Floats, down: Floats) -> NDArray[np.float32]:
    """Compute how much a view counts at places of its picture [...]: 0 outside of it."""
    if view.is_global:
        return np.full(across.shape, _LEAST_WEIGHT, np.float32)
    inside = np.minimum.reduce([across, 1 - across, down, 1 - down])
    seen = inside >= -_BORDER_TOLERANCE  # false for NaN
    weight = np.where(seen, np.maximum(inside, _LEAST_WEIGHT), 0.0)
    return weight.astype(np.float32)


def _interpolate(
    pixels: NDArray[np.float32], across: Floats, down: Floats, *, wraps: bool
) -> NDArray[np.float32]:
    """Interpolate a picture [S, S, C] bilinearly at places [M], [M, C].

    Beyond the outer centres values stay those of the border, or where a picture `wraps` its left
    and right border meet.
    """
    last = len(pixels) - 1
    x, y = (p * len(pixels) - 0.5 for p in (across, down))
    x, y = x if wraps else np.clip(x, 0, last), np.clip(y, 0, last)
    left, upper = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    right = (left + 1) % len(pixels) if wraps else np.minimum(left + 1, last)
    lower = np.minimum(upper + 1, last)
    rightwards, downwards = (
        (p - whole).astype(np.float32)[..., None] for p, whole in ((x, left), (y, upper))
    )
    above = pixels[upper, left] * (1 - rightwards) + pixels[upper, right] * rightwards
    below = pixels[lower, left] * (1 - rightwards) + pixels[lower, right] * rightwards
    return np.asarray(above * (1 - downwards) + below * downwards)
