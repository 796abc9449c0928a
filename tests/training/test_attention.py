"""Attention is the one that the clock prefers, and timing it changes nothing else."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from panovlm.data.packing import TokenSequence, collate, pack
from panovlm.stages import STAGES
from panovlm.training import attention, packed_attention
from panovlm.training.attention import TIMED_LENGTHS, longest_plain, seconds, use_plain_up_to
from panovlm.training.packed_attention import FUSED, PLAIN
from panovlm.training.sections import LoraSection
from panovlm.training.trainable import apply_stage, hold_frozen

FAMILIES = ("llama", "qwen2", "qwen3_sliding", "gemma3_text", "phi3", "mistral", "smollm3")
BATCH = collate([pack([TokenSequence([*range(10, 50)], [*range(10, 50)])])] * 2, pad_id=0)
NUM_SCORES = 2 * BATCH["input_ids"].shape[1] ** 2


@pytest.mark.parametrize(
    ("faster_up_to", "share", "found"), [(512, 0.9, 512), (512, 0.97, 0), (64, 0.9, 0)]
)
def test_plain_attention_is_used_where_it_is_clearly_faster(
    generator, monkeypatch, faster_up_to, share, found
):
    def timed(language_model, name, length):
        return share if name == PLAIN and length <= faster_up_to else 1.0

    monkeypatch.setattr(attention, "seconds", timed)
    assert longest_plain(generator.model.language_model) == found
    assert found in (0, *TIMED_LENGTHS)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_attention_of_every_family_is_timed(family, language_model_folder):
    model = AutoModelForCausalLM.from_pretrained(language_model_folder(kind=family)).base_model
    assert all(0 < seconds(model, name, 64) < 10 for name in (PLAIN, FUSED))


def test_timing_leaves_no_gradient_and_no_trace_in_the_random_state(generator):
    apply_stage(generator, STAGES["finetune"], LoraSection(rank=2, dropout=0.5))
    hold_frozen(generator.train(), torch.bfloat16)
    before = torch.get_rng_state()
    seconds(generator.model.language_model, PLAIN, 64)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in generator.parameters())


@pytest.mark.parametrize(
    ("longest", "scores_that_fit", "is_fused"),
    [(64, NUM_SCORES, False), (32, NUM_SCORES, True), (64, NUM_SCORES - 1, True)],
)
def test_long_batches_and_those_whose_scores_would_fill_the_memory_are_fused(
    generator, monkeypatch, longest, scores_that_fit, is_fused
):
    fused, library = [], packed_attention.sdpa_attention_forward
    monkeypatch.setattr(
        packed_attention,
        "sdpa_attention_forward",
        lambda *given, **options: fused.append(1) or library(*given, **options),
    )
    language_model = generator.model.language_model
    config = language_model.config
    heads = config.num_hidden_layers * config.num_attention_heads
    fit_mb = attention.SCORE_BYTES * heads * scores_that_fit / 2**20
    monkeypatch.setattr(
        attention, "device_memory_mb", lambda: (fit_mb + 1e-6) / attention.MOST_SCORE_SHARE
    )
    use_plain_up_to(longest, language_model)
    generator(**BATCH)
    assert bool(fused) == is_fused


def test_where_plain_attention_is_never_faster_no_mask_is_built(generator, monkeypatch):
    masks, library = [], packed_attention.sdpa_attention_forward
    use_plain_up_to(0, generator.model.language_model)
    assert generator.model.language_model.config._attn_implementation == FUSED
    use_plain_up_to(0, generator.model.language_model, is_packed=True)
    monkeypatch.setattr(
        packed_attention,
        "sdpa_attention_forward",
        lambda module, q, k, v, mask, **options: (
            masks.append(mask) or library(module, q, k, v, mask, **options)
        ),
    )
    generator(**BATCH)
    assert masks == [None] * generator.config.text_config.num_hidden_layers
