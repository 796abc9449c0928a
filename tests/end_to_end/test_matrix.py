"""8 encoders x 8 language models x 3 resamplers x 3 layouts: all three stages, and an answer.

Of the 576 combinations 72 are run: each of the 72 of encoder, resampler and layout once, each with
a language model such that also each language model meets every encoder, resampler and layout.
What the others would add is a language model beside other parts than its image tokens come from.
A stage is one optimiser step in this process, handed over by the files and checks of `train`.
"""

import importlib.util
import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import ENCODERS, LANGUAGE_MODELS
from torch import Tensor
from transformers import PreTrainedModel

from panovlm.stages import ABSENT, STAGES
from panovlm.training.build import build_model, build_processor, load_predecessor
from panovlm.training.sections import LoraSection, ModelSection, OverlapSection, ViewsSection
from panovlm.training.trainable import apply_stage

RESAMPLERS = ("conv", "mlp", "perceiver")
LAYOUTS = ("ring", "rows", "cube")
VIEWS: dict[str, dict[str, Any]] = {
    "ring": {"num_views": 8, "fov_deg": 90.0},
    "rows": {"num_views": 4, "fov_deg": 120.0, "pitches_deg": [0.0, 60.0]},
    "cube": {"cubemap": True, "fov_deg": 110.0},
}
LORA = LoraSection(rank=2, alpha=4)
Combination = tuple[str, str, str, str]


def combinations(encoder: str) -> list[Combination]:
    """What an encoder is run with."""
    start = ENCODERS.index(encoder)
    parts = enumerate(product(RESAMPLERS, LAYOUTS))
    return [(encoder, LANGUAGE_MODELS[(start + place) % 8], *each) for place, each in parts]


def test_the_combinations_cover_what_they_say() -> None:
    chosen = [each for encoder in ENCODERS for each in combinations(encoder)]
    families = (ENCODERS, LANGUAGE_MODELS, RESAMPLERS, LAYOUTS)
    assert {(e, r, v) for e, _, r, v in chosen} == set(product(ENCODERS, RESAMPLERS, LAYOUTS))
    for first in range(4):
        for second in range(first):
            pairs = {(each[first], each[second]) for each in chosen}
            assert pairs == set(product(families[first], families[second]))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_combination_trains_in_three_stages_and_answers(
    model_section: ModelSection,
    encoder_folder: Callable[[str], Path],
    language_model_folder: Callable[..., Path],
    tmp_path: Path,
    encoder: str,
) -> None:
    if encoder == "timm_wrapper" and not importlib.util.find_spec("timm"):
        pytest.skip("timm is not installed")
    panoramas = list(np.random.default_rng(0).integers(0, 256, (2, 64, 128, 3), dtype=np.uint8))
    for number, combination in enumerate(combinations(encoder)):
        _, language_model, resampler, layout = combination
        changes = {"type": resampler, "token_rows": 2, "token_columns": 2}
        section = model_section.model_copy(
            update={
                "vision_encoder": str(encoder_folder(encoder)),
                "language_model": str(language_model_folder(kind=language_model)),
                "views": ViewsSection(**VIEWS[layout], view_size=64),
                "resampler": model_section.resampler.model_copy(update=changes),
            }
        )
        answer = train_and_ask(section, panoramas, tmp_path / str(number))
        assert answer.shape[1] > 0, combination


def train_and_ask(section: ModelSection, panoramas: list[Any], folder: Path) -> Tensor:
    """Take a step in each stage, each from the one before; return tokens of an answer."""
    processor = build_processor(section)
    inputs = dict(processor(images=panoramas, text=["<image>\nWhere?"] * 2, return_tensors="pt"))
    overlap = OverlapSection(pairing="columns" if section.views.layout.is_ring else "rays")
    before, model = None, None
    for stage in STAGES.values():
        torch.manual_seed(0)
        model = build_model(section, stage, overlap)
        if before is not None:
            load_predecessor(model, stage, before, folder / before.name)
        adapters = apply_stage(model, stage, LORA)
        has_text = stage.role("projection") is not ABSENT
        given = {**inputs, "labels": inputs["input_ids"]} if has_text else inputs
        take_step(model, given if has_text else {"pixel_values": inputs["pixel_values"]})
        if adapters is not None:
            adapters.merge_and_unload()
        model.save_pretrained(folder / stage.name)
        before = stage.without_lora()
    assert model is not None
    output: Tensor = model.eval().generate(**inputs, max_new_tokens=2, do_sample=False)
    return output[:, inputs["input_ids"].shape[1] :]


def take_step(model: PreTrainedModel, inputs: dict[str, Tensor]) -> None:
    """Take an optimiser step that moves every trained parameter's module."""
    loss = model.train()(**inputs).loss
    assert math.isfinite(loss.item())
    loss.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert trained and all(parameter.grad is not None for parameter in trained)
    torch.optim.AdamW(trained, lr=1e-3).step()
