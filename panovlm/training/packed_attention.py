"""Attention of packed sequences, each example apart: no scores are computed between examples.

With a mask alone, a sequence of four examples would take four times the time of their own scores.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

FUSED, PLAIN = "sdpa", "eager"
"""The library's names."""
Examples = Sequence[Sequence[tuple[int, bool]]]
"""Of each row the tokens of its examples, one after the other, and whether each has branches;
padding follows them."""


def by_example(name: str) -> str:
    """Return the name of the library's attention that computes packed examples apart.

    Attention of other names takes sequences as they are.
    """
    if name not in (FUSED, PLAIN):
        return name
    own = f"{name}_by_example"
    AttentionInterface.register(own, partial(attention_by_example, name))
    AttentionMaskInterface.register(own, ALL_MASK_ATTENTION_FUNCTIONS[name])
    return own


def plain_up_to(longest: int, most_scores: int, *, is_packed: bool) -> str:
    """Return the name of an attention that is plain for short batches, and fused for others.

    The plain one keeps its scores for the backward pass, and batches differ in length.

    Args:
        longest: The most tokens of an example that is computed the plain way.
        most_scores: Of one head of a layer, in all rows together.
        is_packed: Whether several examples of a sequence are to be computed apart.
    """
    own = f"{PLAIN}_up_to_{longest}_{most_scores}{'_by_example' if is_packed else ''}"
    AttentionInterface.register(own, partial(attention_up_to, (longest, most_scores), is_packed))
    AttentionMaskInterface.register(own, ALL_MASK_ATTENTION_FUNCTIONS[PLAIN])
    return own


def attention_up_to(
    limits: tuple[int, int],
    is_packed: bool,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packed_examples: Examples | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Compute what `plain_up_to` names; see `attention_by_example`."""
    examples = packed_examples if is_packed else None
    lengths = [query.shape[2]] * query.shape[0]
    if examples is not None:
        lengths = [length for row in examples for length, _ in row]
    is_plain = max(lengths) <= limits[0] and sum(each**2 for each in lengths) <= limits[1]
    name = PLAIN if is_plain else FUSED
    return attention_by_example(name, module, query, key, value, attention_mask, examples, **kwargs)


def attention_by_example(
    name: str,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packed_examples: Examples | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Compute attention, as the library's functions do.

    Args:
        name: Of the library's attention.
        module: The layer's attention.
        query: [B, heads, L, D]; key and value may have fewer heads.
        key: As `query`.
        value: As `query`.
        attention_mask: [B, 1, L, L], added to the scores.
        packed_examples: None if a row is one example.
        **kwargs: Of the library's attention.

    Returns:
        [B, L, heads, D], zero at padding; and no scores.
    """
    compute = partial(library_attention(name, module), module)
    if packed_examples is None or attention_mask is None:
        return compute(query, key, value, attention_mask, **kwargs)[0], None
    rows = []
    for row, examples in enumerate(packed_examples):
        parts, start = [], 0
        for length, has_branches in examples:
            at = (slice(row, row + 1), slice(None), slice(start, start + length))
            given = query[at], key[at], value[at]
            if name == FUSED and not has_branches and not _is_windowed(length, **kwargs):
                parts.append(compute(*given, None, **kwargs | {"is_causal": True})[0])
            else:
                parts.append(compute(*given, attention_mask[(*at, at[-1])], **kwargs)[0])
            start += length
        shape = parts[0].shape
        parts.append(parts[0].new_zeros(1, query.shape[2] - start, *shape[2:]))
        rows.append(torch.cat(parts, dim=1))
    return torch.cat(rows), None


def _is_windowed(length: int, sliding_window: int | None = None, **_: Any) -> bool:
    """Return whether a layer's window is shorter than an example."""
    return sliding_window is not None and sliding_window < length


def library_attention(name: str, module: nn.Module) -> Callable[..., tuple[Tensor, Any]]:
    """Return the library's function; the plain one is each model's own."""
    if name == FUSED:
        return sdpa_attention_forward
    return sys.modules[type(module).__module__].eager_attention_forward
