"""Attention and cache for answers that grow by a token at a time.

Shapes: B rows, H heads, C cached tokens, L tokens to read, D width of a head.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from panovlm.inference.prefixes import KeysAndValues

FUSED, OURS = "sdpa", "sdpa_of_single_queries"
SPARE_TOKENS = 64
"""Room that a full cache gets."""


def use_decoding_attention(model: PreTrainedModel) -> None:
    """Set `attention` for a language model that has the library's fused one."""
    if model.config._attn_implementation == FUSED:
        model.set_attn_implementation(OURS)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Compute the library's fused attention; on CPUs a single query in bf16 goes in twice.

    PyTorch 2.13 takes three times as long for one such query as for two (grouped heads are
    several queries already).

    Args:
        module: The layer's attention.
        query: [B, H, L, D].
        key: [B, H, C, D], or of fewer heads.
        value: As `key`.
        attention_mask: [B, 1 or H, L, C], or None.
        **kwargs: Of the library's attention.

    Returns:
        [B, L, H, D], and no scores.
    """
    is_single = query.shape[1:3] == (key.shape[1], 1)
    if is_single and query.device.type == "cpu" and query.dtype != torch.float32:
        query, kwargs = query.expand(-1, -1, 2, -1), kwargs | {"is_causal": False}
    attended, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return (attended[:, :1] if is_single else attended), None


AttentionInterface.register(OURS, attention)
AttentionMaskInterface.register(OURS, ALL_MASK_ATTENTION_FUNCTIONS[FUSED])


class SpareLayer(DynamicLayer):
    """A layer's keys and values with room for tokens to come: only a full one is copied.

    The library's layer copies all states of all rows for every token.
    """

    def __init__(self, states: tuple[Tensor, Tensor] | None = None) -> None:
        super().__init__()
        self._rooms: list[Tensor] = []
        if states:
            self.lazy_initialization(*states)
            self.keys, self.values = states

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append tokens [B, H, L, D]; return all of both."""
        start = self.get_seq_length()
        if start == 0:
            return super().update(key_states, value_states)
        end = start + key_states.shape[2]
        if not self._rooms or end > self._rooms[0].shape[2]:
            self._rooms = [_with_room(states, end) for states in (self.keys, self.values)]
        for room, added in zip(self._rooms, (key_states, value_states), strict=True):
            room[:, :, start:end] = added
        self.keys, self.values = (room[:, :, :end] for room in self._rooms)
        return self.keys, self.values


def _with_room(states: Tensor, end: int) -> Tensor:
    rows, heads, columns, width = states.shape
    room = states.new_empty(rows, heads, end + SPARE_TOKENS, width)
    room[:, :, :columns] = states
    return room


class SpareCache(Cache):
    """A cache of `SpareLayer`s, filled with each layer's keys and values [B, H, C, D]."""

    def __init__(self, states: KeysAndValues) -> None:
        super().__init__(layer_class_to_replicate=SpareLayer)
        self.layers = [SpareLayer(each) for each in states]
