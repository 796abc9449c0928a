"""The same panorama after its camera has turned right, without reading it again.

In a ring of views, a rotation by whole strides is a roll of the views: no pixel changes.

Shapes: V views of S x S pixels.
"""

from dataclasses import replace

import torch

from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.inference.assistant import OpenedPanorama


def stride_deg(layout: ViewLayout) -> float | None:
    """Return the smallest yaw shift that only rolls a layout's views; None if there is none.

    Rolled are rings, and the columns of global views beside them where a stride is whole columns.
    """
    ring = layout.perspective
    if ring is None or not ring.is_ring or layout.views[: ring.num_views] != ring.views:
        return None
    has_global = layout.num_views > ring.num_views
    return None if has_global and layout.view_size % ring.num_views else ring.stride_deg


def yaw_rotated(
    panorama: OpenedPanorama, layout: ViewLayout, yaw_shift_deg: float
) -> OpenedPanorama:
    """Return a panorama as it is seen after the camera has turned right.

    What was at yaw y is then at y - `yaw_shift_deg`, a whole number of the layout's strides.

    Raises:
        PanoVLMError: If the layout is no ring, or the shift is no whole number of its strides.
    """
    stride = stride_deg(layout)
    if stride is None:
        raise PanoVLMError(
            f"found yaw_shift_deg {yaw_shift_deg:g} and a model whose views are no ring "
            f"({layout.describe()}), expected no rotation; leave yaw_shift_deg out"
        )
    num_strides = round(yaw_shift_deg / stride)
    if abs(yaw_shift_deg - num_strides * stride) > 1e-6:
        raise PanoVLMError(
            f"found yaw_shift_deg {yaw_shift_deg:g}, expected a whole number of strides of "
            f"{stride:g}°; change yaw_shift_deg"
        )
    num_ring = round(360.0 / stride)
    ring, others = panorama.views[:, :num_ring], panorama.views[:, num_ring:]
    columns = num_strides * layout.view_size // num_ring
    views = torch.cat([ring.roll(-num_strides, dims=1), others.roll(-columns, dims=-1)], dim=1)
    return replace(panorama, key=f"{panorama.key}+{num_strides % num_ring}", views=views)
