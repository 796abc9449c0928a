"""Which token columns of neighbouring views are partners."""

import pytest
import torch

from panovlm.model.layouts import ViewLayout
from panovlm.overlap.pairs import overlap_pairs


def numbered(num_panoramas=2, num_views=4, rows=2, columns=5):
    """Latents whose four features say panorama, view, row and column of each token."""
    places = torch.cartesian_prod(*map(torch.arange, (num_panoramas, num_views, rows, columns)))
    return places.reshape(num_panoramas, num_views, rows, columns, 4)


@pytest.mark.parametrize("shared_columns", [1, 2, 5])
def test_each_view_makes_one_pair_of_all_shared_tokens(shared_columns):
    current, following = overlap_pairs(numbered(), shared_columns)
    assert current.shape == following.shape == (2 * 4, 2 * shared_columns, 4)  # [B·V, h·k, D]


def test_the_right_columns_of_a_view_meet_the_left_columns_of_the_next():
    current, following = overlap_pairs(numbered(), 2)
    assert current[0].tolist() == [[0, 0, 0, 3], [0, 0, 0, 4], [0, 0, 1, 3], [0, 0, 1, 4]]
    assert following[0].tolist() == [[0, 1, 0, 0], [0, 1, 0, 1], [0, 1, 1, 0], [0, 1, 1, 1]]


def test_last_view_pairs_with_first():
    current, following = overlap_pairs(numbered(), 2)
    panoramas, views = current[:, 0, 0].tolist(), current[:, 0, 1].tolist()
    assert views == [0, 1, 2, 3] * 2
    assert following[:, 0, 1].tolist() == [1, 2, 3, 0] * 2
    assert following[:, 0, 0].tolist() == panoramas == [0] * 4 + [1] * 4


def test_partners_look_about_the_same_way():
    layout = ViewLayout.ring(8, 90.0)
    rays = torch.from_numpy(layout.rays(6, 6))[None]
    shared_columns = layout.overlap_columns(6)
    current, following = overlap_pairs(rays, shared_columns)
    apart_deg = torch.rad2deg(torch.acos((current * following).sum(dim=-1).clamp(-1, 1)))
    token_deg = 90.0 / 6
    assert apart_deg.max() < 1.5 * token_deg
    others_deg = torch.rad2deg(torch.acos((current * following.roll(1, 0)).sum(dim=-1)))
    assert apart_deg.mean() < others_deg.mean() / 3
