"""The last layers of a vision encoder alone, on hidden states that were computed before.

Where only the last layers train, what is below them never changes: it can be computed once. An
encoder is cut at its stack of layers, whatever its name, so that everything around the stack
(embeddings before it, the last normalisation behind it) runs by the encoder's own code.

Shape letters: M views, S patch tokens, P class and register tokens, D_vision.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from panovlm.model.vision import encode_views


class _ReplaceStates(nn.Module):
    """Stands before the layers that run, and passes hidden states on instead of its input."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.states


class _KeepStates(nn.Module):
    """Stands behind the layers that run, and keeps the hidden states it receives."""

    states: Tensor

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.states = hidden_states
        return hidden_states


def layer_stack(vision_encoder: nn.Module) -> nn.ModuleList:
    """Return the layers of a vision encoder: its longest list of modules, empty if it has none."""
    stacks = [m for m in vision_encoder.modules() if isinstance(m, nn.ModuleList)]
    return max(stacks, key=len, default=nn.ModuleList())


def num_trained_layers(vision_encoder: nn.Module) -> int:
    """Count the last layers that train."""
    layers = layer_stack(vision_encoder)
    return sum(any(p.requires_grad for p in layer.parameters()) for layer in layers)


def lower_states(vision_encoder: PreTrainedModel, views: Tensor, num_layers: int) -> Tensor:
    """Run a vision encoder that `can_be_cut` on views [M, 3, H, W], without its last layers.

    Returns:
        Hidden states in front of those layers, [M, P + S, D_vision].
    """
    kept = _KeepStates()
    below = list(layer_stack(vision_encoder))[:-num_layers]
    with _replaced_layers(vision_encoder, [*below, kept]):
        encode_views(vision_encoder, views)
    return kept.states


def tokens_of_states(
    vision_encoder: PreTrainedModel, states: Tensor, num_layers: int, view_size: int
) -> Tensor:
    """Run the last layers of a vision encoder that `can_be_cut`, and what follows them.

    Args:
        vision_encoder: The whole encoder.
        states: Hidden states in front of those layers, [M, P + S, D_vision].
        num_layers: How many layers.
        view_size: Height and width of a view in pixels.

    Returns:
        Patch tokens [M, S, D_vision].
    """
    above = list(layer_stack(vision_encoder))[-num_layers:]
    # One blank view is enough for the embeddings, whose output is thrown away.
    blank = torch.zeros(1, 3, view_size, view_size, device=states.device, dtype=states.dtype)
    with _replaced_layers(vision_encoder, [_ReplaceStates(states), *above]):
        return encode_views(vision_encoder, blank)


def can_be_cut(vision_encoder: PreTrainedModel, num_layers: int, view_size: int) -> bool:
    """Test on two random views whether two steps compute the same tokens as one."""
    generator = torch.Generator().manual_seed(0)
    views = torch.randn(2, 3, view_size, view_size, generator=generator).to(vision_encoder.device)
    try:
        with torch.inference_mode():
            states = lower_states(vision_encoder, views, num_layers)
            if states.dim() != 3:  # feature maps of a convolutional encoder: large, and wide
                return False
            tokens = tokens_of_states(vision_encoder, states, num_layers, view_size)
            return torch.allclose(tokens, encode_views(vision_encoder, views), atol=1e-4, rtol=1e-4)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return False  # its code handles its layers in another way than one after the other


@contextmanager
def _replaced_layers(vision_encoder: nn.Module, layers: Sequence[nn.Module]) -> Iterator[None]:
    """Replace a vision encoder's stack by other layers for a while."""
    stack = layer_stack(vision_encoder)
    parent, name = next(
        (module, name)
        for module in vision_encoder.modules()
        for name, child in module.named_children()
        if child is stack
    )
    setattr(parent, name, nn.ModuleList(layers))
    try:
        yield
    finally:
        setattr(parent, name, stack)
