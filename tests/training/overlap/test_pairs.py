"""Both pairings as tensors: the same partners as in `partners.py`, wrap-around included."""

import pytest
import torch

from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.training.overlap.pairs import pair_index
from panovlm.training.overlap.partners import ray_pairs

CPU = torch.device("cpu")
RING = ViewLayout.ring(8, 90.0)


def numbered(num_panoramas=2, num_views=4, rows=2, columns=5):
    """Tokens whose four features say panorama, view, row and column of each."""
    places = torch.cartesian_prod(*map(torch.arange, (num_panoramas, num_views, rows, columns)))
    return places.reshape(num_panoramas, num_views * rows * columns, 4).float()


def by_columns(latents, shared_columns):
    """The columns of neighbours one by one, sliced as simply as can be: [B·V, h·k, D] each."""
    current = latents[:, :, :, -shared_columns:]
    following = latents.roll(-1, dims=1)[:, :, :, :shared_columns]
    return current.flatten(0, 1).flatten(1, 2), following.flatten(0, 1).flatten(1, 2)


@pytest.mark.parametrize(("num_views", "fov_deg", "shared"), [(8, 90.0, 3), (4, 120.0, 1)])
def test_columns_are_the_slices_of_neighbours_bit_for_bit(num_views, fov_deg, shared):
    index = pair_index(ViewLayout.ring(num_views, fov_deg), 4, 6, "columns", CPU)
    tokens = torch.randn(3, num_views * 24, 5)
    found = [index.by_view_pair(side) for side in index.pair(tokens)]
    expected = by_columns(tokens.view(3, num_views, 4, 6, 5), shared)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("pairing", ["columns", "rays"])
def test_last_view_pairs_with_first(pairing):
    index = pair_index(ViewLayout.ring(4, 150.0), 2, 5, pairing, CPU)
    sides = index.pair(numbered())
    current, following = (index.by_view_pair(side) for side in sides)
    assert len(current) == 2 * 4  # P = B·V
    assert current[:, 0, 1].tolist() == [0, 1, 2, 3] * 2
    assert following[:, 0, 1].tolist() == [1, 2, 3, 0] * 2
    assert following[:, 0, 0].tolist() == current[:, 0, 0].tolist() == [0] * 4 + [1] * 4
    assert index.wrap_share == pytest.approx(1 / 4)


def test_rays_mix_what_their_pairs_say():
    pairs, index = ray_pairs(RING, 5, 5), pair_index(RING, 5, 5, "rays", CPU)
    tokens = torch.randn(2, 8 * 25, 3)
    current, following = index.pair(tokens)
    grid = tokens.view(2, 8, 25, 3)
    for place in range(0, len(pairs.tokens), 7):
        view, other = pairs.views[place]
        assert torch.equal(current[:, place], grid[:, view, pairs.tokens[place]])
        shares = torch.from_numpy(pairs.shares[place]).float()
        mixed = (grid[:, other, pairs.partners[place]] * shares[:, None]).sum(dim=1)
        torch.testing.assert_close(following[:, place], mixed)


def test_mixed_rays_look_where_their_tokens_look():
    index = pair_index(RING, 9, 9, "rays", CPU)
    rays = torch.from_numpy(RING.rays(9, 9)).float().view(1, -1, 3)
    current, following = index.pair(rays)
    apart_deg = torch.rad2deg(torch.acos(torch.cosine_similarity(current, following, dim=-1)))
    inside = index.weights > 1 - 1e-6
    assert apart_deg[0, inside].max() < 1.0  # a chord between neighbours, not the great circle


def test_pairs_of_views_with_fewer_tokens_are_filled_up():
    index = pair_index(RING.with_global(), 4, 4, "rays", CPU)
    counts = index.present.sum(dim=1)
    assert counts.min() < counts.max() == index.slots.shape[1]
    assert counts.sum() == len(index.tokens)
    there = index.slots[index.present]
    assert sorted(there.tolist()) == list(range(len(index.tokens)))
    assert torch.equal(index.view_pair_ids[there], index.present.nonzero()[:, 0])


def test_a_global_view_changes_nothing_between_the_others():
    with_global = pair_index(RING.with_global(), 4, 4, "rays", CPU)
    alone = pair_index(RING, 4, 4, "rays", CPU)
    between = (with_global.views < 8).all(dim=1)
    assert torch.equal(with_global.tokens[between], alone.tokens)
    assert torch.equal(with_global.partners[between], alone.partners)
    assert alone.wrap_share == pytest.approx(1 / 8)
    assert 0 < with_global.wrap_share < 1 / 8


def test_pairs_are_worked_out_once():
    found = pair_index(RING, 4, 4, "rays", CPU)
    assert pair_index(ViewLayout.ring(8, 90.0), 4, 4, "rays", CPU) is found


def test_views_that_see_nothing_in_common_are_refused():
    with pytest.raises(PanoVLMError, match=r"no token that two views see.*raise num_views"):
        pair_index(ViewLayout.ring(3, 60.0), 4, 4, "rays", CPU)
