"""NanoDet-g as an encoder of patch tokens."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassClassValidationError
from torch import Tensor
from transformers import AutoConfig, AutoModel

from panovlm.model.nanodet import NanoDetConfig, NanoDetModel

SIZES = {"stem_channels": 4, "neck_channels": 6, "num_classes": 5}


@pytest.fixture
def model() -> NanoDetModel:
    torch.manual_seed(0)
    return NanoDetModel(NanoDetConfig(image_size=64, **SIZES)).eval()


@pytest.mark.parametrize(("size", "tokens"), [(64, 4), (96, 9), (70, 9), (416, 169)])
@torch.no_grad()
def test_a_token_is_a_square_of_32_pixels(model: NanoDetModel, size: int, tokens: int) -> None:
    encoded = model(torch.randn(2, 3, size, size)).last_hidden_state
    assert encoded.shape == (2, tokens, 3 * 6 + 5)
    assert model.config.hidden_size == 3 * 6 + 5


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
    for found, expected in zip(model._mixed_scales(pixels), (fine, middle, coarse), strict=True):
        torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_tokens_hold_the_largest_features_and_scores_of_their_place(model: NanoDetModel) -> None:
    pixels = torch.randn(1, 3, 64, 64)
    maps = model._mixed_scales(pixels)
    scores = [
        head(tower(each))
        for head, tower, each in zip(model.classes, model.towers, maps, strict=True)
    ]
    last = model(pixels).last_hidden_state[0, 3]  # below on the right
    corners = [each[0, :, each.shape[2] // 2 :, each.shape[3] // 2 :].amax((1, 2)) for each in maps]
    best = torch.stack(
        [each[0, :, each.shape[2] // 2 :, each.shape[3] // 2 :].amax((1, 2)) for each in scores]
    ).amax(0)
    torch.testing.assert_close(last, torch.cat([*corners, best]))


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
