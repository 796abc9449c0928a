"""VICReg against its published formula, and the signs of collapse."""

import pytest
import torch
from torch.nn import functional

from panovlm.training.overlap.vicreg import (
    VICRegProjector,
    covariance_term,
    effective_rank,
    variance_term,
    vicreg_loss,
    vicreg_loss_by_pair,
)
from panovlm.training.sections import VICRegSection

PAPER = VICRegSection()


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    current = torch.randn(6, 10, 16, generator=generator) * 0.4 + 3.0
    return current, current + 0.3 * torch.randn(6, 10, 16, generator=generator)


def off_diagonal(matrix):
    size = len(matrix)
    return matrix.flatten()[:-1].view(size - 1, size + 1)[:, 1:].flatten()


def official_terms(x, y):
    """The three terms of facebookresearch/vicreg, main_vicreg.py, `VICReg.forward`."""
    num_examples, num_features = x.shape
    invariance = functional.mse_loss(x, y)
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    std_x, std_y = torch.sqrt(x.var(dim=0) + 0.0001), torch.sqrt(y.var(dim=0) + 0.0001)
    variance = functional.relu(1 - std_x).mean() / 2 + functional.relu(1 - std_y).mean() / 2
    cov_x, cov_y = (x.T @ x) / (num_examples - 1), (y.T @ y) / (num_examples - 1)
    covariance = off_diagonal(cov_x).pow(2).sum().div(num_features)
    covariance = covariance + off_diagonal(cov_y).pow(2).sum().div(num_features)
    return invariance, variance, covariance


def test_the_terms_are_the_published_codes_but_for_the_variance_of_both_sides(pair):
    """Equation 6 of the paper adds the variance of both sides; its code takes their mean."""
    terms = vicreg_loss(*pair)
    invariance, variance, covariance = official_terms(*(side.flatten(0, 1) for side in pair))
    torch.testing.assert_close(terms.invariance, invariance)
    torch.testing.assert_close(terms.variance, 2 * variance)
    torch.testing.assert_close(terms.covariance, covariance)
    torch.testing.assert_close(terms.loss(PAPER), 25 * invariance + 50 * variance + covariance)


def test_the_invariance_is_the_papers_divided_by_the_width(pair):
    """Equation 5 sums over the dimensions; the published code, and ours, average over them."""
    x, y = (side.flatten(0, 1) for side in pair)
    equation_5 = (x - y).norm(dim=1).pow(2).mean()
    torch.testing.assert_close(vicreg_loss(x, y).invariance, equation_5 / 16)


def test_equal_weights_are_none(pair):
    plain, weighted = vicreg_loss(*pair), vicreg_loss(*pair, torch.full((6, 10), 0.3))
    torch.testing.assert_close(weighted.loss(PAPER), plain.loss(PAPER), rtol=1e-6, atol=0)


def test_weights_weigh_the_invariance_alone(pair):
    weights = torch.rand(6, 10) + 0.25
    terms, plain = vicreg_loss(*pair, weights), vicreg_loss(*pair)
    a, b, w = pair[0].flatten(0, 1), pair[1].flatten(0, 1), weights.flatten()
    naive = sum(w[i] * functional.mse_loss(a[i], b[i]) for i in range(60)) / w.sum()
    torch.testing.assert_close(terms.invariance, naive)
    assert torch.equal(terms.variance, plain.variance)
    assert torch.equal(terms.covariance, plain.covariance)


@pytest.mark.parametrize("width", [4, 16])  # narrower and wider than a pair is long
def test_statistics_of_a_pair_are_the_published_codes_of_each_averaged(pair, width):
    a, b = (side[..., :width] for side in pair)
    ones = torch.ones(6, 10)
    terms = vicreg_loss_by_pair(a, b, ones, ones.bool())
    each = [official_terms(x, y) for x, y in zip(a, b, strict=True)]
    invariance, variance, covariance = (sum(term) / 6 for term in zip(*each, strict=True))
    torch.testing.assert_close(terms.invariance, invariance)
    torch.testing.assert_close(terms.variance, 2 * variance)
    torch.testing.assert_close(terms.covariance, covariance, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(terms.loss(PAPER), 25 * invariance + 50 * variance + covariance)


def test_filled_up_places_of_a_pair_count_for_nothing(pair):
    weights = torch.rand(6, 10) + 0.25
    present = torch.arange(10)[None, :] < torch.tensor([10, 7, 2, 5, 9, 3])[:, None]
    a, b = (side.clone() for side in pair)
    terms = vicreg_loss_by_pair(a, b, weights, present)
    apart = [
        vicreg_loss(a[i, present[i]], b[i, present[i]], weights[i, present[i]]) for i in range(6)
    ]
    torch.testing.assert_close(terms.loss(PAPER), sum(each.loss(PAPER) for each in apart) / 6)
    a[~present], b[~present] = 1e3, -1e3
    torch.testing.assert_close(
        vicreg_loss_by_pair(a, b, weights, present).loss(PAPER), terms.loss(PAPER)
    )


def test_a_pair_of_one_token_has_an_invariance_only(pair):
    a, b = (side[:2] for side in pair)
    present = torch.ones(2, 10, dtype=torch.bool)
    present[1, 1:] = False
    terms = vicreg_loss_by_pair(a, b, torch.ones(2, 10), present)
    whole, one = vicreg_loss(a[0], b[0]), functional.mse_loss(a[1, 0], b[1, 0])
    torch.testing.assert_close(terms.invariance, (whole.invariance + one) / 2)
    torch.testing.assert_close(terms.variance, whole.variance / 2)
    torch.testing.assert_close(terms.covariance, whole.covariance / 2, rtol=1e-4, atol=1e-6)


def test_working_on_some_pairs_at_a_time_changes_neither_loss_nor_gradient(pair, monkeypatch):
    found = []
    for at_once in (100, 2):
        monkeypatch.setattr("panovlm.training.overlap.vicreg.PAIRS_AT_ONCE", at_once)
        a = pair[0].clone().requires_grad_()
        ones = torch.ones(6, 10)
        loss = vicreg_loss_by_pair(a, pair[1], ones, ones.bool()).loss(PAPER)
        loss.backward()
        found.append((loss.detach(), a.grad))
    torch.testing.assert_close(*(loss for loss, _ in found))
    torch.testing.assert_close(*(gradient for _, gradient in found))


def test_what_a_pair_has_in_common_is_collapse_to_its_pair_statistics_alone():
    """Six pairs, each of one colour all over: spread in the batch, not in any pair."""
    a = torch.randn(6, 1, 4, generator=torch.Generator().manual_seed(0)).expand(6, 10, 4) * 3
    ones = torch.ones(6, 10)
    assert vicreg_loss(a, a).variance < 0.1
    assert vicreg_loss_by_pair(a, a, ones, ones.bool()).variance > 1.9


def test_every_leading_position_is_one_example(pair):
    flat = vicreg_loss(*(side.flatten(0, 1) for side in pair))
    assert torch.equal(vicreg_loss(*pair).loss(PAPER), flat.loss(PAPER))


def test_collapse_costs_the_full_variance():
    constant = torch.ones(10, 4) * 7.0
    terms = vicreg_loss(constant, constant)
    assert terms.invariance == terms.covariance == 0
    assert terms.variance.item() == pytest.approx(2 * (1 - 0.01))  # the square root of epsilon
    assert terms.loss(PAPER).item() == pytest.approx(25 * 1.98)


def test_spread_and_uncorrelated_tokens_cost_nothing():
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert variance_term(corners) == covariance_term(corners) == 0
    assert vicreg_loss(corners, corners).loss(PAPER) == 0


def test_collapsed_tokens_still_get_a_gradient_of_numbers():
    tokens = torch.zeros(8, 4, requires_grad=True)
    vicreg_loss(tokens, torch.zeros(8, 4)).loss(PAPER).backward()
    assert tokens.grad.isfinite().all()


def test_half_precision_is_computed_in_full(pair):
    halves = [side.bfloat16() for side in pair]
    exact = vicreg_loss(*(side.float() for side in halves))
    assert vicreg_loss(*halves).loss(PAPER) == exact.loss(PAPER)


def test_partners_must_have_one_shape():
    with pytest.raises(ValueError, match="found partners of shape"):
        vicreg_loss(torch.ones(4, 2), torch.ones(3, 2))


def test_one_token_has_no_variance():
    with pytest.raises(ValueError, match="found 1 pair of tokens, expected at least 2"):
        vicreg_loss(torch.ones(1, 2), torch.ones(1, 2))


def test_effective_rank_counts_the_directions_used():
    generator = torch.Generator().manual_seed(0)
    spread = torch.linalg.qr(torch.randn(64, 64, generator=generator))[0][:, :8]
    spread = spread - spread.mean(dim=0)
    assert 7.5 < effective_rank(spread) <= 8.0 + 1e-4
    line = torch.randn(64, 1, generator=generator) * torch.ones(1, 8)
    assert effective_rank(line) == pytest.approx(1.0, abs=1e-2)
    shifted = spread[:, :3] @ torch.eye(3, 8) + 100.0
    assert effective_rank(shifted) == pytest.approx(3.0, abs=0.1)


def test_effective_rank_of_one_point_is_a_number():
    assert effective_rank(torch.ones(5, 3)) == 1.0


def test_the_projector_treats_each_token_alone():
    projector, latents = VICRegProjector(8, 12), torch.randn(2, 3, 4, 5, 8)
    projected = projector(latents)
    assert projected.shape == (2, 3, 4, 5, 12)
    torch.testing.assert_close(projector(latents[1, 2, 3, 4]), projected[1, 2, 3, 4])


def test_weights_and_gamma_are_those_of_the_recipe():
    torch.manual_seed(0)
    a, b = torch.randn(12, 3), torch.randn(12, 3)
    plain, wider = vicreg_loss(a, b), vicreg_loss(a, b, gamma=3.0)
    parts = VICRegSection(invariance=2.0, variance=3.0, covariance=5.0)
    expected = 2 * plain.invariance + 3 * plain.variance + 5 * plain.covariance
    torch.testing.assert_close(plain.loss(parts), expected)
    hinge = sum(torch.relu(3.0 - torch.sqrt(side.var(dim=0) + 1e-4)).mean() for side in (a, b))
    torch.testing.assert_close(wider.variance, hinge)
    weights, present = torch.ones(1, 12), torch.ones(1, 12, dtype=torch.bool)
    by_pair = vicreg_loss_by_pair(a[None], b[None], weights, present, 3.0)
    torch.testing.assert_close(by_pair.variance, hinge)
