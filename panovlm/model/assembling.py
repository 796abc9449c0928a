"""Back from views to the panorama: the inverse of `cutting`, for pictures and for heat maps.

Shapes: V views, S x S pixels each, C channels, H x W panorama.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import PanoVLMError
from .layouts import ViewLayout
from .sphere import Floats, panorama_rays
from .views import AnyView

_LEAST_WEIGHT = 1e-3
"""Of a view's very border and of a global view, which show where no other view does."""
_BORDER_TOLERANCE = 1e-12
"""Of a view's side: what lies on the border of two views must not slip between them by rounding."""
_BAND_PIXELS = 2**18
"""Pixels of the panorama drawn at once: bounds the memory for rays."""


def assemble_panorama(
    views: NDArray[np.generic], layout: ViewLayout, height: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Draw views back onto the whole sphere, blended where they overlap.

    A view counts most at its middle and least at its border, so that no edge shows. A global view,
    which is never sharp, counts as little as a border: it shows where no other view does.

    Args:
        views: Numbers of any kind, [V, S, S, C], C at most 4; each a picture or a map of values
            that looks where the layout's view does. S need not be the layout's.
        layout: Where they look.
        height: Rows of the panorama, H, 1 or more; it has 2·H columns.

    Returns:
        The panorama, float32 [H, 2·H, C], 0 where no view looks, and where any does, bool
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
    weights = np.zeros((height, 2 * height, 1), np.float32)
    band = max(1, _BAND_PIXELS // (2 * height))
    for top in range(0, height, band):
        rows = slice(top, min(top + band, height))
        rays = panorama_rays(height, 2 * height, rows)
        for view, pixels in zip(layout.views, views, strict=True):
            _add_view(total[rows], weights[rows], view, pixels, rays)
    total /= np.maximum(weights, np.float32(_LEAST_WEIGHT))
    return total, weights[..., 0] > 0


def _add_view(
    total: NDArray[np.float32],
    weights: NDArray[np.float32],
    view: AnyView,
    pixels: NDArray[np.generic],
    rays: Floats,
) -> None:
    """Add what one view shows along rays [h, w, 3], and its weight: 0 where it does not look."""
    across, down = view.places_of(rays)
    inside = np.minimum.reduce([across, 1 - across, down, 1 - down])
    if view.is_global:
        inside = np.zeros_like(inside)
    seen = inside >= -_BORDER_TOLERANCE  # false for NaN
    weight = np.where(seen, np.maximum(inside, _LEAST_WEIGHT), 0.0)
    if not weight.any():
        return
    columns, rows = (np.nan_to_num(p, nan=-1.0) * len(pixels) - 0.5 for p in (across, down))
    values = cv2.remap(
        pixels.astype(np.float32),
        columns.astype(np.float32),
        rows.clip(0, len(pixels) - 1).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP if view.is_global else cv2.BORDER_REPLICATE,
    )
    shares = weight[..., None].astype(np.float32)
    total += shares * values.reshape(total.shape)
    weights += shares
