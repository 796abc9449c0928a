"""Maps are kept within their bytes, and a kept map is the map made anew."""

import numpy as np
import pytest

from panovlm.geometry import sampling
from panovlm.geometry.cutting import cut_views
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sampling import MapCache, needed_width, reductions, sample_map
from panovlm.geometry.views import View

MANY = ViewLayout.free([(7 * step, step, 0, 60 + step) for step in range(12)], 32)


def made(num_bytes):
    return lambda: np.zeros(num_bytes, np.uint8)


def test_the_cache_gives_what_it_holds_and_drops_the_longest_unused():
    cache = MapCache(100)
    first = cache.get("a", made(40))
    cache.get("b", made(40))
    assert cache.get("a", made(40)) is first
    cache.get("c", made(40))
    assert cache.held_bytes == 80
    assert cache.get("a", made(40)) is first
    dropped = made(40)()
    assert cache.get("b", lambda: dropped) is dropped


def test_a_map_larger_than_the_cache_is_given_and_not_kept():
    cache = MapCache(100)
    small = cache.get("small", made(60))
    assert cache.get("large", made(101)).nbytes == 101
    assert cache.held_bytes == 60
    assert cache.get("small", made(60)) is small


def test_the_cache_of_sample_maps_holds_its_bound(monkeypatch):
    cache = MapCache(100_000)
    monkeypatch.setattr(sampling, "_MAPS", cache)
    for place, view in enumerate(MANY.views):
        where, _ = sample_map(view, 32, 256, 512)
        assert cache.held_bytes <= 100_000
        assert cache.held_bytes >= min(place + 1, 3) * where.nbytes


def test_views_are_the_same_with_and_without_a_cache(monkeypatch):
    panorama = np.random.default_rng(0).integers(0, 256, (256, 512, 3), dtype=np.uint8)
    cut_views(panorama, MANY)
    cached = cut_views(panorama, MANY)
    monkeypatch.setattr(sampling, "_MAPS", MapCache(0))
    np.testing.assert_array_equal(cut_views(panorama, MANY), cached)


def test_views_of_a_ring_share_one_map():
    maps = [sample_map(view, 32, 256, 512)[0] for view in ViewLayout.ring(8, 90, 32).views]
    assert all(where is maps[0] for where in maps)
    assert maps[0].nbytes == 4 * 32**2 * 6 + maps[0].polar.nbytes


def test_views_of_like_need_share_a_reduction_and_global_views_have_none():
    zoom, wide = View(0, fov_deg=10), View(10, fov_deg=120)
    layout = ViewLayout((zoom, wide, View(90, fov_deg=10)), 64).with_global()
    groups = reductions(layout, 4096, 8192)
    assert sorted(group.views for group in groups) == [(0, 2), (1,)]
    for group in groups:
        for place in group.views:
            need = needed_width(layout.views[place], 64)
            assert need <= group.width < 2.1 * need


@pytest.mark.parametrize("width", [1, 300])
def test_small_panoramas_are_not_reduced(width):
    (group,) = reductions(MANY, width, width)
    assert (group.height, group.width) == (width, width)
    assert group.views == tuple(range(12))
