"""The next-token loss of a frozen LM head: no logits of all positions at once.

Shape letters: K supervised positions, D_lm width of the language model.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

CHUNK = 128
"""Positions scored at once; the logits of as many words fit the caches better than all would."""


def frozen_head_loss(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    """Compute the summed cross entropy of a frozen LM head, chunk by chunk.

    The gradient of `hidden` is computed with the loss, while a chunk's logits are at hand, as in
    Hsu et al., Liger Kernel, arXiv:2410.10989, section 3.2. Numbers are those of one pass.

    Args:
        head: From hidden states to logits; none of its parameters gets a gradient.
        hidden: [K, D_lm].
        targets: Next tokens [K].

    Returns:
        The sum over the positions, a scalar in float32.
    """
    total: Tensor = _FrozenHeadLoss.apply(hidden, targets, head)  # type: ignore[no-untyped-call]
    return total


class _FrozenHeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, targets: Tensor, head: nn.Module) -> Tensor:
        total = torch.zeros((), device=hidden.device)
        gradients = []
        for part, wanted in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True):
            with torch.enable_grad():
                part = part.detach().requires_grad_()
                loss = cross_entropy(head(part).float(), wanted, reduction="sum")
            gradients += torch.autograd.grad(loss, part)
            total += loss.detach()
        ctx.save_for_backward(torch.cat(gradients) if gradients else torch.zeros_like(hidden))
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0].to(gradient.dtype), None, None
