"""Muon in float32, matrices of one shape at a time.

PyTorch's own Muon orthogonalises in bf16, matrix after matrix. A CPU without bf16 instructions
emulates it: a step of the small language model then takes three times as long as it must.

Source:
    Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; step sizes
    matched to AdamW's as in Liu et al., "Muon is Scalable for LLM Training", arXiv:2502.16982.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration; they favour a steep slope at 0 over singular values of exactly 1."""
ITERATIONS = 5
AS_ADAMW = 0.2
"""Root mean square of AdamW's usual update, which Muon's is scaled to."""


class Muon(torch.optim.Optimizer):
    """Momentum whose update of each matrix is made nearly orthogonal.

    Args:
        matrices: Parameters of two dimensions.
        lr: Learning rate, as for AdamW.
        momentum: Of the gradients' running mean, in [0, 1); Nesterov's.
        weight_decay: Share of `lr` by which the matrices shrink at each step.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step; a closure is not supported."""
        for group in self.param_groups:
            for matrices in _by_shape(group["params"]):
                self._step_alike(matrices, group["lr"], group["momentum"], group["weight_decay"])

    def _step_alike(
        self, matrices: list[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> None:
        updates = []
        for matrix in matrices:
            assert matrix.grad is not None
            state = self.state[matrix]
            if not state:
                state["mean"] = torch.zeros_like(matrix)
            mean = state["mean"]
            mean.lerp_(matrix.grad, 1 - momentum)
            updates.append(matrix.grad.lerp(mean, momentum))
        step = lr * AS_ADAMW * math.sqrt(max(matrices[0].shape))
        for matrix, update in zip(matrices, orthogonalized(torch.stack(updates)), strict=True):
            matrix.mul_(1 - lr * weight_decay).add_(update, alpha=-step)


def orthogonalized(matrices: Tensor) -> Tensor:
    """Bring the singular values of matrices [n, rows, columns] near 1, between 0.5 and 1.5.

    Source:
        The Newton-Schulz iteration of Jordan et al., 2024.
    """
    a, b, c = COEFFICIENTS
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if is_tall else x


def _by_shape(parameters: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    groups: dict[torch.Size, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            groups.setdefault(parameter.shape, []).append(parameter)
    return groups.values()
