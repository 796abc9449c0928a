"""Tokens of all processes in one tensor, so that statistics are those of the whole batch."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from panovlm.errors import PanoVLMError


def gather_with_gradient(tensor: Tensor) -> Tensor:
    """Return the tensors of all processes one after another; of a single process its own.

    Every process must go on to compute the same scalar of the result. Its gradient then comes back
    times the number of processes, so that the mean over processes that data-parallel training takes
    is the gradient of one process with the joined batch.

    Args:
        tensor: [n, ...], of the same shape in every process.

    Raises:
        PanoVLMError: If the shapes differ.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return tensor
    _check_same_length(tensor)
    joined: Tensor = _AllGather.apply(tensor)  # type: ignore[no-untyped-call]
    return joined


class _AllGather(torch.autograd.Function):
    """All-gather whose gradient needs no communication: all processes have the same one."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        context.length = len(tensor)
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        start = dist.get_rank() * context.length
        return gradients[0][start : start + context.length] * dist.get_world_size()


def _check_same_length(tensor: Tensor) -> None:
    own = torch.tensor([len(tensor)], device=tensor.device)
    lengths = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(lengths, own)
    found = [int(length) for length in lengths]
    if len(set(found)) > 1:
        raise PanoVLMError(
            f"found {found} tokens on the processes, expected as many on each; give every process "
            f"a whole batch (a multiple of batch_size times processes), or set statistics: pair"
        )
