"""A plan says what a run will take without loading it, and refuses what cannot fit."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from panovlm.data.cache import PatchTokenCache
from panovlm.errors import PanoVLMError
from panovlm.stages import STAGES
from panovlm.training import plan as planning
from panovlm.training.build import build_image_processor, build_model, build_vision_encoder
from panovlm.training.footprint import ADAM_STATES, StepShape, build_without_weights, footprint
from panovlm.training.recipe import ModelSection, Recipe, StageSection
from panovlm.training.trainable import apply_stage

FLOAT_BYTES = 4


class Disk(NamedTuple):
    free: int


@pytest.fixture
def recipe(
    tmp_path: Path, model_section: ModelSection, scenes_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Recipe:
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path / "cache"))
    shared: dict[str, Any] = {"data": scenes_file, "steps": 6, "batch_size": 2}
    stages = {name: StageSection(**shared) for name in STAGES}
    return Recipe(output=tmp_path / "run", model=model_section, stages=stages, precision="fp32")


def test_the_plan_counts_what_the_models_have(recipe: Recipe) -> None:
    plans = planning.plan(recipe)
    assert [each.name for each in plans] == list(STAGES)
    for each in plans:
        model = build_model(recipe.model, STAGES[each.name])
        apply_stage(model, STAGES[each.name], recipe.section(each.name).lora)
        parameters = list(model.parameters())
        trained = sum(p.numel() for p in parameters if p.requires_grad)
        assert each.footprint.weights == FLOAT_BYTES * sum(p.numel() for p in parameters)
        encoder = model.model.vision_encoder.parameters()
        assert each.footprint.freed == FLOAT_BYTES * sum(p.numel() for p in encoder)
        assert each.footprint.optimiser == FLOAT_BYTES * ADAM_STATES * trained
        assert each.steps_per_epoch == 2
        assert each.image_tokens == (32 if each.shape.length else 0)


def test_the_plan_knows_the_size_of_the_cache(recipe: Recipe, tmp_path: Path) -> None:
    encoder = build_vision_encoder(recipe.model)
    cache = PatchTokenCache(tmp_path, encoder, build_image_processor(recipe.model), use_bf16=False)
    assert {p.cache_bytes for p in planning.plan(recipe)} == {3 * cache.bytes_per_picture}


def test_activations_grow_with_the_batch(recipe: Recipe) -> None:
    for name, stage in STAGES.items():
        config = planning.build_config(recipe.model)
        model = build_without_weights(config, stage, recipe.section(name).lora)
        shapes = (StepShape(n, 64, 8 * n) for n in (1, 2))
        one, two = (footprint(model, stage, s, frees_encoder=True).activations for s in shapes)
        assert 1.8 * one < two <= 2 * one


def test_planning_loads_no_weights(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **kwargs: Any) -> None:
        pytest.fail("weights were loaded")

    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", load)
    assert len(planning.plan(recipe)) == 3


def test_what_cannot_fit_is_refused_with_the_knob(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = planning.plan(recipe)
    assert planning.refusals(recipe, plans) == []
    monkeypatch.setattr(planning, "_memory_mb", lambda: 10.0)
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda folder: Disk(100))
    errors = planning.refusals(recipe, plans)
    assert len(errors) == 5
    assert all("lower batch_size" in error for error in errors[:3])
    assert "PANOVLM_CACHE" in errors[3]
    assert "set output" in errors[4]


def test_a_conversation_too_long_for_the_model_is_refused(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = planning.build_config

    def short(section: ModelSection) -> Any:
        config = original(section)
        config.text_config.max_position_embeddings = 20
        return config

    monkeypatch.setattr(planning, "build_config", short)
    with pytest.raises(PanoVLMError, match="tokens too many for 20"):
        planning.plan(recipe)


def test_steps_are_timed_where_asked(recipe: Recipe) -> None:
    for each in planning.plan(recipe):
        measured = planning.measure(recipe, each)
        assert measured.seconds_per_epoch == pytest.approx(2 * measured.seconds_per_step)
        assert measured.peak_memory_mb > 0
