"""Cutting with torch gives the views that OpenCV cuts, for any batch, layout and size."""

from functools import lru_cache

import cv2
import numpy as np
import pytest
import torch

from panovlm.errors import PanoVLMError
from panovlm.geometry.cutting import cut_views
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sampling import MapCache
from panovlm.geometry.sphere import panorama_rays
from panovlm.geometry.views import GlobalView, View
from panovlm.model import torch_cutting
from panovlm.model.torch_cutting import cut_views_torch

LAYOUTS = {
    "ring and global": ViewLayout.ring(8, 90.0, 40).with_global(),
    "seam and poles": ViewLayout.free(
        [(180, 0, 0, 90), (-179, -60, 30, 70), (30, 90, 0, 90), (77, -90, 0, 60)], 40
    ),
    "many needs": ViewLayout.free([(3.3, 10, 0, 20), (0, 0, 0, 70), (200, -30, 9, 120)], 40),
    "global, turned": ViewLayout((GlobalView(77.7), GlobalView(180)), 40),
}
SIZES = [(1, 1), (45, 90), (180, 361), (512, 1024), (513, 1027)]  # the last two are reduced


@lru_cache
def smooth(height, width):
    x, y, z = np.moveaxis(panorama_rays(height, width), -1, 0)
    return np.rint(127.5 + np.stack([100 * x, 60 * y + 50 * z * x, 90 * z], axis=-1)).astype(
        "uint8"
    )


@lru_cache
def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@lru_cache
def lifelike(height, width):
    """Noise of every scale, and edges: what pictures of the world are made of."""
    rng, total = np.random.default_rng(1), np.zeros((height, width, 3))
    for octave in range(1, 7):
        coarse = rng.normal(size=(2**octave, 2 ** (octave + 1), 3)) / octave
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return (127 + 60 * total + 60 * (total[..., :1] > 0)).clip(0, 255).astype(np.uint8)


def with_torch(panorama, layout):
    tensor = torch.from_numpy(panorama).permute(2, 0, 1)[None]
    views = cut_views_torch(tensor, layout)
    assert views.dtype == torch.uint8
    assert views.shape == (1, layout.num_views, 3, layout.view_size, layout.view_size)
    return views[0].permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("draw", [smooth, noise, lifelike])
def test_views_are_those_of_opencv_within_one_level(draw, size, layout):
    panorama = draw(*size)
    apart = np.abs(cut_views(panorama, layout).astype(int) - with_torch(panorama, layout))
    assert apart.max() <= 1


@pytest.mark.parametrize("size", [(256, 512), (512, 1024), (513, 1027)])
def test_hardly_a_value_differs_at_all(size):
    layout = LAYOUTS["seam and poles"]
    panorama = noise(*size)
    assert (cut_views(panorama, layout) != with_torch(panorama, layout)).mean() < 0.01


@pytest.mark.parametrize("size", [(256, 512), (513, 1027)])
def test_a_global_view_is_exactly_that_of_opencv_where_it_is_reduced(size):
    layout = ViewLayout((GlobalView(), GlobalView(90)), 40)
    panorama = noise(*size)
    np.testing.assert_array_equal(with_torch(panorama, layout), cut_views(panorama, layout))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_batch_gives_what_its_panoramas_give_alone(layout):
    pictures = (noise(200, 400), smooth(200, 400), lifelike(200, 400))
    batch = torch.stack([torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures])
    alone = torch.cat([cut_views_torch(batch[i : i + 1], layout) for i in range(3)])
    assert torch.equal(cut_views_torch(batch, layout), alone)


def test_turning_by_a_stride_shifts_the_views_bit_for_bit():
    layout = ViewLayout.ring(8, 90.0, 32).with_global()
    panorama = torch.from_numpy(noise(256, 512)).permute(2, 0, 1)[None]
    views = cut_views_torch(panorama, layout)
    turned = cut_views_torch(panorama.roll(-64, dims=-1), layout)
    assert torch.equal(turned[:, :8], views[:, :8].roll(-1, dims=1))
    assert torch.equal(turned[:, 8], views[:, 8].roll(-4, dims=-1))


def test_maps_are_kept_within_their_bound_and_change_nothing(monkeypatch):
    layout = LAYOUTS["many needs"]
    one_map = 8 * (2 * layout.view_size) ** 2
    cache = MapCache(2 * one_map)
    monkeypatch.setattr(torch_cutting, "_GRIDS", cache)
    panorama = noise(128, 256)
    bounded = with_torch(panorama, layout)
    assert cache.held_bytes == 2 * one_map
    monkeypatch.setattr(torch_cutting, "_GRIDS", MapCache())
    np.testing.assert_array_equal(with_torch(panorama, layout), bounded)
    np.testing.assert_array_equal(with_torch(panorama, layout), bounded)


def test_a_map_made_in_inference_serves_outside_of_it(monkeypatch):
    monkeypatch.setattr(torch_cutting, "_GRIDS", MapCache())
    layout = ViewLayout((View(0),), 16)
    panorama = torch.from_numpy(noise(32, 64)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        inside = cut_views_torch(panorama, layout)
    assert torch.equal(cut_views_torch(panorama, layout), inside)


@pytest.mark.parametrize(
    "panoramas",
    [
        torch.zeros(3, 4, 8, dtype=torch.uint8),
        torch.zeros(1, 4, 8, 3, dtype=torch.uint8),
        torch.zeros(1, 3, 4, 8),
    ],
)
def test_other_tensors_are_refused(panoramas):
    with pytest.raises(
        PanoVLMError, match=r"expected uint8 \[N, 3, H, W\]; put the channels first"
    ):
        cut_views_torch(panoramas, LAYOUTS["seam and poles"])
