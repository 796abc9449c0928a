"""Masks of packed conversations: numbers for the scores, and windows counted in positions."""

import pytest
import torch
from transformers import Gemma3TextConfig, LlamaConfig, MistralConfig, Qwen3NextConfig

from panovlm.data.packing import attention_mask
from panovlm.errors import PanoVLMError
from panovlm.model.masks import attention_masks

LLAMA = LlamaConfig()
POSITIONS = torch.tensor([[0, 1, 2, 1, 2, 3]])
BRANCHES = torch.tensor([[0, 1, 1, 2, 2, 2]])
ONE_EXAMPLE = torch.zeros_like(BRANCHES)


def seen(mask):
    return (mask[0, 0] == 0).int().tolist()


def test_only_masks_of_bools_become_numbers():
    flat, ready = torch.ones(1, 3), torch.zeros(1, 1, 3, 3)
    for mask in (None, flat, ready):  # the last is a static cache's
        assert attention_masks(mask, None, LLAMA, torch.float32) is mask
    mask = torch.tensor([[[[True, False]]]])
    lowest = torch.finfo(torch.bfloat16).min
    expected = torch.tensor([[[[0.0, lowest]]]], dtype=torch.bfloat16)
    assert torch.equal(attention_masks(mask, None, LLAMA, torch.bfloat16), expected)


def test_a_window_is_counted_in_each_conversations_own_positions():
    mistral = MistralConfig(sliding_window=2)
    mask = attention_masks(attention_mask(BRANCHES, ONE_EXAMPLE), POSITIONS, mistral, torch.float32)
    assert seen(mask) == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [1, 0, 0, 1, 0, 0],  # far behind in the row, next to the prefix in its conversation
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1, 1],
    ]


def test_layers_of_two_kinds_get_two_masks():
    gemma = Gemma3TextConfig(num_hidden_layers=2, sliding_window=2, sliding_window_pattern=2)
    whole = attention_mask(BRANCHES, ONE_EXAMPLE)
    masks = attention_masks(whole, POSITIONS, gemma, torch.float32)
    full, near = masks["full_attention"], masks["sliding_attention"]
    assert seen(full) == whole[0, 0].int().tolist()
    assert seen(near)[2] == [0, 1, 1, 0, 0, 0]


def test_recurrent_layers_are_refused_with_the_fix():
    with pytest.raises(PanoVLMError, match=r"linear_attention.*questions_per_panorama: 1"):
        attention_masks(
            attention_mask(BRANCHES, ONE_EXAMPLE), POSITIONS, Qwen3NextConfig(), torch.float32
        )
