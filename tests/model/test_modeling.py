"""The composite model: image tokens at their placeholders, the loss, modes and masks."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from panovlm.data.packing import TokenSequence, collate, pack
from panovlm.errors import PanoVLMError
from panovlm.model.vision import patch_tokens_of
from panovlm.model.vision_layers import layer_stack, lower_states
from panovlm.stages import STAGES
from panovlm.training.trainable import apply_stage


@pytest.fixture
def inputs(processor, panorama):
    """Two chats of different length about two pictures."""
    texts = ["<image>Where is it?", "Look: <image> What is behind me, and what in front?"]
    return processor(
        images=[panorama, panorama.rotate(180)], text=texts, padding=True, return_tensors="pt"
    )


@pytest.fixture
def labels(inputs, processor):
    """The text's tokens are supervised, image tokens and padding are not."""
    ids, seen = inputs["input_ids"], inputs["attention_mask"].bool()
    return ids.masked_fill(~seen | (ids == processor.image_token_id), -100)


@torch.no_grad()
def test_image_tokens_take_the_places_of_their_placeholders(generator, inputs):
    features = generator.get_image_features(inputs["pixel_values"]).pooler_output
    embeddings = generator.get_input_embeddings()(inputs["input_ids"]).clone()
    for row in (0, 1):
        places = inputs["input_ids"][row] == generator.config.image_token_id
        embeddings[row, places] = features[row]
    by_hand = generator(inputs_embeds=embeddings, attention_mask=inputs["attention_mask"])
    output = generator(**inputs)
    torch.testing.assert_close(output.logits, by_hand.logits)
    assert torch.equal(output.image_hidden_states, features)


@torch.no_grad()
def test_placeholders_are_found_among_embeddings_too(generator, inputs):
    embeddings = generator.get_input_embeddings()(inputs["input_ids"])
    from_embeddings = generator(
        inputs_embeds=embeddings,
        pixel_values=inputs["pixel_values"],
        attention_mask=inputs["attention_mask"],
    )
    torch.testing.assert_close(from_embeddings.logits, generator(**inputs).logits)


@torch.no_grad()
def test_two_pictures_of_one_text_come_in_reading_order(generator, processor, panorama):
    other = panorama.rotate(180)
    text = "First <image> then <image>."
    pair = processor(images=[[panorama, other]], text=[text], return_tensors="pt")
    swapped = processor(images=[[other, panorama]], text=[text], return_tensors="pt")
    assert pair["pixel_values"].shape[0] == 2
    expected = generator(
        input_ids=pair["input_ids"], pixel_values=swapped["pixel_values"].flip(0)
    ).logits
    torch.testing.assert_close(generator(**pair).logits, expected)
    assert not torch.allclose(generator(**swapped).logits, expected)


def test_training_last_vision_layers_on_lower_states_is_training_them_on_pixels(
    generator, inputs, labels
):
    generator.requires_grad_(False)
    encoder = generator.model.vision_encoder
    for module in (layer_stack(encoder)[-1], generator.model.resampler):
        module.requires_grad_(True)

    def losses_and_gradients(**views):
        generator.zero_grad()
        text = {key: value for key, value in inputs.items() if key != "pixel_values"}
        loss = generator(**text, **views, labels=labels).loss
        loss.backward()
        trained = {n: p.grad.clone() for n, p in generator.named_parameters() if p.requires_grad}
        return {"loss": loss.detach(), **trained}

    pixels = inputs["pixel_values"]
    states = lower_states(encoder, pixels.flatten(0, 1), 1).unflatten(0, pixels.shape[:2])
    whole = losses_and_gradients(pixel_values=pixels)
    torch.testing.assert_close(
        losses_and_gradients(lower_states=states), whole, rtol=1e-5, atol=1e-5
    )
    kept = losses_and_gradients(lower_states=states.half())
    torch.testing.assert_close(kept["loss"], whole["loss"], rtol=1e-3, atol=1e-3)


def test_placeholders_and_pictures_must_agree(generator, inputs):
    one_picture = {**inputs, "pixel_values": inputs["pixel_values"][:1]}
    message = r"found 64 image placeholders in the text, expected 32 for 1 panorama\(s\)"
    with pytest.raises(PanoVLMError, match=message):
        generator(**one_picture)


@torch.no_grad()
def test_a_text_with_placeholders_needs_its_panorama(generator, inputs):
    with pytest.raises(PanoVLMError, match="found 64 image placeholders in the text, but no pano"):
        generator(input_ids=inputs["input_ids"])
    cache = generator(**inputs, use_cache=True).past_key_values
    guesses = inputs["input_ids"][:, 6:10]  # guessing ahead may repeat the prompt's placeholders
    assert (guesses == generator.config.image_token_id).any()
    assert generator(input_ids=guesses, past_key_values=cache).logits.shape == (2, 4, 300)


def test_ids_and_embeddings_exclude_each_other(generator):
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        generator(input_ids=torch.ones(1, 2, dtype=torch.long), inputs_embeds=torch.ones(1, 2, 32))


@torch.no_grad()
def test_patch_tokens_stand_for_pixels(generator, inputs):
    ids = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    patch_tokens = patch_tokens_of(generator.model.vision_encoder, inputs["pixel_values"], None)
    torch.testing.assert_close(
        generator(**ids, patch_tokens=patch_tokens).logits, generator(**inputs).logits
    )


@torch.no_grad()
def test_image_tokens_computed_before_stand_for_pixels(generator, inputs):
    ids = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    features = generator.get_image_features(inputs["pixel_values"])
    as_list = copy.copy(features)
    as_list.pooler_output = list(features.pooler_output)
    expected = generator(**inputs).logits
    for outputs in (features, as_list):
        found = generator(**ids, mm_encoder_outputs={"image": outputs}).logits
        torch.testing.assert_close(found, expected)


def test_the_loss_is_the_librarys_on_full_logits(generator, inputs, labels):
    logits = generator(**inputs).logits
    expected = generator.loss_function(logits=logits, labels=labels, vocab_size=300)
    torch.testing.assert_close(generator(**inputs, labels=labels).loss, expected, rtol=0, atol=1e-6)
    summed = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    counted = generator(**inputs, labels=labels, num_items_in_batch=torch.tensor(10)).loss
    torch.testing.assert_close(counted, summed / 10)


def test_the_lm_head_scores_supervised_positions_alone(generator, inputs, labels):
    scored = []
    generator.lm_head.register_forward_hook(lambda m, given, out: scored.append(given[0].shape))
    output = generator(**inputs, labels=labels)
    num_supervised = int((labels[:, 1:] != -100).sum())
    assert scored == [(num_supervised, 32)]
    assert output.logits.shape == (num_supervised, 300)
    assert num_supervised <= inputs["input_ids"].numel() - 64  # placeholders at the least


@pytest.mark.parametrize("num_items", [None, 10])
def test_a_frozen_lm_head_trains_what_is_before_it_as_one_pass_would(
    generator, inputs, labels, num_items, monkeypatch
):
    monkeypatch.setattr("panovlm.model.loss.CHUNK", 3)
    generator.lm_head.requires_grad_(False)
    weight, counted = generator.model.projection.project.weight, {"num_items_in_batch": num_items}
    expected = generator.eval()(**inputs, labels=labels, **counted).loss
    (gradient,) = torch.autograd.grad(expected, weight)
    output = generator.train()(**inputs, labels=labels, **counted)
    (found,) = torch.autograd.grad(output.loss, weight)
    torch.testing.assert_close((output.loss, found), (expected, gradient))
    assert output.logits is None


def test_text_without_supervision_has_a_loss_with_a_gradient(generator, inputs, labels):
    generator.lm_head.requires_grad_(False)
    nothing = torch.full_like(labels, -100)
    loss = generator.train()(**inputs, labels=nothing, num_items_in_batch=5).loss
    assert (loss.item(), loss.requires_grad) == (0.0, True)


def test_generation_scores_one_position_a_step(generator, inputs):
    scored = []
    generator.lm_head.register_forward_hook(lambda m, given, out: scored.append(given[0].shape[1]))
    generator.generate(**inputs, max_new_tokens=3, min_new_tokens=3)
    assert scored == [1, 1, 1]


@pytest.mark.parametrize("stage", ["resampler", "finetune"])
def test_a_batch_without_pictures_still_reaches_the_projection(generator, stage):
    apply_stage(generator, STAGES[stage].without_lora(), None)
    generator.train()
    ids = torch.randint(3, 250, (1, 6))
    generator(input_ids=ids, labels=ids).loss.backward()
    trained = {n: p for n, p in generator.named_parameters() if p.requires_grad}
    assert any("projection" in name for name in trained)
    assert all(p.grad is not None and not p.grad.any() for p in trained.values())


def test_a_batch_without_pictures_reaches_the_vision_layers_that_train(generator):
    apply_stage(generator, STAGES["finetune"].without_lora().with_last_vision_layers(1), None)
    generator.train()
    ids = torch.randint(3, 250, (1, 6))
    generator(input_ids=ids, labels=ids).loss.backward()
    assert all(p.grad is not None for p in generator.parameters() if p.requires_grad)


@torch.no_grad()
def test_a_batch_without_pictures_scores_the_same_in_both_modes(generator):
    ids = torch.randint(3, 250, (1, 6))
    logits = generator.eval()(input_ids=ids).logits
    torch.testing.assert_close(generator.train()(input_ids=ids).logits, logits)


def test_frozen_modules_stay_in_eval_mode(generator):
    apply_stage(generator, STAGES["resampler"], None)
    generator.train()
    model = generator.model
    assert generator.training and model.resampler.training and model.projection.training
    assert not any(m.training for m in model.vision_encoder.modules())
    assert not any(m.training for m in model.language_model.modules())
    generator.eval()
    assert not any(m.training for m in generator.modules())


@torch.no_grad()
def test_a_causal_mask_of_bools_changes_nothing(generator, inputs):
    seen = inputs["attention_mask"].bool()
    length = seen.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    mask = (causal & seen[:, None, :]) | torch.eye(length, dtype=torch.bool)
    expected = generator(**inputs).logits
    found = generator(**{**inputs, "attention_mask": mask[:, None]}).logits
    torch.testing.assert_close(found[seen], expected[seen])


@torch.no_grad()
def test_a_branch_mask_is_the_same_for_eager_and_sdpa(generator):
    conversations = [TokenSequence(ids, ids) for ids in ([5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 4])]
    batch = collate([pack(conversations)], pad_id=0)
    del batch["labels"]
    logits = {}
    for attention in ("eager", "sdpa"):
        generator.set_attn_implementation(attention)
        assert generator.model.language_model.config._attn_implementation == attention
        logits[attention] = generator(**batch).logits
    torch.testing.assert_close(logits["eager"], logits["sdpa"])


def test_image_features_need_a_picture(generator):
    with pytest.raises(ValueError, match="give pixel_values or patch_tokens"):
        generator.get_image_features()


def test_half_precision_models_answer(generator, inputs):
    generator.to(torch.bfloat16)
    with torch.no_grad():
        logits = generator(**inputs).logits
    assert logits.dtype == torch.bfloat16
    assert logits.isfinite().all()
