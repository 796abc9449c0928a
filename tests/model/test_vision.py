"""The adapter to vision encoders: token grids, prefix tokens, row-major order."""

import pytest
import torch
from torch import nn
from transformers import AutoModel, BertConfig
from transformers.models.siglip2.image_processing_pil_siglip2 import convert_image_to_patches

from panovlm.errors import PanoVLMError
from panovlm.model.vision import (
    encode_views,
    num_prefix_tokens,
    patch_token_width,
    patch_tokens_of,
    token_grid,
)

VIT_KINDS = ["siglip", "siglip2", "clip", "dinov2", "dinov2_with_registers", "dinov3_vit"]
PREFIX = {"clip": 1, "dinov2": 1, "dinov2_with_registers": 5, "dinov3_vit": 5}


@pytest.fixture
def load(encoder_folder):
    return lambda kind: AutoModel.from_pretrained(encoder_folder(kind)).eval()


@pytest.fixture
def views():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def without_layers(encoder):
    """The encoder with its patch embedding alone: a token depends on its own patch only."""
    for module in encoder.modules():
        if isinstance(module, nn.ModuleList):
            del module[:]
    return encoder


@pytest.mark.parametrize("kind", VIT_KINDS)
def test_an_encoder_gives_one_token_for_each_cell_of_its_grid(load, views, kind):
    encoder = load(kind)
    assert token_grid(encoder.config, 32) == (4, 4)
    assert encode_views(encoder, views).shape == (3, 16, 32)


@pytest.mark.parametrize(("view_size", "side"), [(32, 1), (33, 2), (160, 5)])
def test_efficientnet_has_one_token_for_each_32_pixels_begun(load, view_size, side):
    encoder = load("efficientnet_lite")
    assert token_grid(encoder.config, view_size) == (side, side)
    tokens = encode_views(encoder, torch.zeros(2, 3, view_size, view_size))
    assert tokens.shape == (2, side * side, 32)


@pytest.mark.parametrize("kind", VIT_KINDS)
def test_class_and_register_tokens_are_dropped(load, views, kind):
    encoder = load(kind)
    assert num_prefix_tokens(encoder.config) == PREFIX.get(kind, 0)
    if kind != "siglip2":
        every_token = encoder(pixel_values=views).last_hidden_state
        assert every_token.shape[1] == 16 + PREFIX.get(kind, 0)
        assert torch.equal(encode_views(encoder, views), every_token[:, -16:])


@pytest.mark.parametrize("kind", VIT_KINDS)
@torch.no_grad()
def test_tokens_lie_row_by_row(load, views, kind):
    encoder = without_layers(load(kind))
    plain = encode_views(encoder, views)
    for row, column in [(0, 0), (0, 3), (1, 2), (3, 0)]:
        painted = views.clone()
        painted[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 1.0
        changes = (encode_views(encoder, painted) - plain).abs().amax(dim=-1)
        assert [4 * row + column] * 3 == changes.argmax(dim=1).tolist()
        assert ((changes > 1e-5).sum(dim=1) == 1).all()


@torch.no_grad()
def test_efficientnet_tokens_lie_row_by_row(load):
    encoder, seen = load("efficientnet_lite"), []
    encoder.head.register_forward_hook(lambda module, inputs, output: seen.append(output))
    tokens = encode_views(encoder, torch.randn(1, 3, 64, 96))
    features = seen[0].clamp(0, 6)  # [1, D, 2, 3]
    for row, column in [(0, 0), (0, 2), (1, 1)]:
        assert torch.equal(tokens[0, 3 * row + column], features[0, :, row, column])


@torch.no_grad()
def test_siglip2_reads_the_patches_of_its_own_image_processor(load, views):
    encoder = load("siglip2")
    patches = [convert_image_to_patches(view.numpy(), 8) for view in views]
    expected = encoder(
        pixel_values=torch.stack([torch.as_tensor(p) for p in patches]),
        pixel_attention_mask=torch.ones(3, 16, dtype=torch.long),
        spatial_shapes=torch.tensor([[4, 4]] * 3),
    ).last_hidden_state
    torch.testing.assert_close(encode_views(encoder, views), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_panoramas_are_encoded_view_by_view(load):
    encoder, pixels = load("clip"), torch.randn(2, 3, 3, 32, 32)
    tokens = patch_tokens_of(encoder, pixels, None)
    assert tokens.shape == (2, 3, 16, 32)
    torch.testing.assert_close(tokens[1], encode_views(encoder, pixels[1]))
    assert patch_tokens_of(encoder, None, tokens) is tokens


def test_an_unknown_encoder_is_refused():
    with pytest.raises(PanoVLMError, match="found a vision encoder of type 'bert', expected one"):
        token_grid(BertConfig(), 32)


@pytest.mark.parametrize("kind", VIT_KINDS)
@torch.no_grad()
def test_views_of_another_size_have_their_own_grid(load, kind):
    encoder = load(kind)
    views = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    assert token_grid(encoder.config, 48) == (6, 6)
    tokens = encode_views(encoder, views)
    assert tokens.shape == (2, 36, 32)
    assert tokens.isfinite().all()


@torch.no_grad()
def test_stretched_positions_keep_a_flat_picture_symmetric(load):
    """Interpolated positions stay positions: without layers, tokens differ by place alone."""
    encoder = without_layers(load("clip"))
    tokens = encode_views(encoder, torch.zeros(1, 3, 64, 64))[0].unflatten(0, (8, 8))
    own = encode_views(encoder, torch.zeros(1, 3, 32, 32))[0].unflatten(0, (4, 4))
    near = (tokens[2, 2] - own[1, 1]).norm() < (tokens[2, 2] - own[3, 3]).norm()
    assert near


@torch.no_grad()
def test_dinov3_convnext_drops_the_mean_token(load):
    encoder, views = load("dinov3_convnext"), torch.randn(2, 3, 64, 64)
    assert token_grid(encoder.config, 64) == (2, 2)
    assert patch_token_width(encoder.config) == 32
    every_token = encoder(pixel_values=views).last_hidden_state
    assert torch.equal(encode_views(encoder, views), every_token[:, 1:])


def test_views_that_cut_a_token_short_are_refused(load):
    with pytest.raises(PanoVLMError, match=r"found view_size 60, expected a multiple of 8.*size"):
        token_grid(load("siglip").config, 60)
