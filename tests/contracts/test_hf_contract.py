"""What transformers promises its users holds for PanoVLM: Auto classes, generation, pipelines."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    pipeline,
)

import panovlm
from panovlm.errors import PanoVLMError
from panovlm.stages import STAGES
from panovlm.training.build import build_model

QUESTION = [{"type": "image"}, {"type": "text", "text": "Where is the red cone?"}]
GREEDY = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}


def chat(processor, pictures, texts, **kwargs):
    """Model inputs of one question for each picture (None for a question without one)."""
    conversations = []
    for picture, text in zip(pictures, texts, strict=True):
        image = [] if picture is None else [{"type": "image", "image": picture}]
        content = [*image, {"type": "text", "text": text}]
        conversations.append([{"role": "user", "content": content}])
    return processor.apply_chat_template(
        conversations,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
        processor_kwargs={"padding": True, "padding_side": "left"},
        **kwargs,
    )


@pytest.fixture
def inputs(processor, panorama):
    return chat(processor, [panorama], ["Where is the red cone?"])


@pytest.fixture
def folder(generator, processor, tmp_path):
    """A saved model with its processor."""
    generator.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    return tmp_path


def test_public_names_are_there():
    assert 8 <= len(panovlm.__all__) <= 10
    assert panovlm.__all__ == sorted(panovlm.__all__)
    assert all(hasattr(panovlm, name) for name in panovlm.__all__)


@torch.no_grad()
def test_a_saved_model_comes_back_bit_by_bit(folder, generator, inputs):
    read, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert isinstance(read, panovlm.PanoVLMForConditionalGeneration)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    stored, own = read.state_dict(), generator.state_dict()
    assert stored.keys() == own.keys()
    assert all(torch.equal(stored[key], own[key]) for key in own)
    assert read.generation_config.to_dict() == generator.generation_config.to_dict()
    assert torch.equal(read(**inputs).logits, generator(**inputs).logits)


@torch.no_grad()
def test_the_base_model_is_what_auto_model_gives(folder, generator, inputs):
    base, info = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert type(base) is panovlm.PanoVLMModel
    assert not info["missing_keys"]
    hidden = base(**inputs).last_hidden_state
    assert torch.equal(hidden, generator.model(**inputs).last_hidden_state)


def test_every_auto_class_knows_panovlm(folder, processor, panorama):
    assert type(AutoConfig.from_pretrained(folder)) is panovlm.PanoVLMConfig
    assert type(AutoImageProcessor.from_pretrained(folder)) is panovlm.PanoVLMImageProcessor
    read = AutoProcessor.from_pretrained(folder)
    assert type(read) is panovlm.PanoVLMProcessor
    expected = chat(processor, [panorama], ["Where?"])
    for key, value in chat(read, [panorama], ["Where?"]).items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_stay_tied_or_untied(language_model_folder, model_section, tied, tmp_path):
    language_model = str(language_model_folder(tied=tied))
    section = model_section.model_copy(update={"language_model": language_model})
    build_model(section, STAGES["resampler"]).save_pretrained(tmp_path)
    assert ("lm_head.weight" in load_file(tmp_path / "model.safetensors")) is not tied
    read = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert (read.lm_head.weight is read.get_input_embeddings().weight) is tied
    assert read.config.tie_word_embeddings is tied


def test_the_cache_changes_no_answer(generator, inputs):
    with_cache = generator.generate(**inputs, **GREEDY)
    assert with_cache.shape[1] == inputs["input_ids"].shape[1] + 8
    for other in ({"use_cache": False}, {"cache_implementation": "static"}):
        assert torch.equal(generator.generate(**inputs, **GREEDY, **other), with_cache)


def test_a_batch_answers_as_each_alone(generator, processor, panorama):
    pictures = [panorama, panorama.rotate(180), panorama]
    texts = ["Where?", "What is behind me, and how far?", "Which is nearest?"]
    batch = chat(processor, pictures, texts)
    assert not batch["attention_mask"].all()
    together = generator.generate(**batch, **GREEDY)[:, -8:]
    for row, picture, text in zip(together, pictures, texts, strict=True):
        alone = generator.generate(**chat(processor, [picture], [text]), **GREEDY)[0, -8:]
        assert row.tolist() == alone.tolist()


def test_answers_depend_on_the_picture(generator, processor, panorama):
    answers = [
        generator.generate(**chat(processor, [picture], ["Where?"]), **GREEDY)[0, -8:].tolist()
        for picture in (panorama, panorama.rotate(180))
    ]
    assert answers[0] != answers[1]


@pytest.mark.parametrize("strategy", [{"num_beams": 3}, {"do_sample": True}])
def test_other_decoding_strategies_run(generator, processor, panorama, strategy):
    torch.manual_seed(0)
    batch = chat(processor, [panorama] * 2, ["Where?", "What is it?"])
    output = generator.generate(**batch, **GREEDY | strategy)
    assert output.shape == (2, batch["input_ids"].shape[1] + 8)


def test_beam_search_of_one_row_is_that_of_a_batch(generator, processor, panorama):
    beams = {**GREEDY, "num_beams": 3}
    batch = chat(processor, [panorama, panorama.rotate(180)], ["Where?", "What is it?"])
    alone = chat(processor, [panorama.rotate(180)], ["What is it?"])
    together = generator.generate(**batch, **beams)[1, -8:]
    assert together.tolist() == generator.generate(**alone, **beams)[0, -8:].tolist()


def test_generation_encodes_each_picture_once(generator, inputs):
    encoded = []
    generator.model.vision_encoder.register_forward_hook(lambda m, i, o: encoded.append(1))
    generator.generate(**inputs, **GREEDY)
    generator.generate(**inputs, **{**GREEDY, "num_beams": 2})
    assert len(encoded) == 2


def test_generation_takes_image_tokens_computed_before(generator, inputs):
    expected = generator.generate(**inputs, **GREEDY)
    with torch.no_grad():
        features = generator.get_image_features(inputs.pop("pixel_values"))
    found = generator.generate(**inputs, mm_encoder_outputs={"image": features}, **GREEDY)
    assert torch.equal(found, expected)


def test_generation_does_not_answer_without_the_picture(generator, inputs):
    """The library drops `patch_tokens` before the prefill: better no answer than a blind one."""
    del inputs["pixel_values"]
    for given in ({}, {"patch_tokens": torch.zeros(1, 4, 16, 32)}):
        with pytest.raises(PanoVLMError, match=r"found 32 image placeholders.*but no panorama"):
            generator.generate(**inputs, **given, **GREEDY)


def test_guessing_ahead_from_the_prompt_changes_no_answer(generator, inputs):
    expected = generator.generate(**inputs, **GREEDY)
    assert torch.equal(generator.generate(**inputs, **GREEDY, prompt_lookup_num_tokens=4), expected)


def test_a_prompt_read_in_chunks_changes_no_answer(generator, inputs):
    expected = generator.generate(**inputs, **GREEDY)
    assert torch.equal(generator.generate(**inputs, **GREEDY, prefill_chunk_size=20), expected)


def test_the_placeholder_is_never_said(generator, inputs):
    with torch.no_grad():
        generator.lm_head.weight[generator.config.image_token_id] *= 1e4
    torch.manual_seed(0)
    generated = generator.generate(**inputs, **{**GREEDY, "do_sample": True, "max_new_tokens": 30})
    prompt_length = inputs["input_ids"].shape[1]
    assert generator.config.image_token_id not in generated[0, prompt_length:]


def test_generation_ends_with_the_turn(generator, inputs, processor):
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end in generator.generation_config.eos_token_id
    assert processor.tokenizer.pad_token_id == generator.generation_config.pad_token_id


def test_a_chat_needs_no_picture(generator, processor):
    inputs = chat(processor, [None, None], ["Hello", "What can you see?"])
    assert "pixel_values" not in inputs
    assert generator.generate(**inputs, **GREEDY).shape == (2, inputs["input_ids"].shape[1] + 8)


def test_the_pipeline_answers(folder, generator, processor, panorama, inputs):
    pipe = pipeline("image-text-to-text", model=str(folder), device="cpu")
    content = [{**QUESTION[0], "image": panorama}, QUESTION[1]]
    found = pipe(
        text=[{"role": "user", "content": content}],
        generate_kwargs=GREEDY,
        return_full_text=False,
    )
    expected = generator.generate(**inputs, **GREEDY)[0, -8:]
    assert found[0]["generated_text"] == processor.decode(expected, skip_special_tokens=True)
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": QUESTION}], tokenize=False, add_generation_prompt=True
    )
    plain = pipe(images=[panorama], text=prompt, generate_kwargs=GREEDY, return_full_text=False)
    assert plain[0]["generated_text"] == found[0]["generated_text"]
