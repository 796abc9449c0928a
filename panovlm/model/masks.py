"""Attention masks of packed conversations, for language models with and without sliding windows.

Shape letters: B sequences, L tokens.
"""

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from panovlm.errors import PanoVLMError

FULL, SLIDING = "full_attention", "sliding_attention"
"""The library's names for layers that see all before them, and that see a window."""


def attention_masks(
    mask: Tensor | None,
    position_ids: Tensor | None,
    text_config: PreTrainedConfig,
    dtype: torch.dtype,
) -> Tensor | dict[str, Tensor] | None:
    """Convert a bool mask of packed conversations to what the language model adds to its scores.

    The library takes a four-dimensional mask as it is, also for layers that should see a window
    alone. Here these get their own: a token sees what lies less than a window before it at the
    positions of its own conversation, just as if it stood alone.

    Args:
        mask: [B, 1, L, L] bool, True where row may see column. Whatever else the library makes of
            a mask (it builds its own for a static cache) stays as it is.
        position_ids: [B, L], places in each token's own conversation; by default those in the row.
        text_config: Of the language model.
        dtype: Of the scores.

    Returns:
        One mask [B, 1, L, L], or one for each kind of layer where a model has several kinds.

    Raises:
        PanoVLMError: If the language model has layers of another kind, as recurrent ones.
    """
    if not isinstance(mask, Tensor) or mask.dim() != 4 or mask.dtype != torch.bool:
        return mask
    window = getattr(text_config, "sliding_window", None)
    kinds = set(getattr(text_config, "layer_types", None) or [])
    if kinds - {FULL, SLIDING}:
        raise PanoVLMError(
            f"found layers of kind {', '.join(sorted(kinds - {FULL, SLIDING}))} in the language "
            f"model, which cannot read several conversations packed in one sequence; set "
            f"questions_per_panorama: 1 in the recipe's stages"
        )
    if window is None or kinds == {FULL}:
        return _additive(mask, dtype)
    near = _additive(mask & _within(window, mask, position_ids), dtype)
    return {FULL: _additive(mask, dtype), SLIDING: near} if kinds else near


def _within(window: int, mask: Tensor, position_ids: Tensor | None) -> Tensor:
    places = torch.arange(mask.shape[-1], device=mask.device)[None]
    places = places if position_ids is None else position_ids
    return (places[:, :, None] - places[:, None, :] < window)[:, None]


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    lowest = torch.finfo(dtype).min
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, lowest)
