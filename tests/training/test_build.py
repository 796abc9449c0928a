"""From a recipe's model section to models: whole pretrained weights, and the hand-over."""

import json

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    CLIPConfig,
    CLIPModel,
    GPT2Config,
    MambaConfig,
    OPTConfig,
    PhiConfig,
    SiglipConfig,
    SiglipModel,
)

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import DIRECTIONS
from panovlm.model.resampler import RESAMPLERS
from panovlm.stages import STAGES
from panovlm.training.build import (
    build_model,
    check_language_model,
    free_vision_encoder,
    restore_vision_encoder,
)

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


@pytest.mark.parametrize("kind", RESAMPLERS)
@pytest.mark.parametrize("stage", ["vision", "resampler"])
def test_no_weight_is_left_as_the_memory_was(model_section, kind, stage):
    section = with_resampler(model_section, type=kind)
    torch.use_deterministic_algorithms(True, warn_only=True)  # new memory is then full of NaN
    try:
        model = build_model(section, STAGES[stage])
    finally:
        torch.use_deterministic_algorithms(False)
    empty = [name for name, each in model.state_dict().items() if each.isnan().any()]
    empty += [name for name, each in model.named_buffers() if each.isnan().any()]
    assert empty == []


@pytest.mark.parametrize("stage", ["vision", "resampler"])
def test_fresh_weights_are_as_large_as_without_pretrained_backbones(model_section, stage):
    section = with_resampler(model_section, type="perceiver", latent_size=64)
    loaded = build_model(section, STAGES[stage])
    fresh = build_model(section, STAGES[stage], pretrained=False)
    parts = ("model.resampler", "model.projection", "vicreg_projector")
    expected = {k: v for k, v in fresh.named_parameters() if k.startswith(parts)}
    for name, each in expected.items():
        size = each.square().mean().sqrt()
        found = loaded.get_parameter(name).square().mean().sqrt()
        torch.testing.assert_close(found, size, rtol=0.3, atol=0)


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


@torch.no_grad()
@pytest.mark.parametrize(("kind", "tolerance"), [("mlp", 1e-6), ("linear", 0.2)])
def test_image_tokens_have_the_length_of_the_words_beside_them(
    model_section, processor, kind, tolerance
):
    model = build_model(with_changes(model_section, projection=kind), STAGES["resampler"])
    words = processor.tokenizer(" ".join(DIRECTIONS), add_special_tokens=False)["input_ids"]
    expected = model.get_input_embeddings().weight[words].pow(2).mean().sqrt()
    tokens = model.get_image_features(torch.randn(1, 4, 3, 32, 32)).pooler_output
    torch.testing.assert_close(tokens.pow(2).mean().sqrt(), expected, rtol=tolerance, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (GPT2Config(n_embd=32, n_layer=1, n_head=2), "type 'gpt2', whose embeddings are no"),
        (OPTConfig(hidden_size=32, ffn_dim=32, num_attention_heads=2), "type 'opt', whose embed"),
        (MambaConfig(hidden_size=32, num_hidden_layers=1), "type 'mamba', whose embeddings"),
        (PhiConfig(**TOWER), "type 'phi', whose LM head has a bias.*choose another model.lang"),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_language_models_built_in_another_way_are_refused_before_anything_is_read(
    model_section, tmp_path, config, message
):
    config.save_pretrained(tmp_path)
    with pytest.raises(PanoVLMError, match=message):
        check_language_model(with_changes(model_section, language_model=str(tmp_path)))


def test_scores_changed_after_the_head_are_refused(language_model_folder, model_section):
    folder = str(language_model_folder(kind="gemma2"))
    section = with_changes(model_section, language_model=folder)
    with pytest.raises(PanoVLMError, match=r"'gemma2' that changes its scores after the LM head"):
        build_model(section, STAGES["resampler"])


@torch.no_grad()
def test_image_tokens_are_as_long_as_the_words_that_gemma_reads(
    language_model_folder, model_section, processor
):
    """Gemma scales its embeddings on the way out of the table."""
    folder = str(language_model_folder(kind="gemma3_text"))
    section = with_changes(model_section, language_model=folder, projection="mlp")
    model = build_model(section, STAGES["resampler"])
    ids = processor.tokenizer(" ".join(DIRECTIONS), return_tensors="pt")["input_ids"]
    words = model.get_input_embeddings()(ids)
    image = model.get_image_features(patch_tokens=torch.randn(1, 4, 16, 32)).pooler_output
    rms = [tokens.square().mean().sqrt() for tokens in (words, image)]
    torch.testing.assert_close(rms[0], rms[1], rtol=1e-3, atol=0)


def test_interpolated_positions_are_logged(encoder_folder, model_section, caplog):
    views = model_section.views.model_copy(update={"view_size": 64})
    section = with_changes(model_section, views=views)
    with caplog.at_level("INFO", logger="panovlm"):
        model = build_model(section, STAGES["vision"])
    assert "siglip_vision_model has positions for 32 pixels: interpolated to 64" in caplog.text
    assert model.model.resampler.grid_in == (8, 8)


def test_a_freed_encoder_comes_back_as_it_was(model_section):
    model = build_model(model_section, STAGES["vision"])
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    free_vision_encoder(model)
    assert not any(parameter.numel() for parameter in model.model.vision_encoder.parameters())
    restore_vision_encoder(model, model_section)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_an_encoder_that_was_not_freed_is_kept(model_section):
    model = build_model(model_section, STAGES["vision"])
    encoder = model.model.vision_encoder
    restore_vision_encoder(model, model_section)
    assert model.model.vision_encoder is encoder
