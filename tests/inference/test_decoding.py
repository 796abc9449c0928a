"""Attention and cache of answers that grow by a token at a time equal the library's."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from panovlm.inference.decoding import (
    SPARE_TOKENS,
    SpareCache,
    attention,
    use_decoding_attention,
)

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 50,
         "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "tokens"), [(2, 1), (4, 1), (2, 3)])
def test_attention_is_the_librarys(dtype: torch.dtype, heads: int, tokens: int) -> None:
    layer, generator = nn.Module(), torch.Generator().manual_seed(0)
    layer.num_key_value_groups = heads // 2  # type: ignore[assignment]
    query = torch.randn(3, heads, tokens, 8, generator=generator).to(dtype)
    key, value = torch.randn(2, 3, 2, 5, 8, generator=generator).to(dtype).unbind()
    seen = torch.tensor([[1, 1, 1, 1, 0], [0, 0, 1, 1, 0], [0, 1, 1, 1, 1]]).bool()
    for mask in (seen[:, None, None].expand(-1, -1, tokens, -1), None):
        ours, none = attention(layer, query, key, value, mask, scaling=0.3)
        theirs, _ = sdpa_attention_forward(layer, query, key, value, mask, scaling=0.3)
        assert none is None
        torch.testing.assert_close(ours, theirs)


def test_a_single_query_in_bf16_goes_in_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = []

    def library(_: nn.Module, query: Tensor, *others: object, **options: object) -> Any:
        numbers.append(query.shape[2])
        return query.transpose(1, 2), None

    monkeypatch.setattr("panovlm.inference.decoding.sdpa_attention_forward", library)
    for dtype in (torch.bfloat16, torch.float32):
        query = torch.ones(1, 2, 1, 8, dtype=dtype)
        assert attention(nn.Module(), query, query, query, None)[0].shape == (1, 1, 2, 8)
    assert numbers == [2, 1]


@pytest.mark.parametrize(
    "model",
    [
        LlamaForCausalLM(LlamaConfig(**SIZES)),
        MistralForCausalLM(MistralConfig(**SIZES, sliding_window=6)),
    ],
    ids=["all", "window"],
)
def test_a_cache_with_room_gives_the_logits_of_the_librarys_cache(model: nn.Module) -> None:
    tokens = torch.randint(50, (2, 7 + 2 * SPARE_TOKENS))
    mask = torch.ones_like(tokens)
    mask[1, :3] = 0  # padded on the left
    model.eval()
    theirs = _logits(model, tokens, mask, DynamicCache())
    use_decoding_attention(model)
    ours = _logits(model, tokens, mask, cache := SpareCache([]))
    torch.testing.assert_close(ours, theirs)
    assert {layer.keys.shape[2] for layer in cache.layers} == {tokens.shape[1]}


def test_only_a_full_cache_is_copied() -> None:
    cache = SpareCache([(torch.zeros(1, 2, 3, 8), torch.zeros(1, 2, 3, 8))])
    places = []
    for _ in range(SPARE_TOKENS + 2):
        keys, _ = cache.update(torch.ones(1, 2, 1, 8), torch.ones(1, 2, 1, 8), 0)
        places.append(keys.data_ptr())
    assert len(set(places)) == 2
    assert keys[0, 0, :, 0].tolist() == [0.0] * 3 + [1.0] * (SPARE_TOKENS + 2)


def test_cached_states_are_not_written_to() -> None:
    states = (torch.zeros(1, 2, 3, 8), torch.zeros(1, 2, 3, 8))
    cache = SpareCache([states])
    for _ in range(2):
        cache.update(torch.ones(1, 2, 1, 8), torch.ones(1, 2, 1, 8), 0)
    assert not any(side.any() for side in states)
    assert all(side.shape[2] == 3 for side in states)


def test_attention_of_another_kind_stays() -> None:
    model = LlamaForCausalLM(LlamaConfig(**SIZES, attn_implementation="eager"))
    use_decoding_attention(model)
    assert model.config._attn_implementation == "eager"


@torch.inference_mode()
def _logits(model: nn.Module, tokens: Tensor, mask: Tensor, cache: object) -> Tensor:
    """Read seven tokens at once, and each of the others alone."""
    logits, ends = [], [7, *range(8, tokens.shape[1] + 1)]
    for start, end in zip([0, *ends], ends, strict=False):
        positions = (mask[:, :end].cumsum(-1) - 1).clamp(min=0)[:, start:]
        read = model(
            input_ids=tokens[:, start:end],
            attention_mask=mask[:, :end],
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        logits.append(read.logits[:, -1])
    return torch.stack(logits)
