"""The same panorama after its camera has turned right, without reading it again.

In a ring of views, a turn by whole strides is a roll of the views: no pixel changes.

Shapes: V views of S x S pixels.
"""

from dataclasses import replace

import torch

from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.inference.assistant import OpenedPanorama

_TOLERANCE_DEG = 1e-6


def stride_deg(layout: ViewLayout) -> float | None:
    """Give the smallest turn that only rolls a layout's views; None if there is none.

    Rolled are rings, and the columns of global views beside them where a stride is whole columns.
    """
    ring = layout.perspective
    if ring is None or not ring.is_ring or layout.views[: ring.num_views] != ring.views:
        return None
    has_global = layout.num_views > ring.num_views
    return None if has_global and layout.view_size % ring.num_views else ring.stride_deg


def turned_right(panorama: OpenedPanorama, layout: ViewLayout, yaw_deg: float) -> OpenedPanorama:
    """Give a panorama as it is seen after the camera has turned right.

    What was at yaw y is at y - `yaw_deg` then, as `Scene.yaw_rotated` has it.

    Args:
        panorama: Its views [1, V, 3, S, S].
        layout: Of these views.
        yaw_deg: A whole number of strides, in degrees.

    Raises:
        PanoVLMError: If the layout is no ring, or the turn is no whole number of its strides.
    """
    stride = stride_deg(layout)
    if stride is None:
        raise PanoVLMError(
            f"found a turn of {yaw_deg:g}° and a model whose views are no ring "
            f"({layout.describe()}), expected no turn; leave turned_right_deg out"
        )
    steps = round(yaw_deg / stride)
    if abs(yaw_deg - steps * stride) > _TOLERANCE_DEG:
        raise PanoVLMError(
            f"found a turn of {yaw_deg:g}°, expected a whole number of strides of {stride:g}°; "
            "change turned_right_deg"
        )
    num_ring = round(360.0 / stride)
    ring, others = panorama.views[:, :num_ring], panorama.views[:, num_ring:]
    columns = steps * layout.view_size // num_ring
    views = torch.cat([ring.roll(-steps, dims=1), others.roll(-columns, dims=-1)], dim=1)
    return replace(panorama, key=f"{panorama.key}+{steps % num_ring}", views=views)
