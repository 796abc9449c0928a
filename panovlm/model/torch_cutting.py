"""Cutting views with torch, on whatever device the panoramas are: the same views as `cutting.py`.

It follows the same maps (`sampling.py`), and rounds where OpenCV rounds: after the reduction, after
each sample and after their average. So a model sees the same numbers whichever way they came.

Shapes: N panoramas, V views, S x S pixels each, H x W panorama.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sampling import (
    SAMPLES,
    STEPS,
    MapCache,
    SampleMap,
    reductions,
    sample_map,
    whole_columns,
)

_GRIDS: MapCache[Tensor] = MapCache()


def cut_views_torch(panoramas: Tensor, layout: ViewLayout) -> Tensor:
    """Cut the views of a layout from a batch of panoramas, on their device.

    The views are those of `cut_views` to within one level of 255, and equal but for a few values in
    a thousand that lie on the brink of rounding. Turning by the stride of a ring shifts them as it
    does there, bit for bit. They stay uint8: a quarter of the memory, and scaled and normalised by
    whatever feeds the model. The grids are kept on the device, up to `sampling.MAX_CACHE_BYTES`.

    Args:
        panoramas: uint8 [N, 3, H, W], the full sphere each, channels first as decoders on a GPU and
            models have them. A picture that is not 2:1 is taken as stretched.
        layout: The views.

    Returns:
        uint8 [N, V, 3, S, S] in the order of `layout.views`, on the panoramas' device.

    Raises:
        PanoVLMError: If the panoramas are not a uint8 tensor [N, 3, H, W].
    """
    if panoramas.ndim != 4 or panoramas.shape[1] != 3 or panoramas.dtype != torch.uint8:
        raise PanoVLMError(
            f"found panoramas of shape {tuple(panoramas.shape)} and type {panoramas.dtype}, "
            "expected uint8 [N, 3, H, W]; put the channels first and the values in 0 to 255"
        )
    height, width = panoramas.shape[2:]
    size = layout.view_size
    views = panoramas.new_empty((len(panoramas), layout.num_views, 3, size, size))
    for reduction in reductions(layout, height, width):
        pictures = _past_the_poles(_averaged(panoramas, reduction.height, reduction.width))
        for place in reduction.views:
            where, shift = sample_map(layout.views[place], size, reduction.height, reduction.width)
            views[:, place] = _sampled(_turned(pictures, shift), _grid(where, views.device))
    for place, view in enumerate(layout.views):
        if view.is_global:
            turned = panoramas.roll(-whole_columns(view, width), dims=-1)
            views[:, place] = _averaged(turned, size, size)
    return views


def _grid(where: SampleMap, device: torch.device) -> Tensor:
    """Give a map's samples as `grid_sample` takes them, float32 [2S, 2S, 2]."""

    def made() -> Tensor:
        _, _, height, width = where.key
        below, beside = np.divmod(where.fine, STEPS)
        columns = (where.coarse[..., 0] + where.left + beside / STEPS) % width
        rows = where.coarse[..., 1] + where.top + 1 + below / STEPS
        # From pixels to the span from -1 to 1 between the borders of the surrounded picture.
        spans = ((2 * columns + 1) / (width + 1) - 1, (2 * rows + 1) / (height + 2) - 1)
        with torch.inference_mode(False):  # a kept tensor must serve outside of inference too
            return torch.from_numpy(np.stack(spans, axis=-1).astype(np.float32)).to(device)

    return _GRIDS.get((where.key, device), made)


def _sampled(pictures: Tensor, grid: Tensor) -> Tensor:
    """Sample surrounded pictures [N, 3, h + 2, w + 1] for one view, [N, 3, S, S]."""
    grids = grid.expand(len(pictures), -1, -1, -1)
    samples = _rounded_up(functional.grid_sample(pictures, grids, align_corners=False))
    return _rounded_up(functional.avg_pool2d(samples, SAMPLES))


def _past_the_poles(pictures: Tensor) -> Tensor:
    """Add the row beyond each pole to pictures [N, 3, h, w]: the outermost one's other side."""
    half_turn = pictures.shape[-1] // 2
    above, below = (
        row.roll(half_turn, dims=-1) for row in (pictures[:, :, :1], pictures[:, :, -1:])
    )
    return torch.cat([above, pictures, below], dim=2)


def _turned(pictures: Tensor, shift: int) -> Tensor:
    """Turn pictures [..., w] to the left by whole columns and go on by one past the seam.

    All views of a ring are then sampled at the very same numbers, so that they shift bit for bit.
    """
    shift %= pictures.shape[-1]
    return torch.cat([pictures[..., shift:], pictures[..., : shift + 1]], dim=-1)


def _averaged(pictures: Tensor, height: int, width: int) -> Tensor:
    """Resize uint8 pictures [N, 3, H, W] by averaging areas, to whole numbers in float32.

    One picture at a time is turned into floats: at full size they are what takes memory.
    """
    rows, columns = pictures.shape[2:]
    if (rows, columns) == (height, width):
        return pictures.float()
    if rows % height or columns % width:
        averages = [
            _average_along(_average_along(picture.float(), width, 2), height, 1)
            for picture in pictures
        ]
    else:
        block = (rows // height, columns // width)
        averages = [functional.avg_pool2d(picture.float(), block) for picture in pictures]
    # OpenCV rounds halves up where it halves a picture, and to even numbers elsewhere.
    halved = (rows, columns) == (2 * height, 2 * width)
    return (_rounded_up if halved else torch.round)(torch.stack(averages))


def _average_along(picture: Tensor, size: int, axis: int) -> Tensor:
    """Average a picture [3, H, W] along an axis over `size` stretches, each of any real length."""
    length = picture.shape[axis]
    edges = np.arange(size + 1) * (length / size)
    first = np.floor(edges[:-1]).astype(np.int64)
    total = torch.zeros((), device=picture.device)
    for step in range(int((np.ceil(edges[1:]) - first).max())):
        pixel = first + step
        cover = np.minimum(edges[1:], pixel + 1) - np.maximum(edges[:-1], pixel)
        share = torch.from_numpy(cover.clip(0.0) * size / length).to(picture)
        place = torch.from_numpy(pixel.clip(max=length - 1)).to(picture.device)
        weights = share if axis == 2 else share[:, None]
        total = total + picture.index_select(axis, place) * weights
    return total


def _rounded_up(values: Tensor) -> Tensor:
    """Round to whole numbers, halves up."""
    return (values + 0.5).floor()
