"""How nearly partners look the same way, for both pairings and any layout."""

import numpy as np
import pytest

from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import angles_between, angles_from_rays, rays_from_angles
from panovlm.geometry.views import GlobalView, View
from panovlm.training.overlap.partners import column_pairs, ray_pairs

RING = ViewLayout.ring(8, 90.0)
LAYOUTS = [RING, ViewLayout.ring(5, 100.0), ViewLayout((View(0), View(30, 20, 10, 60)), 64)]


def mixed_rays(pairs, layout, rows, columns):
    """The partners' places on the image plane, mixed from the rays of their tokens."""
    rays = layout.rays(rows, columns).reshape(layout.num_views, -1, 3)
    axes = layout.rays(1, 1)[:, 0, 0][pairs.views[:, 1]]
    own = rays[pairs.views[:, 1, None], pairs.partners]
    on_plane = own / np.sum(own * axes[:, None], axis=-1, keepdims=True)
    return np.sum(on_plane * pairs.shares[..., None], axis=1)


def test_columns_are_as_far_apart_as_perspective_makes_them():
    pairs = column_pairs(RING, 16, 16)
    assert pairs.num_view_pairs == 8
    assert len(pairs.tokens) == 8 * 16 * 8
    assert pairs.angles_deg.mean() == pytest.approx(6.65, abs=0.01)
    assert pairs.angles_deg.max() == pytest.approx(8.83, abs=0.01)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rays_meet_exactly_where_tokens_lie_around_them(layout):
    pairs = ray_pairs(layout, 12, 10)
    inside = pairs.weights > 1 - 1e-9
    assert inside.mean() > 0.5
    assert pairs.angles_deg[inside].max() < 1e-5
    tokens = layout.rays(12, 10).reshape(layout.num_views, -1, 3)[pairs.views[:, 0], pairs.tokens]
    apart = angles_between(tokens, mixed_rays(pairs, layout, 12, 10))
    np.testing.assert_allclose(np.degrees(apart), pairs.angles_deg, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_token_that_the_other_view_sees_has_a_partner_and_no_other(layout):
    pairs = ray_pairs(layout, 6, 6)
    for view, following in np.unique(pairs.views, axis=0):
        here = (pairs.views == [view, following]).all(axis=1)
        seen = layout.views[following].sees(layout.views[view].rays(6, 6)).ravel()
        assert pairs.tokens[here].tolist() == np.flatnonzero(seen).tolist()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shares_sum_to_one_and_weights_fall_towards_the_border_only(layout):
    pairs = ray_pairs(layout, 8, 8)
    assert (pairs.shares >= 0).all()
    np.testing.assert_allclose(pairs.shares.sum(axis=1), 1)
    assert (pairs.weights >= 0.25 - 1e-9).all()
    assert (pairs.weights <= 1).all()
    assert (pairs.angles_deg[pairs.weights < 1 - 1e-6] > 0).all()


def test_both_pairings_of_a_ring_close_on_themselves():
    for pairs in (column_pairs(RING, 4, 4), ray_pairs(RING, 4, 4)):
        assert [7, 0] in pairs.views.tolist()


def test_rotating_the_ring_leaves_its_pairs_alike():
    pairs = ray_pairs(RING, 6, 6)
    first = pairs.angles_deg[pairs.views[:, 0] == 0]
    for view in range(1, 8):
        np.testing.assert_allclose(pairs.angles_deg[pairs.views[:, 0] == view], first, atol=1e-6)


def test_views_that_do_not_overlap_have_no_pairs():
    pairs = ray_pairs(ViewLayout((View(0, fov_deg=60), View(180, fov_deg=60)), 32), 4, 4)
    assert pairs.num_view_pairs == len(pairs.tokens) == 0


def test_columns_need_a_ring():
    with pytest.raises(PanoVLMError, match="even ring"):
        column_pairs(ViewLayout.cubemap(), 4, 4)


def test_columns_of_a_ring_do_not_pair_with_a_global_view():
    with pytest.raises(PanoVLMError, match=r"even ring.*global view"):
        column_pairs(RING.with_global(), 4, 4)


def test_a_global_view_is_paired_with_every_other_both_ways():
    pairs = ray_pairs(RING.with_global(), 6, 6)
    found = [tuple(view_pair) for view_pair in np.unique(pairs.views, axis=0).tolist()]
    ring = [(view, (view + 1) % 8) for view in range(8)]
    both = [(view, 8) for view in range(8)] + [(8, view) for view in range(8)]
    assert found == sorted(ring + both)
    alone = (pairs.views < 8).all(axis=1)
    np.testing.assert_array_equal(pairs.angles_deg[alone], ray_pairs(RING, 6, 6).angles_deg)


def test_rays_that_meet_a_global_view_are_mixed_exactly_all_around():
    layout = RING.with_global()
    pairs = ray_pairs(layout, 8, 8)
    met = pairs.views[:, 1] == 8
    assert met.sum() == 8 * 64  # it sees every token of every view
    # Yaw and pitch of the four tokens, unwrapped around the first one's, mix to the ray's own.
    yaw, pitch = np.degrees(angles_from_rays(GlobalView().rays(8, 8))).reshape(2, -1)
    own = pairs.partners[met]
    offset = (yaw[own] - yaw[own[:, :1]] + 180) % 360 - 180
    assert np.abs(offset).max() == pytest.approx(45)  # next to each other, across the seam too
    mixed_yaw = yaw[own[:, 0]] + (offset * pairs.shares[met]).sum(axis=1)
    mixed_pitch = (pitch[own] * pairs.shares[met]).sum(axis=1)
    mixed = rays_from_angles(np.radians(mixed_yaw), np.radians(mixed_pitch))
    rays = layout.rays(8, 8).reshape(9, -1, 3)[pairs.views[met, 0], pairs.tokens[met]]
    np.testing.assert_allclose(angles_between(mixed, rays), 0, atol=1e-9)
    np.testing.assert_allclose(pairs.weights[met], 1)


def test_a_ray_at_the_seam_of_a_global_view_mixes_its_first_and_last_column():
    pairs = ray_pairs(ViewLayout((View(180, fov_deg=20), GlobalView()), 32), 1, 4)
    met = pairs.views[:, 1] == 1
    assert set(pairs.partners[met].ravel()) == {0, 3}
    np.testing.assert_allclose(pairs.shares[met].sum(axis=1), 1)


def test_only_towards_the_poles_a_global_view_has_a_border():
    pairs = ray_pairs(ViewLayout((View(0, 90), GlobalView(20)), 32), 8, 8)
    met = pairs.views[:, 1] == 1
    beyond = pairs.weights[met] < 1 - 1e-9
    _, pitch_rad = angles_from_rays(View(0, 90).rays(8, 8).reshape(-1, 3)[pairs.tokens[met]])
    np.testing.assert_array_equal(beyond, np.degrees(pitch_rad) > 90 - 180 / 16)


def test_tokens_of_a_global_view_meet_the_views_that_see_them():
    layout = ViewLayout((GlobalView(), View(30, 10, 5, 70)), 32)
    pairs = ray_pairs(layout, 16, 16)
    out = pairs.views[:, 0] == 0
    seen = layout.views[1].sees(layout.views[0].rays(16, 16)).ravel()
    assert pairs.tokens[out].tolist() == np.flatnonzero(seen).tolist()
    inside = out & (pairs.weights > 1 - 1e-9)
    assert inside.any()
    assert pairs.angles_deg[inside].max() < 1e-5
