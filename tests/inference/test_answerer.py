"""Kept heads change no answer: each equals what the whole prompt alone gives."""

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from panovlm.data.records import Message
from panovlm.inference import answerer as answering
from panovlm.inference.answerer import Answerer, Prompt
from panovlm.model.projection import Projection

TEXTS = ["Where?", "What is to my left, behind the table?", "How many?", "Is it?", "Or not?"]


def prompts(model) -> list[Prompt]:
    shape = (model.config.num_views, 16, model.config.vision_config.hidden_size)
    views = [torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    latents = [model.model.resampler(each).detach() for each in views]
    system = Message(role="system", content="Look around.")
    asked = [Message(role="user", content=f"<image>{text}") for text in TEXTS]
    return [
        Prompt(latents[i % 3], (*([system] * (i // 5)), asked[i % 5]))
        for i in range(2 * len(TEXTS))
    ]


def whole_prompt(model, processor, prompt: Prompt) -> str:
    messages = [{"role": turn.role, "content": turn.content} for turn in prompt.messages]
    ids, _ = processor.tokenize(messages, add_generation_prompt=True)
    image_tokens = model.model.projection(prompt.latents[None])
    output = model.generate(
        input_ids=torch.tensor([ids]),
        mm_encoder_outputs={"image": BaseModelOutputWithPooling(pooler_output=image_tokens)},
        max_new_tokens=answering.MAX_NEW_TOKENS,
        do_sample=False,
    )
    return processor.tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True).strip()


def test_answers_from_kept_heads_equal_those_of_whole_prompts(generator, processor) -> None:
    answerer, asked = Answerer(generator, processor), prompts(generator)
    assert answerer.keeps_heads
    said = answerer(asked, lambda _: None)
    with torch.inference_mode():
        assert said == [whole_prompt(generator, processor, prompt) for prompt in asked]
    assert len(set(said)) > len(TEXTS)


def test_few_pictures_at_a_time_change_nothing(generator, processor, monkeypatch) -> None:
    answerer, asked = Answerer(generator, processor), prompts(generator)
    said = answerer(asked, lambda _: None)
    monkeypatch.setattr(answering, "MAX_PICTURES", 1)
    assert answerer(asked, lambda _: None) == said


def test_a_picture_goes_through_the_projection_once(generator, processor, monkeypatch) -> None:
    rows: list[int] = []
    original = Projection.forward

    def spy(self, latents):
        rows.append(len(latents))
        return original(self, latents)

    monkeypatch.setattr(Projection, "forward", spy)
    Answerer(generator, processor)(prompts(generator)[:5], lambda _: None)
    assert rows == [3]


def test_language_models_with_sliding_windows_read_whole_prompts(
    generator, processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    answerer = Answerer(generator, processor)
    asked = prompts(generator)
    said = answerer(asked, lambda _: None)
    config = generator.config.text_config
    config.sliding_window, config.layer_types = 8, ["sliding_attention"] * config.num_hidden_layers
    sliding = Answerer(generator, processor)
    assert not sliding.keeps_heads
    config.sliding_window = config.layer_types = None
    assert sliding(asked, lambda _: None) == said
