"""Trained weights, whole or in shards (FSDP2): a checkpoint holds them whole.

Where a model is sharded, all ranks meet in `trained_weights` and `load_trained`. A checkpoint so
written can be resumed on any number of ranks, its weights sharded or not.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def is_sharded(model: nn.Module) -> bool:
    """Return whether ranks hold parts of the parameters."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that train, by name; their shapes are the whole ones."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights that train, by name, whole."""
    trained = {name: p.detach() for name, p in trained_parameters(model).items()}
    return {n: p.full_tensor() if isinstance(p, DTensor) else p for n, p in trained.items()}


@torch.no_grad()
def load_trained(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy whole weights into the parameters that train; each rank keeps its part."""
    for name, parameter in trained_parameters(model).items():
        given = weights[name].to(parameter.device, parameter.dtype)
        if isinstance(parameter, DTensor):
            given = distribute_tensor(given, parameter.device_mesh, parameter.placements)
        parameter.copy_(given)
