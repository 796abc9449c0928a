"""The last layers of an encoder alone: the same tokens, loss and gradients as all of it."""

import pytest
import torch
from transformers import AutoModel, DINOv3ConvNextConfig, TimmWrapperConfig

from panovlm.model.vision import encode_views
from panovlm.model.vision_layers import (
    can_be_cut,
    encoder_layers,
    layer_stack,
    lower_states,
    tokens_of_states,
)

VIEW_SIZE = 32
TRANSFORMERS = ["siglip", "siglip2", "clip", "dinov2", "dinov2_with_registers"]


@pytest.fixture
def encoder_of(encoder_folder):
    """Return a tiny encoder whose last layer trains."""

    def load(kind):
        encoder = AutoModel.from_pretrained(encoder_folder(kind)).eval().requires_grad_(False)
        layer_stack(encoder)[-1].requires_grad_(True)
        return encoder

    return load


def gradients(encoder):
    return {name: p.grad.clone() for name, p in encoder.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_two_steps_give_the_tokens_and_gradients_of_one(encoder_of, kind):
    encoder = encoder_of(kind)
    views = torch.randn(3, 3, VIEW_SIZE, VIEW_SIZE)
    weights = torch.randn(3, 16, 32)
    whole = encode_views(encoder, views)
    (whole * weights).sum().backward()
    expected = gradients(encoder)
    encoder.zero_grad()
    with torch.no_grad():
        states = lower_states(encoder, views, 1)
    tokens = tokens_of_states(encoder, states, 1, VIEW_SIZE)
    (tokens * weights).sum().backward()
    torch.testing.assert_close(tokens, whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients(encoder), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_transformers_can_be_cut_and_are_whole_afterwards(encoder_of, kind):
    encoder = encoder_of(kind)
    views = torch.randn(1, 3, VIEW_SIZE, VIEW_SIZE)
    before, names = encode_views(encoder, views), list(encoder.state_dict())
    assert can_be_cut(encoder, 1, VIEW_SIZE)
    assert can_be_cut(encoder, 2, VIEW_SIZE)
    assert list(encoder.state_dict()) == names
    assert torch.equal(encode_views(encoder, views), before)


def test_the_layers_of_an_encoder_in_stages_are_those_of_all_its_stages():
    """Also where the longest stage is not the last one, as in ConvNeXt's 3, 3, 9, 3."""
    config = DINOv3ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 2, 4, 2])
    encoder = AutoModel.from_config(config)
    layers = encoder_layers(encoder)
    names = {module: name for name, module in encoder.named_modules()}
    assert len(layers) == 9
    assert [names[layer].split(".")[-3:] for layer in layers[-3:]] == [
        ["2", "layers", "3"],
        ["3", "layers", "0"],
        ["3", "layers", "1"],
    ]
    assert not can_be_cut(encoder, 1, VIEW_SIZE)


def test_the_layers_of_timms_encoders_are_found_and_cut():
    timm = pytest.importorskip("timm")
    plain = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=3)
    assert encoder_layers(plain) == list(plain.blocks)
    staged = timm.create_model("convnext_atto")
    assert encoder_layers(staged)[-2:] == list(staged.stages[-1].blocks)[-2:]
    arguments = {"img_size": 32, "depth": 3}
    config = TimmWrapperConfig(architecture="vit_tiny_patch16_224", model_args=arguments)
    encoder = AutoModel.from_config(config).eval()
    assert can_be_cut(encoder, 1, VIEW_SIZE)


def test_a_convolutional_encoder_is_not_cut(encoder_folder):
    encoder = AutoModel.from_pretrained(encoder_folder("efficientnet_lite")).eval()
    assert not can_be_cut(encoder, 1, VIEW_SIZE)


def test_an_encoder_whose_code_counts_its_layers_is_not_cut(encoder_of, monkeypatch):
    encoder = encoder_of("siglip")
    whole = encoder.encoder.forward

    def counting(*args, **kwargs):
        if len(encoder.encoder.layers) != 2:
            raise ValueError("expected 2 layers")
        return whole(*args, **kwargs)

    monkeypatch.setattr(encoder.encoder, "forward", counting)
    assert not can_be_cut(encoder, 2, VIEW_SIZE)
