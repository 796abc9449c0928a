"""From a recipe's model section to models: whole pretrained weights, and the hand-over."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)

from panovlm.model.errors import PanoVLMError
from panovlm.stages import STAGES
from panovlm.training.build import (
    CHATML,
    build_config,
    build_model,
    build_processor,
    load_predecessor,
)
from panovlm.training.trainable import module_of

TOWER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
PIXELS = {"image_size": 32, "patch_size": 8}


def with_changes(section, **changes):
    return section.model_copy(update=changes)


def with_resampler(section, **changes):
    return with_changes(section, resampler=section.resampler.model_copy(update=changes))


@pytest.fixture
def output(tmp_path):
    """Writes the finished output of a stage whose trained weights are all its own."""

    def write(model, seed=7):
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter))
        model.save_pretrained(tmp_path / "before")
        return tmp_path / "before"

    return write


def test_the_language_model_keeps_every_pretrained_weight(generator, model_section):
    pretrained = AutoModelForCausalLM.from_pretrained(model_section.language_model)
    own = generator.model.language_model.state_dict()
    stored = pretrained.model.state_dict()
    assert own.keys() == stored.keys()
    assert all(torch.equal(own[key], stored[key]) for key in own)
    assert torch.equal(generator.lm_head.weight, pretrained.lm_head.weight)


@torch.no_grad()
def test_without_a_picture_the_model_is_its_language_model(generator, model_section):
    pretrained = AutoModelForCausalLM.from_pretrained(model_section.language_model).eval()
    ids = torch.randint(3, 250, (2, 9))
    torch.testing.assert_close(generator(input_ids=ids).logits, pretrained(input_ids=ids).logits)


@pytest.mark.parametrize("tied", [True, False])
def test_a_full_vocabulary_grows_by_the_placeholder(model_section, language_model_folder, tied):
    folder = str(language_model_folder(tied=tied, vocab_size=259))
    section = with_changes(model_section, language_model=folder)
    model = build_model(section, STAGES["resampler"])
    pretrained = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.image_token_id == 259
    assert model.config.text_config.vocab_size == model.lm_head.out_features == 260
    embeddings = model.get_input_embeddings().weight
    assert torch.equal(embeddings[:259], pretrained.get_input_embeddings().weight)
    assert torch.equal(model.lm_head.weight[:259], pretrained.lm_head.weight)
    assert (model.lm_head.weight is embeddings) is tied


def test_the_placeholder_fits_where_the_vocabulary_has_room(generator, processor):
    assert generator.config.text_config.vocab_size == 300
    assert generator.config.image_token_id == processor.image_token_id == 259


def test_half_precision_checkpoints_are_trained_in_full(
    model_section, language_model_folder, encoder_folder, tmp_path
):
    encoder = AutoModel.from_pretrained(encoder_folder("siglip")).to(torch.bfloat16)
    encoder.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_bytes(
        (encoder_folder("siglip") / "preprocessor_config.json").read_bytes()
    )
    folder = language_model_folder(dtype=torch.bfloat16)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    section = with_changes(model_section, vision_encoder=str(tmp_path), language_model=str(folder))
    for name in STAGES:
        model = build_model(section, STAGES[name])
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    ids = torch.full((1, 34), model.config.image_token_id)
    ids[:, -2:] = 5
    pixel_values = torch.randn(1, 4, 3, 32, 32)
    assert model(input_ids=ids, pixel_values=pixel_values, labels=ids).loss.isfinite()


@pytest.mark.parametrize("stage", ["vision", "resampler"])
def test_the_vision_encoder_keeps_every_pretrained_weight(model_of_stage, model_section, stage):
    stored = AutoModel.from_pretrained(model_section.vision_encoder).state_dict()
    own = model_of_stage(stage).model.vision_encoder.state_dict()
    assert own.keys() == stored.keys()
    assert all(torch.equal(own[key], stored[key]) for key in own)


def two_towers(kind):
    """A tiny image-text model, whose vision half alone is wanted."""
    torch.manual_seed(0)
    text = {**TOWER, "vocab_size": 50, "projection_size": 32}
    if kind == "siglip":
        return SiglipModel(SiglipConfig(text_config=text, vision_config=TOWER | PIXELS))
    return CLIPModel(CLIPConfig(text_config=text, vision_config=TOWER | PIXELS))


@pytest.mark.parametrize("kind", ["siglip", "clip"])
def test_the_vision_half_of_an_image_text_model_is_taken(model_section, kind, tmp_path):
    towers = two_towers(kind)
    towers.save_pretrained(tmp_path)
    statistics = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(statistics))
    section = with_changes(model_section, vision_encoder=str(tmp_path))
    encoder = build_model(section, STAGES["vision"]).model.vision_encoder
    stored = towers.vision_model.state_dict()
    own = {key.removeprefix("vision_model."): value for key, value in encoder.state_dict().items()}
    assert all(torch.equal(own[key], stored[key]) for key in own)
    assert not any("head" in key for key in own)


def test_image_tokens_start_at_the_length_of_embeddings(generator):
    embeddings = generator.get_input_embeddings().weight
    expected = embeddings.pow(2).mean().sqrt()
    torch.testing.assert_close(generator.model.projection.scale.detach(), expected.detach())
    tokens = generator.get_image_features(torch.randn(1, 4, 3, 32, 32)).pooler_output
    torch.testing.assert_close(tokens.pow(2).mean().sqrt(), expected)


def test_pixels_are_normalised_as_the_encoder_was_trained(processor, model_section):
    image_processor = processor.image_processor
    assert tuple(image_processor.image_mean) == (0.5, 0.4, 0.3)
    assert tuple(image_processor.image_std) == (0.2, 0.3, 0.4)
    assert image_processor.layout == build_config(model_section).layout


def test_the_resampler_of_the_vision_stage_arrives_whole(model_of_stage, output):
    before, after = model_of_stage("vision"), model_of_stage("resampler")
    untouched = {k: v.clone() for k, v in after.state_dict().items()}
    folder = output(before)
    count = load_predecessor(after, STAGES["resampler"], STAGES["vision"], folder)
    stored = load_file(folder / "model.safetensors")
    arrived = {key for key in stored if module_of(key) == "resampler"}
    assert count == len(arrived) == len(list(before.model.resampler.state_dict()))
    for key, value in after.state_dict().items():
        assert torch.equal(value, stored[key] if key in arrived else untouched[key]), key


def test_resampler_and_projection_of_the_second_stage_arrive_whole(model_of_stage, output):
    before, after = model_of_stage("resampler"), model_of_stage("finetune")
    untouched = {k: v.clone() for k, v in after.state_dict().items()}
    folder = output(before)
    count = load_predecessor(after, STAGES["finetune"], STAGES["resampler"], folder)
    stored = load_file(folder / "model.safetensors")
    arrived = {key for key in stored if module_of(key) in ("resampler", "projection")}
    assert count == len(arrived)
    assert "model.projection.scale" in arrived
    for key, value in after.state_dict().items():
        assert torch.equal(value, stored[key] if key in arrived else untouched[key]), key


def test_a_stage_without_its_predecessors_output_says_which_to_run(model_of_stage, tmp_path):
    message = "'resampler' starts from stage 'vision'.*no finished output.*--stage vision"
    with pytest.raises(PanoVLMError, match=message):
        load_predecessor(
            model_of_stage("resampler"), STAGES["resampler"], STAGES["vision"], tmp_path / "vision"
        )


def test_the_output_of_another_architecture_is_refused(model_section, model_of_stage, output):
    folder = output(model_of_stage("vision"))
    for changes, found in (({"latent_size": 8}, r"\(16"), ({"num_layers": 2}, "nothing")):
        other = build_model(with_resampler(model_section, **changes), STAGES["resampler"])
        before = {key: value.clone() for key, value in other.state_dict().items()}
        with pytest.raises(PanoVLMError, match=f"another architecture: for .* found {found}"):
            load_predecessor(other, STAGES["resampler"], STAGES["vision"], folder)
        assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())


def test_an_output_that_lacks_a_tensor_is_refused(model_of_stage, output):
    folder = output(model_of_stage("vision"))
    stored = load_file(folder / "model.safetensors")
    del stored["model.resampler.merge.weight"]
    save_file(stored, folder / "model.safetensors")
    with pytest.raises(PanoVLMError, match=r"for model\.resampler\.merge\.weight found nothing"):
        load_predecessor(model_of_stage("resampler"), STAGES["resampler"], STAGES["vision"], folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_rows": 3}, "expected divisors of the vision encoder's 4 x 4 tokens"),
        ({"token_columns": 8}, "change token_rows, token_columns or view_size"),
    ],
)
def test_a_resampler_that_does_not_fit_is_the_users_fault(model_section, changes, message):
    with pytest.raises(PanoVLMError, match=message):
        build_config(with_resampler(model_section, **changes))


def test_chatml_is_the_chat_template_where_the_language_model_knows_it(processor):
    assert processor.chat_template == CHATML.read_text()


def test_the_recipes_chat_template_comes_first(model_section, tmp_path):
    file = tmp_path / "chat.jinja"
    file.write_text("{{ messages[0]['content'] }}")
    section = with_changes(model_section, chat_template=file)
    assert build_processor(section).chat_template == file.read_text()


def test_a_missing_chat_template_is_named(model_section, tmp_path):
    section = with_changes(model_section, chat_template=tmp_path / "nothing.jinja")
    with pytest.raises(PanoVLMError, match=r"cannot read the chat template .*nothing\.jinja"):
        build_processor(section)


def without_chatml(folder, target):
    """The language model in a folder, with a tokenizer that has never heard of ChatML."""
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(target)
    written = json.loads((folder / "tokenizer.json").read_text())
    text = json.dumps(written).replace("<|im_", "<|chat_")
    (target / "tokenizer.json").write_text(text)
    PreTrainedTokenizerFast(
        tokenizer_file=str(target / "tokenizer.json"), eos_token="<|endoftext|>", unk_token="?"
    ).save_pretrained(target)
    return target


def test_a_language_model_without_chatml_needs_a_template(
    model_section, language_model_folder, tmp_path
):
    folder = without_chatml(language_model_folder(), tmp_path)
    section = with_changes(model_section, language_model=str(folder))
    with pytest.raises(PanoVLMError, match=r"no ChatML token.*set model\.chat_template"):
        build_processor(section)


def test_a_language_model_without_chatml_ends_at_its_own_token(
    model_section, language_model_folder, tmp_path
):
    folder = without_chatml(language_model_folder(), tmp_path)
    section = with_changes(model_section, language_model=str(folder), chat_template=CHATML)
    generation_config = build_model(section, STAGES["finetune"]).generation_config
    assert generation_config.eos_token_id == [0]
    assert generation_config.pad_token_id == 0
