"""EfficientNet-Lite0 as an encoder of patch tokens."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassClassValidationError
from torch import Tensor
from transformers import AutoConfig, AutoModel

from panovlm.backbones.download import PUBLISHED_LAYERS, folded_weights
from panovlm.model.efficientnet_lite import (
    EfficientNetLiteConfig,
    EfficientNetLiteModel,
    SameConv2d,
)

EPSILON = 1e-3


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def model() -> EfficientNetLiteModel:
    torch.manual_seed(0)
    return EfficientNetLiteModel(EfficientNetLiteConfig()).eval()


def published_weights(model: EfficientNetLiteModel) -> dict[str, Tensor]:
    """Random weights under the names and shapes of the published file."""
    weights: dict[str, Tensor] = {"_fc.weight": torch.zeros(1000, 1280)}
    for name, convolution in model.named_modules():
        if isinstance(convolution, SameConv2d):
            block, _, layer = name.rpartition(".")
            prefix = f"_{block}." if block else ""
            ours, norm = (prefix + part for part in PUBLISHED_LAYERS[layer])
            channels = convolution.out_channels
            weights[f"{ours}.weight"] = torch.randn_like(convolution.weight) * 0.2
            weights[f"{norm}.weight"] = torch.rand(channels) + 0.5
            weights[f"{norm}.bias"] = torch.randn(channels)
            weights[f"{norm}.running_mean"] = torch.randn(channels)
            weights[f"{norm}.running_var"] = torch.rand(channels) + 0.1
    return weights


def published_layer(
    features: Tensor, weights: dict[str, Tensor], convolution: str, norm: str, stride: int = 1
) -> Tensor:
    """A convolution with TensorFlow's SAME padding and its normalisation, as published."""
    kernel = weights[f"{convolution}.weight"]
    size, length = kernel.shape[-1], features.shape[-1]
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    features = F.pad(features, (total // 2, total - total // 2) * 2)
    groups = features.shape[1] // kernel.shape[1]
    return F.batch_norm(
        F.conv2d(features, kernel, stride=stride, groups=groups),
        weights[f"{norm}.running_mean"],
        weights[f"{norm}.running_var"],
        weights[f"{norm}.weight"],
        weights[f"{norm}.bias"],
        eps=EPSILON,
    )


def published_block(
    features: Tensor, weights: dict[str, Tensor], block: int, stride: int
) -> Tensor:
    """One block with expansion as published: expand, depthwise, project, without a skip."""
    prefix = f"_blocks.{block}."
    for convolution, norm, step in (
        ("_expand_conv", "_bn0", 1),
        ("_depthwise_conv", "_bn1", stride),
    ):
        layer = published_layer(features, weights, prefix + convolution, prefix + norm, step)
        features = F.relu6(layer)
    return published_layer(features, weights, f"{prefix}_project_conv", f"{prefix}_bn2")


@pytest.fixture(scope="module")
def folded() -> tuple[EfficientNetLiteModel, dict[str, Tensor]]:
    torch.manual_seed(0)
    model = EfficientNetLiteModel(EfficientNetLiteConfig()).eval()
    published = published_weights(model)
    model.load_state_dict(folded_weights(model, published))
    return model, published


@pytest.mark.parametrize("size", [16, 15], ids=["even", "odd"])
def test_folded_striding_block_equals_convolutions_with_batch_norm(
    folded: tuple[EfficientNetLiteModel, dict[str, Tensor]], size: int
) -> None:
    model, published = folded
    features = torch.randn(2, 16, size, size)
    expected = published_block(features, published, block=1, stride=2)
    with torch.no_grad():
        torch.testing.assert_close(model.blocks[1](features), expected, rtol=1e-4, atol=1e-4)


def test_folded_residual_block_adds_its_input(
    folded: tuple[EfficientNetLiteModel, dict[str, Tensor]],
) -> None:
    model, published = folded
    features = torch.randn(2, 24, 9, 9)
    expected = published_block(features, published, block=2, stride=1) + features
    with torch.no_grad():
        torch.testing.assert_close(model.blocks[2](features), expected, rtol=1e-4, atol=1e-4)


def test_folded_stem_equals_published_stem(
    folded: tuple[EfficientNetLiteModel, dict[str, Tensor]],
) -> None:
    model, published = folded
    pixels = torch.randn(1, 3, 20, 20)
    expected = published_layer(pixels, published, "_conv_stem", "_bn0", stride=2)
    with torch.no_grad():
        torch.testing.assert_close(model.stem(pixels), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("size", "tokens"), [(192, 36), (160, 25), (130, 25), (128, 16)])
def test_token_count_is_ceil_of_size_over_32_squared(
    model: EfficientNetLiteModel, size: int, tokens: int
) -> None:
    with torch.no_grad():
        encoded = model(torch.randn(1, 3, size, size)).last_hidden_state
    assert encoded.shape == (1, tokens, 1280)


def test_tokens_are_row_major(model: EfficientNetLiteModel) -> None:
    maps: list[Tensor] = []
    # A copy, because the ReLU6 behind the head works in place.
    handle = model.head.register_forward_hook(lambda *args: maps.append(args[2].clone()))
    with torch.no_grad():
        encoded = model(torch.randn(2, 3, 64, 128)).last_hidden_state
    handle.remove()
    row, column, width = 1, 2, 4
    assert maps[0].shape == (2, 1280, 2, width)
    token = encoded[:, row * width + column]
    torch.testing.assert_close(token, F.relu6(maps[0][:, :, row, column]))


def test_memory_format_of_the_input_does_not_matter(model: EfficientNetLiteModel) -> None:
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        plain = model(pixels).last_hidden_state
        channels_last = model(pixels.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(channels_last.last_hidden_state, plain)


def test_pictures_of_a_batch_do_not_mix(model: EfficientNetLiteModel) -> None:
    pixels = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        together = model(pixels).last_hidden_state
        alone = model(pixels[1:2]).last_hidden_state
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-4)


def test_training_mode_gives_the_same_tokens(model: EfficientNetLiteModel) -> None:
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        evaluated = model(pixels).last_hidden_state
        trained = model.train()(pixels).last_hidden_state
    model.eval()
    assert torch.equal(evaluated, trained)


def test_saved_and_loaded_by_auto_classes_is_equal(
    model: EfficientNetLiteModel, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    assert isinstance(loaded, EfficientNetLiteModel)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), EfficientNetLiteConfig)
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(pixels).last_hidden_state, model(pixels).last_hidden_state)


def test_gradients_reach_every_weight_and_the_pixels(model: EfficientNetLiteModel) -> None:
    pixels = torch.randn(1, 3, 64, 64, requires_grad=True)
    model(pixels).last_hidden_state.sum().backward()
    assert pixels.grad is not None and pixels.grad.abs().max() > 0
    without = [
        name
        for name, weight in model.named_parameters()
        if weight.grad is None or not weight.grad.any()
    ]
    model.zero_grad()
    assert without == []


@pytest.mark.parametrize("field", ["image_size", "hidden_size"])
def test_size_of_zero_is_refused_with_its_name(field: str) -> None:
    with pytest.raises(
        StrictDataclassClassValidationError, match=f"{field} is 0, expected a positive number"
    ):
        EfficientNetLiteConfig(**{field: 0})


@pytest.mark.parametrize("sizes", [(16, 24), (16, 24, 40, 80, 112, 192, 0)], ids=["few", "zero"])
@pytest.mark.parametrize("field", ["depths", "widths"])
def test_each_run_of_blocks_needs_its_size(field: str, sizes: tuple[int, ...]) -> None:
    message = rf"{field} is \[16, .*expected 7 positive numbers"
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        EfficientNetLiteConfig(**{field: sizes})
