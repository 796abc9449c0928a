"""Attention is the one that the clock prefers, and timing it changes nothing else."""

import pytest
import torch

from panovlm.data.packing import TokenSequence, collate, pack
from panovlm.stages import STAGES
from panovlm.training import attention
from panovlm.training.attention import use_fastest_attention
from panovlm.training.sections import LoraSection
from panovlm.training.trainable import apply_stage, hold_frozen


def conversation(*answer):
    return TokenSequence([10, 11, 12, *answer], [-100] * 3 + list(answer))


BATCHES = {
    "plain": [pack([conversation(13, 14)]), pack([conversation(15)])],
    "with branches": [pack([conversation(13, 14), conversation(15)]), pack([conversation(16)])],
}


@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize(("plain_seconds", "chosen"), [(0.9, "eager"), (0.97, "sdpa")])
def test_plain_attention_is_used_where_it_is_clearly_faster(
    generator, monkeypatch, kind, plain_seconds, chosen
):
    seconds, language_model = {"sdpa": 1.0, "eager": plain_seconds}, generator.model.language_model
    now = [0.0]

    def clock():
        name = language_model.config._attn_implementation
        now[0] += seconds[name.split("_")[0]]
        return now[0]

    monkeypatch.setattr(attention.time, "thread_time", clock)
    hold_frozen(generator.requires_grad_(False), torch.bfloat16)
    assert use_fastest_attention(language_model, collate(BATCHES[kind], pad_id=0)) == chosen
    name = language_model.config._attn_implementation
    assert name == "sdpa" if chosen == "sdpa" else name.startswith("eager_up_to_")


def test_timing_leaves_no_gradient_and_no_trace_in_the_random_state(generator):
    apply_stage(generator, STAGES["finetune"], LoraSection(rank=2, dropout=0.5))
    hold_frozen(generator.train(), torch.bfloat16)
    before = torch.get_rng_state()
    use_fastest_attention(generator.model.language_model, collate(BATCHES["plain"], pad_id=0))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in generator.parameters())


LONG = torch.zeros(4, 50_000, dtype=torch.long)


@pytest.mark.parametrize(
    ("batch", "is_packed", "times_tried"),
    [
        ({"input_ids": LONG}, False, 0),
        ({"input_ids": LONG, "packed_examples": [[(30_000, False), (20_000, True)]] * 4}, True, 0),
        ({"input_ids": LONG, "packed_examples": [[(100, False)] * 500] * 4}, True, 4),
    ],
)
def test_plain_attention_is_not_tried_where_its_scores_would_fill_the_memory(
    generator, monkeypatch, batch, is_packed, times_tried
):
    language_model, tried = generator.model.language_model, []
    monkeypatch.setattr(attention, "device_memory_mb", lambda: 16 * 1024)
    monkeypatch.setattr(attention, "_seconds", lambda *_: tried.append(1) or 1.0)
    assert use_fastest_attention(language_model, batch, is_packed=is_packed) == "sdpa"
    assert language_model.config._attn_implementation.startswith("sdpa")
    assert len(tried) == times_tried
