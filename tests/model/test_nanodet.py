"""NanoDet-g as an encoder of patch tokens, and its boxes."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassClassValidationError
from torch import Tensor
from transformers import AutoConfig, AutoModel

from panovlm.model.nanodet import (
    NUM_BINS,
    NanoDetConfig,
    NanoDetForObjectDetection,
    NanoDetModel,
)

SIZES = {"stem_channels": 4, "neck_channels": 6, "num_classes": 5}


@pytest.fixture
def model() -> NanoDetModel:
    torch.manual_seed(0)
    return NanoDetModel(NanoDetConfig(image_size=64, **SIZES)).eval()


@pytest.mark.parametrize(("size", "tokens"), [(64, 4), (96, 9), (70, 9), (416, 169)])
@torch.no_grad()
def test_a_token_is_a_square_of_32_pixels(model: NanoDetModel, size: int, tokens: int) -> None:
    encoded = model(torch.randn(2, 3, size, size)).last_hidden_state
    assert encoded.shape == (2, tokens, 5)
    assert model.config.hidden_size == 5


@torch.no_grad()
def test_each_scale_is_mixed_with_those_beside_it(model: NanoDetModel) -> None:
    pixels = torch.randn(1, 3, 64, 64)
    features = F.max_pool2d(model.stem(pixels), 3, stride=2, padding=1)
    stages = [features := stage(features) for stage in model.stages]
    fine, middle, coarse = (
        lateral(each) for lateral, each in zip(model.laterals, stages[1:], strict=True)
    )

    def resized(map: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(map, like.shape[-2:], mode="bilinear")

    middle = middle + resized(coarse, middle)
    fine = fine + resized(middle, fine)
    middle = middle + resized(fine, middle)
    coarse = coarse + resized(middle, coarse)
    for found, expected in zip(model.mixed_scales(pixels), (fine, middle, coarse), strict=True):
        torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_tokens_hold_the_largest_probabilities_of_their_place(model: NanoDetModel) -> None:
    pixels = torch.randn(1, 3, 64, 64)
    maps = model.mixed_scales(pixels)
    scores = [
        head(tower(each))
        for head, tower, each in zip(model.classes, model.towers, maps, strict=True)
    ]
    last = model(pixels).last_hidden_state[0, 3]  # below on the right
    corners = [
        each[0, :, each.shape[2] // 2 :, each.shape[3] // 2 :].amax((1, 2)) for each in scores
    ]
    torch.testing.assert_close(last, torch.stack(corners).amax(0).sigmoid())


def test_saved_and_loaded_by_auto_classes_is_equal(model: NanoDetModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    assert isinstance(loaded, NanoDetModel)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), NanoDetConfig)
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(pixels).last_hidden_state, model(pixels).last_hidden_state)


def test_gradients_reach_every_weight(model: NanoDetModel) -> None:
    model(torch.randn(2, 3, 96, 96)).last_hidden_state.square().sum().backward()
    assert [name for name, weight in model.named_parameters() if not weight.grad.any()] == []


@pytest.mark.parametrize("field", ["image_size", *SIZES])
def test_size_of_zero_is_refused_with_its_name(field: str) -> None:
    with pytest.raises(
        StrictDataclassClassValidationError, match=f"{field} is 0, expected a positive number"
    ):
        NanoDetConfig(**{field: 0})


@pytest.fixture
def detector() -> NanoDetForObjectDetection:
    torch.manual_seed(0)
    return NanoDetForObjectDetection(NanoDetConfig(image_size=64, **SIZES)).eval()


@torch.no_grad()
def test_every_place_of_each_scale_has_scores_and_a_box(
    detector: NanoDetForObjectDetection,
) -> None:
    output = detector(torch.randn(2, 3, 64, 96))
    places = 8 * 12 + 4 * 6 + 2 * 3
    assert output.scores.shape == (2, places, 5)
    assert output.boxes.shape == (2, places, 4)
    assert output.scores.min() >= 0 and output.scores.max() <= 1


@torch.no_grad()
def test_sides_are_as_far_as_the_mean_of_their_distances(
    detector: NanoDetForObjectDetection,
) -> None:
    # Equal chances for all of 0 to 10 strides, but for the right side: surely 2 strides.
    for layer in detector.distances:
        layer.weight.zero_()
        layer.bias.zero_()
        layer.bias[2 * NUM_BINS + 2] = 1e4
    boxes = detector(torch.randn(1, 3, 64, 64)).boxes[0]
    # The second place of the first row at stride 8 is at (12, 4).
    assert boxes[1].tolist() == pytest.approx([12 - 40, 4 - 40, 12 + 16, 4 + 40])
    assert boxes[-1].tolist() == pytest.approx([48 - 160, 48 - 160, 48 + 64, 48 + 160])


@torch.no_grad()
def test_the_encoder_reads_the_weights_of_the_detector(
    detector: NanoDetForObjectDetection, tmp_path: Path
) -> None:
    detector.save_pretrained(tmp_path)
    pixels = torch.randn(1, 3, 64, 64)
    encoder = AutoModel.from_pretrained(tmp_path).eval()
    tokens = encoder(pixels).last_hidden_state
    assert torch.equal(tokens, detector.nanodet(pixels).last_hidden_state)
    again = NanoDetForObjectDetection.from_pretrained(tmp_path).eval()
    assert torch.equal(again(pixels).boxes, detector(pixels).boxes)
