"""The same panorama after its camera has turned right, without reading it again.

In a ring of views, a rotation by whole strides changes their order and no pixel; in rows of views
as well.

Shapes: V views of S x S pixels.
"""

from dataclasses import replace

import torch

from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.inference.assistant import OpenedPanorama


def stride_deg(layout: ViewLayout) -> float | None:
    """Return the smallest yaw shift that changes only the order of views; None if there is none.

    The columns of global views behind the others are rolled, where a stride is whole columns.
    """
    others = layout.perspective
    if others is None or others.num_strides == 1:
        return None
    if layout.views[: others.num_views] != others.views:
        return None
    has_global = layout.num_views > others.num_views
    is_whole = layout.view_size % others.num_strides == 0
    return None if has_global and not is_whole else 360.0 / others.num_strides


def yaw_rotated(
    panorama: OpenedPanorama, layout: ViewLayout, yaw_shift_deg: float
) -> OpenedPanorama:
    """Return a panorama as it is seen after the camera has turned right.

    What was at yaw y is then at y - `yaw_shift_deg`, a whole number of the layout's strides.

    Raises:
        PanoVLMError: If no rotation maps the views to each other, or the shift is no whole number
            of strides.
    """
    stride, others = stride_deg(layout), layout.perspective
    if stride is None or others is None:
        raise PanoVLMError(
            f"found yaw_shift_deg {yaw_shift_deg:g} and a model whose views no rotation maps to "
            f"each other ({layout.describe()}), expected no rotation; leave yaw_shift_deg out"
        )
    num_strides = round(yaw_shift_deg / stride)
    if abs(yaw_shift_deg - num_strides * stride) > 1e-6:
        raise PanoVLMError(
            f"found yaw_shift_deg {yaw_shift_deg:g}, expected a whole number of strides of "
            f"{stride:g}°; change yaw_shift_deg"
        )
    rotated = panorama.views[:, list(others.order_after(num_strides))]
    around = panorama.views[:, others.num_views :]
    columns = num_strides * layout.view_size // others.num_strides
    views = torch.cat([rotated, around.roll(-columns, dims=-1)], dim=1)
    return replace(panorama, key=f"{panorama.key}+{num_strides % others.num_strides}", views=views)
