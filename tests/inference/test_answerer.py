"""Kept heads change no answer: each equals what the whole prompt alone gives."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3NextConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling

from panovlm.data.records import Message
from panovlm.errors import PanoVLMError
from panovlm.inference import answerer as answering
from panovlm.inference.answerer import Answerer, LatentQuestion
from panovlm.inference.assistant import Assistant
from panovlm.model.projection import Projection
from panovlm.stages import STAGES
from panovlm.training.build import build_model, build_processor

TEXTS = ["Where?", "What is to my left, behind the table?", "How many?", "Is it?", "Or not?"]


def prompts(model) -> list[LatentQuestion]:
    shape = (model.config.num_views, 16, model.config.vision_config.hidden_size)
    views = [torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    latents = [model.model.resampler(each).detach() for each in views]
    system = Message(role="system", content="Look around.")
    asked = [Message(role="user", content=f"<image>{text}") for text in TEXTS]
    return [
        LatentQuestion(latents[i % 3], (*([system] * (i // 5)), asked[i % 5]))
        for i in range(2 * len(TEXTS))
    ]


def whole_prompt(model, processor, prompt: LatentQuestion) -> str:
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
    said = answerer(asked, lambda _: None)
    with torch.inference_mode():
        assert said == [whole_prompt(generator, processor, prompt) for prompt in asked]
    assert len(set(said)) > len(TEXTS)


def test_few_pictures_at_a_time_change_nothing(generator, processor, monkeypatch) -> None:
    answerer, asked = Answerer(generator, processor), prompts(generator)
    said = answerer(asked, lambda _: None)
    monkeypatch.setattr(answering, "MAX_HEADS", 1)
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


def test_a_head_is_read_once_for_all_its_questions(generator, processor, monkeypatch) -> None:
    read: list[int] = []
    original = answering.read_pieces
    monkeypatch.setattr(
        answering,
        "read_pieces",
        lambda model, ids, images: read.append(len(ids)) or original(model, ids, images),
    )
    asked = prompts(generator)
    Answerer(generator, processor)(asked * 40, lambda _: None)
    assert sum(read) == 6  # three panoramas, with and without instructions


@pytest.mark.parametrize("kind", ["qwen3_sliding", "phi3"])
def test_windows_change_no_answer(kind: str, model_section, language_model_folder) -> None:
    expect_answers_alone(model_section, language_model_folder(kind=kind))


def test_language_models_with_recurrent_layers_read_whole_prompts(
    model_section, language_model_folder, tmp_path
) -> None:
    torch.manual_seed(1)
    config = Qwen3NextConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        layer_types=["linear_attention", "full_attention"],
        mlp_only_layers=[0, 1],
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        vocab_size=300,
        initializer_range=0.2,
        eos_token_id=2,
        pad_token_id=0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(language_model_folder()).save_pretrained(tmp_path)
    model, processor = expect_answers_alone(model_section, tmp_path)
    with pytest.raises(PanoVLMError, match="recurrent layers"):
        Assistant(model, processor)


def expect_answers_alone(model_section, language_model):
    """Expect the answers of whole prompts; return the model of this language model."""
    section = model_section.model_copy(update={"language_model": str(language_model)})
    torch.manual_seed(0)
    model, processor = build_model(section, STAGES["finetune"]).eval(), build_processor(section)
    asked = prompts(model)
    said = Answerer(model, processor)(asked, lambda _: None)
    with torch.inference_mode():
        assert said == [whole_prompt(model, processor, prompt) for prompt in asked]
    assert len(set(said)) > 3
    return model, processor
