"""Packed examples are computed apart, with the results of one mask over all of them."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from panovlm.data.packing import TokenSequence, collate, join, pack
from panovlm.model.masks import attention_masks
from panovlm.training import packed_attention
from panovlm.training.packed_attention import by_example, plain_up_to


def conversation(*ids):
    return TokenSequence([10, 11, 12, *ids], [-100] * 3 + list(ids))


TWO_QUESTIONS = pack([conversation(13, 14), conversation(15, 16, 17)])
LONG = pack([conversation(*range(20, 60))])
ROWS = [join([TWO_QUESTIONS, LONG]), join([LONG, TWO_QUESTIONS, TWO_QUESTIONS]), TWO_QUESTIONS]
EXAMPLES = [[(9, True), (43, False)], [(43, False), (9, True), (9, True)], [(9, True)]]
"""Of each row the tokens of its examples, and whether they have branches."""
NUM_TOKENS = [sum(length for length, _ in row) for row in EXAMPLES]
FAMILIES = ("llama", "qwen3_sliding", "gemma3_text", "phi3")


@pytest.mark.parametrize("name", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_examples_apart_have_the_results_of_one_mask(family, name, language_model_folder):
    model = AutoModelForCausalLM.from_pretrained(language_model_folder(kind=family)).base_model
    batch = collate(ROWS, pad_id=0)
    assert batch["packed_examples"] == EXAMPLES
    positions = batch["position_ids"]
    mask = attention_masks(batch["attention_mask"], positions, model.config, torch.float32)
    is_text = torch.tensor([[i < num for i in range(positions.shape[1])] for num in NUM_TOKENS])

    def outcome(attention):
        model.set_attn_implementation(attention)
        model.zero_grad()
        given = {k: batch[k] for k in ("input_ids", "position_ids", "packed_examples")}
        hidden = model(**given, attention_mask=mask, use_cache=False).last_hidden_state[is_text]
        hidden[:, 0].mean().backward()
        return hidden.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    hidden, gradients = outcome(by_example(name))
    expected, expected_gradients = outcome(name)
    torch.testing.assert_close(hidden, expected, rtol=0, atol=1e-5)
    assert len(gradients) == len(expected_gradients) > 5
    for found, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_no_scores_between_examples_and_masks_for_branches_alone(generator, monkeypatch):
    computed, library = [], packed_attention.sdpa_attention_forward

    def recorded(module, query, key, value, mask, **kwargs):
        computed.append((query.shape[2], mask is not None))
        return library(module, query, key, value, mask, **kwargs)

    monkeypatch.setattr(packed_attention, "sdpa_attention_forward", recorded)
    generator.model.language_model.set_attn_implementation(by_example("sdpa"))
    generator(**collate(ROWS, pad_id=0))
    num_layers = generator.config.text_config.num_hidden_layers
    assert computed == [example for row in EXAMPLES for example in row] * num_layers


@pytest.mark.parametrize("is_packed", [True, False])
def test_plain_attention_is_left_where_scores_are_too_many(generator, monkeypatch, is_packed):
    fused, library = [], packed_attention.sdpa_attention_forward
    monkeypatch.setattr(
        packed_attention,
        "sdpa_attention_forward",
        lambda *given, **options: fused.append(1) or library(*given, **options),
    )
    batch, losses = collate(ROWS, pad_id=0), []
    apart = sum(length**2 for row in EXAMPLES for length, _ in row)
    num_scores = apart if is_packed else len(ROWS) * batch["input_ids"].shape[1] ** 2
    longest = 43 if is_packed else batch["input_ids"].shape[1]
    limits = [(longest, num_scores), (longest, num_scores - 1), (longest - 1, num_scores)]
    for number, (most_tokens, most_scores) in enumerate(limits):
        name = plain_up_to(most_tokens, most_scores, is_packed=is_packed)
        generator.model.language_model.set_attn_implementation(name)
        fused.clear()
        losses.append(generator(**batch).loss)
        assert bool(fused) == (number > 0)
    torch.testing.assert_close(losses[0], losses[2])
    losses.pop()
    torch.testing.assert_close(*losses)


def test_attention_of_another_name_stays():
    assert by_example("flash_attention_2") == "flash_attention_2"
