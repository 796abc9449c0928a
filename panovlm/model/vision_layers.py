"""The last layers of a vision encoder alone, on hidden states that were computed before.

Where only the last layers train, what is below them never changes: it can be computed once. An
encoder is cut at its stack of layers, whatever its name, so that everything around the stack
(embeddings before it, the last normalisation behind it) runs by the encoder's own code.

Shape letters: M views, S patch tokens, P class and register tokens, D_vision.
"""

from collections import defaultdict
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


Stack = nn.ModuleList | nn.Sequential


def encoder_layers(vision_encoder: nn.Module) -> list[nn.Module]:
    """Return the layers of a vision encoder in the order in which they run, of all its stages."""
    return [layer for stack in _stacks(vision_encoder) for layer in stack]


def layer_stack(vision_encoder: nn.Module) -> Stack:
    """Return the one list that holds all layers, to cut it; empty if there are several or none."""
    stacks = _stacks(vision_encoder)
    return stacks[0] if len(stacks) == 1 else nn.ModuleList()


def _stacks(vision_encoder: nn.Module) -> list[Stack]:
    """Return the lists that hold layers: those of the class that has most of the weights.

    Of nested lists the innermost count, as the layers of a stage; lists of PyTorch's own modules
    are parts of a layer.
    """
    lists = [
        module
        for module in vision_encoder.modules()
        if isinstance(module, nn.ModuleList | nn.Sequential)
        and len(module)
        and not any(type(each).__module__.startswith("torch.nn.") for each in module)
    ]
    innermost = [one for one in lists if not any(m in lists for e in one for m in e.modules())]
    sizes: dict[type[nn.Module], int] = defaultdict(int)
    for stack in innermost:
        sizes[type(stack[-1])] += sum(p.numel() for p in stack.parameters())
    largest = max(sizes, key=lambda kind: sizes[kind], default=None)
    return [stack for stack in innermost if type(stack[-1]) is largest]


def num_trained_layers(vision_encoder: nn.Module) -> int:
    """Count the last layers that train."""
    layers = encoder_layers(vision_encoder)
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
    if not len(layer_stack(vision_encoder)):
        return False  # several stages, at several resolutions
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
    replacement = nn.Sequential(*layers) if isinstance(stack, nn.Sequential) else None
    setattr(parent, name, replacement or nn.ModuleList(layers))
    try:
        yield
    finally:
        setattr(parent, name, stack)
