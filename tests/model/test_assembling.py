"""Views drawn back onto the sphere."""

import numpy as np
import pytest

from panovlm.model.assembling import assemble_panorama
from panovlm.model.cutting import cut_views
from panovlm.model.errors import PanoVLMError
from panovlm.model.layouts import ViewLayout
from panovlm.model.sphere import panorama_rays
from panovlm.model.views import GlobalView, View


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


def test_a_global_view_is_drawn_back_across_its_seam_and_up_to_its_poles():
    ramp = np.zeros((1, 4, 4, 1))
    ramp[0, :, 0], ramp[0, :, 3] = 100.0, 60.0
    back, _ = assemble_panorama(ramp, ViewLayout.equirectangular(4), 64)
    assert back[32, 0, 0] == pytest.approx(80, abs=1)
    assert back[32, -1, 0] == pytest.approx(80, abs=1)
    upright = np.array([0.0, 1, 2, 3])[None, :, None, None] * np.ones((1, 4, 4, 1))
    back, _ = assemble_panorama(upright, ViewLayout.equirectangular(4), 64)
    np.testing.assert_allclose(back[0], 0)
    np.testing.assert_allclose(back[-1], 3)
