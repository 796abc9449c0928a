"""Every encoder, every language model and every resampler goes through all three stages."""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import ENCODERS, LANGUAGE_MODELS
from safetensors.torch import load_file

from panovlm.data.packing import IGNORED, TokenSequence, collate, pack
from panovlm.exporting.merging import merge
from panovlm.inference.answers import SamplingParams
from panovlm.inference.assistant import Assistant
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.stages import STAGES
from panovlm.training import run
from panovlm.training.build import build_model
from panovlm.training.recipe import Recipe, StageSection
from panovlm.training.sections import LoraSection, ModelSection, ViewsSection

WINDOW = 24
"""Tokens that the sliding layers of these models see."""


@pytest.fixture
def go_through(recipe: Recipe, scenes_file: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trains each stage for a step on a changed model section, and asks the model."""

    def train(section: ModelSection) -> None:
        steps = {"steps": 1, "save_steps": None}
        stages = {n: StageSection(**{**s.model_dump(), **steps}) for n, s in recipe.stages.items()}
        changed = recipe.model_copy(update={"model": section, "stages": stages})
        results = run.train(changed, list(STAGES), resume=False)
        assert all(math.isfinite(result.loss_last) for result in results)
        assistant = Assistant.load(changed.output)
        panorama = assistant.open(scenes_file.parent / "0.png")
        assert isinstance(assistant.ask(panorama, "Where?", SamplingParams(max_tokens=3)), str)

    return train


@pytest.mark.parametrize("kind", LANGUAGE_MODELS)
def test_every_language_model_goes_through_the_stages(
    go_through: Any,
    model_section: ModelSection,
    language_model_folder: Callable[..., Path],
    kind: str,
) -> None:
    folder = str(language_model_folder(kind=kind))
    go_through(model_section.model_copy(update={"language_model": folder}))


@pytest.mark.parametrize("kind", ENCODERS)
def test_every_encoder_goes_through_the_stages(
    go_through: Any, model_section: ModelSection, encoder_folder: Callable[[str], Path], kind: str
) -> None:
    if kind == "timm_wrapper" and not importlib.util.find_spec("timm"):
        pytest.skip("timm is not installed")
    grid = {"token_rows": 2, "token_columns": 2}
    changes = {
        "vision_encoder": str(encoder_folder(kind)),
        "views": ViewsSection(num_views=8, fov_deg=90.0, view_size=64),  # half of a view is shared
        "resampler": model_section.resampler.model_copy(update=grid),
    }
    go_through(model_section.model_copy(update=changes))


@pytest.mark.parametrize("reduced", [True, False])
@pytest.mark.parametrize("kind", ["mlp", "perceiver", "pool"])
def test_every_resampler_goes_through_the_stages(
    go_through: Any, model_section: ModelSection, kind: str, reduced: bool
) -> None:
    rows = 2 if reduced else 4
    changes = {"type": kind, "token_rows": rows, "token_columns": 4}
    resampler = model_section.resampler.model_copy(update=changes)
    go_through(model_section.model_copy(update={"resampler": resampler}))


def conversations(num_shared: int) -> list[TokenSequence]:
    """Three conversations with a common beginning, and responses of different lengths."""
    rng = torch.Generator().manual_seed(0)
    prefix = torch.randint(3, 250, (num_shared,), generator=rng).tolist()
    made = []
    for length in (4, 9, 6):
        own = torch.randint(3, 250, (2 * length,), generator=rng).tolist()
        labels = [IGNORED] * (num_shared + length) + own[length:]
        made.append(TokenSequence(prefix + own, labels))
    return made


def loss_of(model: PanoVLMForConditionalGeneration, sequences: list[Any]) -> torch.Tensor:
    loss: torch.Tensor = model(**collate(sequences, pad_id=0)).loss
    return loss


@pytest.mark.parametrize("kind", LANGUAGE_MODELS)
@torch.no_grad()
def test_packed_conversations_cost_what_they_cost_apart(
    model_section: ModelSection, language_model_folder: Callable[..., Path], kind: str
) -> None:
    """Also where the window of sliding layers ends inside a conversation."""
    section = model_section.model_copy(
        update={"language_model": str(language_model_folder(kind=kind))}
    )
    model = build_model(section, STAGES["resampler"]).eval()
    sequences = conversations(num_shared=WINDOW + 6)
    packed = loss_of(model, [pack(sequences)])
    counts = [sum(label != IGNORED for label in s.labels) for s in sequences]
    losses = [loss_of(model, [pack([sequence])]) for sequence in sequences]
    apart = sum(n * loss for n, loss in zip(counts, losses, strict=True)) / sum(counts)
    torch.testing.assert_close(packed, apart, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "lora", [{"variant": "dora"}, {"variant": "rslora"}, {"quantization": "4bit"}], ids=str
)
def test_the_stage_before_and_the_adapters_make_the_finetuned_model(
    recipe: Recipe, tmp_path: Path, lora: dict[str, Any]
) -> None:
    if "quantization" in lora and not importlib.util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is not installed")
    changed = {"lora": LoraSection(rank=4, alpha=8, **lora), "steps": 2}
    section = recipe.stages["finetune"].model_copy(update=changed)
    recipe = recipe.model_copy(update={"stages": recipe.stages | {"finetune": section}})
    run.train(recipe, list(STAGES), resume=False)
    before, finetuned = recipe.output / "resampler", recipe.output / "finetune"
    merge(before, finetuned / "adapter", tmp_path / "merged")
    found = load_file(tmp_path / "merged" / "model.safetensors")
    expected = load_file(finetuned / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6, msg=name)
