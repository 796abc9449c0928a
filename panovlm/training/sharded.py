"""Weights and optimizer states, whole or in shards (FSDP2): a checkpoint holds them whole.

Where a model is sharded, all ranks meet in each of these functions. A checkpoint so written can be
continued on any number of ranks, sharded or not in what concerns the weights.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor, distribute_tensor

WHOLE = StateDictOptions(full_state_dict=True)


def is_sharded(model: nn.Module) -> bool:
    """Say whether ranks hold parts of the parameters."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """Give the parameters that train, by name, whole."""
    return {name: _whole(p.detach()) for name, p in _trained(model).items()}


def trained_shapes(model: nn.Module) -> dict[str, torch.Size]:
    """Give the shapes of the parameters that train, by name, as they are when whole."""
    return {name: parameter.shape for name, parameter in _trained(model).items()}


@torch.no_grad()
def load_trained(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy whole weights into the parameters that train; each rank keeps its part."""
    for name, parameter in _trained(model).items():
        given = weights[name].to(parameter.device, parameter.dtype)
        if isinstance(parameter, DTensor):
            given = distribute_tensor(given, parameter.device_mesh, parameter.placements)
        parameter.copy_(given)


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Give the whole state of a sharded model's optimizer, by the parameters' names."""
    return get_optimizer_state_dict(model, optimizer, options=WHOLE)


def load_optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Give a sharded model's optimizer what `optimizer_state` gave; each rank keeps its part."""
    set_optimizer_state_dict(model, optimizer, state, options=WHOLE)


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
