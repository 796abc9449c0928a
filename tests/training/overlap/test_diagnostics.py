"""The figures of stage 1 on held-out panoramas say what they claim."""

import math

import pytest
import torch

from panovlm.geometry.layouts import ViewLayout
from panovlm.training.overlap.diagnostics import collapse, diagnose
from panovlm.training.overlap.pairs import pair_index

LAYOUT = ViewLayout.ring(8, 90.0)
SIDE = 6
HEALTHY = {"latent_std": 0.9, "projected_std": 1.0, "latent_rank": 20.0, "projected_rank": 9.0}


@pytest.fixture
def pairs():
    return pair_index(LAYOUT, SIDE, SIDE, "rays", torch.device("cpu"))


def noise(count=2, width=16):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 8 * SIDE * SIDE, width, generator=generator)


def test_tokens_that_know_their_ray_find_their_partners(pairs):
    rays = torch.from_numpy(LAYOUT.rays(SIDE, SIDE)).float().reshape(1, -1, 3)
    figures = diagnose(rays, noise(1), pairs)
    assert figures["retrieval"] > 0.95  # on a border between two tokens either is as near
    assert figures["overlap_cosine"] > 0.99
    assert figures["overlap_mse"] < 0.01


def test_noise_finds_its_partners_by_chance_alone(pairs):
    figures = diagnose(noise(8), noise(8), pairs)
    assert figures["retrieval_chance"] == pytest.approx(1 / 36)
    assert figures["retrieval"] == pytest.approx(1 / 36, abs=0.015)
    assert abs(figures["overlap_cosine"]) < 0.05


def test_spread_and_rank_are_measured_at_both_ends(pairs):
    line = torch.randn(2, 8 * SIDE * SIDE, 1) * torch.ones(1, 1, 5) * 3
    figures = diagnose(noise(), line, pairs)
    assert figures["latent_std"] == pytest.approx(1.0, abs=0.05)
    assert 15 < figures["latent_rank"] <= 16
    assert figures["projected_std"] == pytest.approx(3.0, abs=0.3)
    assert figures["projected_rank"] == pytest.approx(1.0, abs=0.05)


def test_the_share_of_pairs_across_the_seam_is_one_in_all_views(pairs):
    assert diagnose(noise(), noise(), pairs)["wrap_share"] == pytest.approx(1 / 8)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"latent_std": 0.001}, r"latent_std is 0.001, less than 0.01"),
        ({"projected_rank": 1.2}, r"projected_rank is 1.2, less than 1.5"),
        ({"overlap_mse": math.nan}, r"overlap_mse is nan"),
        ({"projected_std": math.inf}, r"projected_std is inf"),
    ],
)
def test_a_collapse_is_named(change, cause):
    assert collapse(HEALTHY | change).startswith(cause)


def test_healthy_features_are_none():
    assert collapse(HEALTHY) is None
