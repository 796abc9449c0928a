"""Muon: near-orthogonal updates, the same as PyTorch's own but for its bf16."""

import pytest
import torch

from panovlm.scenes.muon import Muon, orthogonalized


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 24), (2, 24, 8)])
def test_singular_values_come_near_one(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalized(matrices))
    assert values.min() > 0.3
    assert values.max() < 1.6


def test_directions_are_those_of_the_matrix():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(12, 20, generator=generator)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = left.T @ orthogonalized(matrix[None])[0] @ right.T
    assert (turned - turned.diagonal().diag()).abs().max() < 1e-4


def test_steps_are_those_of_pytorchs_own_but_for_its_bf16():
    torch.manual_seed(0)
    ours = [torch.randn(16, 24, requires_grad=True), torch.randn(16, 24, requires_grad=True)]
    theirs = [matrix.detach().clone().requires_grad_() for matrix in ours]
    settings = {"lr": 0.02, "weight_decay": 0.05}
    optimizers = [
        Muon(ours, **settings),
        torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **settings),
    ]
    before = [matrix.detach().clone() for matrix in ours]
    for seed in range(3):
        for matrices, optimizer in zip((ours, theirs), optimizers, strict=True):
            torch.manual_seed(seed)
            for matrix in matrices:
                matrix.grad = torch.randn_like(matrix)
            optimizer.step()
    for mine, other, start in zip(ours, theirs, before, strict=True):
        assert (mine - other).norm() < 0.02 * (other - start).norm()


def test_matrices_without_a_gradient_stay():
    still, moved = torch.ones(4, 4, requires_grad=True), torch.ones(4, 4, requires_grad=True)
    moved.grad = torch.ones(4, 4)
    Muon([still, moved]).step()
    assert torch.equal(still, torch.ones(4, 4))
    assert not torch.equal(moved, torch.ones(4, 4))
