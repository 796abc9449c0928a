"""Views projected back onto the sphere."""

import tracemalloc

import numpy as np
import pytest

from panovlm.errors import PanoVLMError
from panovlm.geometry.assembling import assemble_panorama
from panovlm.geometry.cutting import cut_views
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import panorama_rays
from panovlm.geometry.views import GlobalView, View


def smooth(rays):
    """A smooth function of direction, in three channels of 0..255."""
    return 127.5 + 90 * np.sin(2 * rays + np.roll(rays, 1, axis=-1))


@pytest.mark.parametrize(
    "layout",
    [
        ViewLayout.cubemap(256),
        ViewLayout.ring(8, 90, 256),
        ViewLayout.ring(3, 130, 256),
        ViewLayout.equirectangular(256),
        ViewLayout((View(20, 10), GlobalView(50)), 256),
    ],
)
def test_a_panorama_cut_and_assembled_is_itself_wherever_a_view_looks(layout):
    panorama = np.rint(smooth(panorama_rays(512, 1024))).astype(np.uint8)
    back, seen = assemble_panorama(cut_views(panorama, layout), layout, 128)
    truth = smooth(panorama_rays(128, 256))
    assert np.abs(back - truth)[seen].max() < 3
    assert np.abs(back - truth)[seen].mean() < 0.6
    assert (back[~seen] == 0).all()


def test_what_is_seen_is_what_the_views_see():
    layout = ViewLayout((View(170, 20, 30, 60), View(-100, -70)), 16)
    rays = panorama_rays(64, 128)
    _, seen = assemble_panorama(np.ones((2, 16, 16, 1)), layout, 64)
    assert (seen == np.any([view.sees(rays) for view in layout.views], axis=0)).all()


def test_overlapping_views_blend_without_an_edge():
    layout = ViewLayout.ring(8, 90, 32)
    values = np.arange(8.0)[:, None, None, None] * np.ones((1, 32, 32, 1))
    row = assemble_panorama(values, layout, 256)[0][128, :, 0]
    from_front_to_back = row[256:]  # left of the front 7 meets 0
    assert np.abs(np.diff(from_front_to_back)).max() < 0.1


def test_heat_maps_may_be_coarser_than_the_views():
    layout = ViewLayout.cubemap(224)
    heat, seen = assemble_panorama(np.full((6, 7, 7, 1), 0.25), layout, 50)
    assert seen.all()
    np.testing.assert_allclose(heat, 0.25, atol=1e-6)


def test_heat_maps_keep_small_and_large_values_and_any_number_of_channels():
    values = np.array([1e-30, 0.1, 3e7, -5.0, 0.0, 7.0])
    heat, seen = assemble_panorama(
        np.broadcast_to(values, (6, 5, 5, 6)), ViewLayout.cubemap(224), 32
    )
    assert heat.dtype == np.float32
    np.testing.assert_allclose(heat[seen], np.broadcast_to(values, heat.shape)[seen], rtol=1e-6)


def test_a_linear_heat_map_is_interpolated_exactly():
    view = View(20, 30, 40, 80)
    columns = np.arange(9.0)[None, None, :, None] * np.ones((1, 9, 1, 1))
    heat, seen = assemble_panorama(columns, ViewLayout((view,), 9), 180)
    across, _ = view.places_of(panorama_rays(180, 360)[seen])
    np.testing.assert_allclose(heat[seen][:, 0], (across * 9 - 0.5).clip(0, 8), atol=1e-5)


def test_where_no_view_looks_is_a_hole_even_beside_values_that_are_no_numbers():
    layout = ViewLayout((View(180, 0), View(0, 90)), 8)  # across the seam, over a pole
    views = np.full((2, 8, 8, 1), np.nan)
    heat, seen = assemble_panorama(views, layout, 40)
    assert 0.2 < seen.mean() < 0.6
    assert np.isnan(heat[seen]).all()
    assert (heat[~seen] == 0).all()


def test_a_single_pixel_is_spread_over_all_that_its_view_sees():
    heat, seen = assemble_panorama(np.full((1, 1, 1, 1), 3.0), ViewLayout((View(0),), 1), 20)
    np.testing.assert_allclose(heat[seen], 3, rtol=1e-6)


def test_bands_of_rows_make_no_difference(monkeypatch):
    layout = ViewLayout((View(170, 20, 30, 60), View(-100, -70), View(0, 60)), 16)
    views = np.random.default_rng(0).random((3, 16, 16, 2))
    whole, seen = assemble_panorama(views, layout, 64)
    monkeypatch.setattr("panovlm.geometry.assembling._BAND_PIXELS", 1)
    by_rows, seen_by_rows = assemble_panorama(views, layout, 64)
    np.testing.assert_array_equal(by_rows, whole)
    np.testing.assert_array_equal(seen_by_rows, seen)


def test_memory_is_little_more_than_that_of_the_panorama(monkeypatch):
    views = np.ones((6, 32, 32, 1), np.float32)
    result = 300 * 600 * (4 + 4 + 1)  # values, weights, seen
    monkeypatch.setattr("panovlm.geometry.assembling._BAND_PIXELS", 2**12)
    tracemalloc.start()
    assemble_panorama(views, ViewLayout.cubemap(32), 300)
    _, small = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    assemble_panorama(views, ViewLayout.cubemap(32), 600)
    _, large = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert large - small < 2 * (4 - 1) * result


@pytest.mark.parametrize("height", [0, -5])
def test_a_panorama_without_rows_is_refused(height):
    with pytest.raises(PanoVLMError, match="expected 1 or more; change height"):
        assemble_panorama(np.ones((1, 2, 2, 1)), ViewLayout((View(0),), 2), height)


@pytest.mark.parametrize("shape", [(8, 4, 4), (7, 4, 4, 3), (8, 4, 5, 3)])
def test_views_that_do_not_fit_the_layout_are_refused(shape):
    with pytest.raises(PanoVLMError, match=r"expected \[8, S, S, C\]"):
        assemble_panorama(np.zeros(shape), ViewLayout.ring(8), 16)


def test_a_global_view_shows_where_no_other_view_looks():
    layout = ViewLayout.ring(4, 100, 32).with_global()
    values = np.array([0, 0, 0, 0, 100.0])[:, None, None, None] * np.ones((1, 32, 32, 1))
    back, seen = assemble_panorama(values, layout, 128)
    others = np.any([view.sees(panorama_rays(128, 256)) for view in layout.views[:4]], axis=0)
    assert seen.all()
    np.testing.assert_allclose(back[~others], 100)
    assert back[others].mean() < 2  # but for a thin rim, where both count as little
    assert back[64].max() < 5


def test_a_global_view_is_projected_back_across_its_seam_and_up_to_its_poles():
    ramp = np.zeros((1, 4, 4, 1))
    ramp[0, :, 0], ramp[0, :, 3] = 100.0, 60.0
    back, _ = assemble_panorama(ramp, ViewLayout.equirectangular(4), 64)
    assert back[32, 0, 0] == pytest.approx(80, abs=1)
    assert back[32, -1, 0] == pytest.approx(80, abs=1)
    upright = np.array([0.0, 1, 2, 3])[None, :, None, None] * np.ones((1, 4, 4, 1))
    back, _ = assemble_panorama(upright, ViewLayout.equirectangular(4), 64)
    np.testing.assert_allclose(back[0], 0)
    np.testing.assert_allclose(back[-1], 3)
