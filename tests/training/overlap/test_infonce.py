"""InfoNCE against a reference written one token at a time."""

import pytest
import torch
from torch.nn import functional

from panovlm.training.overlap.infonce import infonce_loss

COUPLES = torch.tensor([0, 0, 0, 1, 1, 2])
WEIGHTS = torch.tensor([1.0, 0.5, 0.25, 1.0, 0.7, 0.9])


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    current = torch.randn(3, 6, 8, generator=generator)
    return current, current + 0.5 * torch.randn(3, 6, 8, generator=generator)


def reference(a, b, temperature):
    """Equation 4 of arXiv:1807.03748 as sums over single tokens, one way."""
    total = 0.0
    for panorama in range(3):
        for token in range(6):

            def score(other, place, panorama=panorama, token=token):
                cosine = functional.cosine_similarity(a[panorama, token], b[other, place], dim=0)
                return torch.exp(cosine / temperature)

            among = sum(
                score(other, place)
                for other in range(3)
                for place in range(6)
                if other != panorama or COUPLES[place] == COUPLES[token]
            )
            total = total - WEIGHTS[token] * torch.log(score(panorama, token) / among)
    return total / (3 * WEIGHTS.sum())


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_loss_is_the_papers_both_ways(pair, temperature):
    a, b = pair
    expected = (reference(a, b, temperature) + reference(b, a, temperature)) / 2
    torch.testing.assert_close(infonce_loss(a, b, COUPLES, WEIGHTS, temperature), expected)


def test_the_gradient_is_that_of_the_reference(pair):
    a, b = (side.requires_grad_() for side in pair)
    expected = torch.autograd.grad((reference(a, b, 0.5) + reference(b, a, 0.5)) / 2, (a, b))
    found = torch.autograd.grad(infonce_loss(a, b, COUPLES, WEIGHTS, 0.5), (a, b))
    torch.testing.assert_close(found, expected)


def test_other_pairs_of_views_of_the_same_panorama_are_no_negatives():
    """They may show the same place: a token equal to one of them pays nothing for it."""
    a = torch.eye(6, 8)[None]
    b = a.clone()
    plain = infonce_loss(a, b, COUPLES, torch.ones(6), 0.1)
    a[0, 5] = b[0, 5] = a[0, 0]
    torch.testing.assert_close(infonce_loss(a, b, COUPLES, torch.ones(6), 0.1), plain)
    a[0, 4] = b[0, 4] = a[0, 3]  # but these two belong to one pair of views
    assert infonce_loss(a, b, COUPLES, torch.ones(6), 0.1) > plain + 0.1


def test_length_does_not_count(pair):
    a, b = pair
    found = infonce_loss(7 * a, 0.3 * b, COUPLES, WEIGHTS, 0.2)
    torch.testing.assert_close(found, infonce_loss(a, b, COUPLES, WEIGHTS, 0.2))
