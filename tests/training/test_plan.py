"""A plan shows what a run will take without loading it, and refuses what cannot fit."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from panovlm.commands.training import plan as plan_command
from panovlm.data.cache import PatchTokenCache
from panovlm.errors import PanoVLMError
from panovlm.stages import STAGES, Objective
from panovlm.training import attention as attending
from panovlm.training import plan as planning
from panovlm.training import stage_run
from panovlm.training.attention import SCORE_BYTES
from panovlm.training.build import (
    build_config,
    build_image_processor,
    build_model,
    build_vision_encoder,
)
from panovlm.training.footprint import ADAM_STATES, FLOAT_BYTES, BatchShape, footprint
from panovlm.training.plan import MB
from panovlm.training.recipe import Recipe, StageSection
from panovlm.training.sections import ModelSection, ViewsSection
from panovlm.training.trainable import apply_stage, module_of

TEXT = Objective.NEXT_TOKEN


class Disk(NamedTuple):
    free: int


@pytest.fixture
def recipe(
    tmp_path: Path, model_section: ModelSection, scenes_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Recipe:
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path / "cache"))
    shared: dict[str, Any] = {"data": scenes_file, "steps": 6, "batch_size": 2}
    stages = {name: StageSection(**shared) for name in STAGES}
    return Recipe(output=tmp_path / "run", model=model_section, stages=stages, dtype="fp32")


def test_the_plan_counts_what_the_models_have(recipe: Recipe) -> None:
    plans = planning.plan(recipe)
    assert [each.run.name for each in plans] == list(STAGES)
    for each in plans:
        model = build_model(recipe.model, each.run.stage)
        apply_stage(model, each.run.stage, each.run.lora)
        parameters = list(model.parameters())
        trained = sum(p.numel() for p in parameters if p.requires_grad)
        assert each.footprint.weights == FLOAT_BYTES * sum(p.numel() for p in parameters)
        encoder = model.model.vision_encoder.parameters()
        assert each.footprint.freed == FLOAT_BYTES * sum(p.numel() for p in encoder)
        assert each.footprint.optimiser == FLOAT_BYTES * ADAM_STATES * trained
        assert each.row()[planning.HEADER.index("steps")] == "6"
        assert each.image_tokens == (32 if each.batch.length else 0)


def test_the_plan_knows_the_size_of_the_cache(recipe: Recipe, tmp_path: Path) -> None:
    encoder = build_vision_encoder(recipe.model)
    cache = PatchTokenCache(tmp_path, encoder, build_image_processor(recipe.model), use_bf16=False)
    for each in planning.plan(recipe):
        assert list(each.cached.values()) == 3 * [cache.bytes_per_picture]


def test_activations_grow_with_the_batch(recipe: Recipe) -> None:
    for name, stage in STAGES.items():
        model = planning.untrained_model(planning.StageRun(recipe, name), "meta")
        batches = (BatchShape(n, 64 if stage.objective is TEXT else 0, 8 * n) for n in (1, 2))
        one, two = (footprint(model, each, frees_encoder=True).activations for each in batches)
        assert 1.8 * one < two <= 2 * one


def test_layers_computed_again_keep_fewer_activations(recipe: Recipe) -> None:
    again = recipe.model_copy(update={"activation_checkpointing": True})
    plain, fewer = (planning.plan(each)[-1].footprint for each in (recipe, again))
    assert 0 < fewer.activations < 0.8 * plain.activations
    assert fewer.weights == plain.weights


def test_frozen_weights_in_fewer_bits_take_less_while_training(recipe: Recipe) -> None:
    run = planning.StageRun(recipe, "finetune")
    model, batch = planning.untrained_model(run, "meta"), BatchShape(1, 64, 8)
    frozen = sum(
        p.numel()
        for name, p in model.named_parameters()
        if module_of(name) == "language_model" and not p.requires_grad
    )
    plain, bf16, four = (
        footprint(model, batch, frees_encoder=True, **settings)
        for settings in ({}, {"bf16": True}, {"bf16": True, "four_bits": True})
    )
    assert bf16.freed - plain.freed == 2 * frozen
    assert bf16.freed < four.freed < plain.freed + FLOAT_BYTES * frozen
    assert four.weights == plain.weights  # they are loaded whole


def test_planning_loads_no_weights(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **kwargs: Any) -> None:
        pytest.fail("weights were loaded")

    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", load)
    assert len(planning.plan(recipe)) == 3


def test_what_cannot_fit_is_refused_with_the_setting_to_change(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe.model_copy(update={"cache": "on"})  # `auto` would do without
    plans = planning.plan(recipe)
    assert planning.refusals(recipe, plans) == []
    monkeypatch.setattr(planning, "device_memory_mb", lambda: 10.0)
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda folder: Disk(100))
    errors = planning.refusals(recipe, plans)
    assert len(errors) == 5
    assert all("lower batch_size" in error for error in errors[:3])
    assert "PANOVLM_CACHE" in errors[3]
    assert "set output" in errors[4]


def test_the_longest_examples_are_planned_with_wherever_they_stand(
    recipe: Recipe, scenes_file: Path, tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in scenes_file.read_text().splitlines()]
    data, row = tmp_path / "texts.jsonl", lines[0]
    for number, words in enumerate([2] * 150 + [60] + [2] * 150):
        answer = " ".join(["left"] * words)
        messages = [{"role": "user", "content": f"{number}?"}]
        messages += [{"role": "assistant", "content": answer}]
        lines.append({"image": str(tmp_path / f"{number}.jpg"), "messages": messages})
    data.write_text("\n".join(map(json.dumps, [row, *lines[-301:]])))
    section = recipe.section("finetune").model_copy(update={"data": data})
    recipe = recipe.model_copy(update={"stages": {"finetune": section}})
    (plan,) = planning.plan(recipe)
    dataset = planning.build_dataset(plan.run, planning._read_parts(plan.run))
    longest = max(dataset.num_tokens(index, 0) for index in range(len(dataset)))
    assert plan.batch.length == longest
    assert plan.batch.supervised > 60 * section.batch_size
    assert plan.mean_batch.length < 0.8 * longest


@pytest.mark.parametrize(
    ("attention", "dtype", "share"),
    [
        ("sdpa", "bf16", 0),
        ("auto", "fp32", 0),
        ("eager", "fp32", 1),
        ("auto", "bf16", 0.25),
    ],
)
def test_scores_are_planned_where_attention_may_be_plain(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, attention: str, dtype: str, share: float
) -> None:
    recipe = recipe.model_copy(update={"attention": attention, "dtype": dtype})
    plan = planning.plan(recipe)[-1]
    config = build_config(recipe.model).text_config
    heads = config.num_hidden_layers * config.num_attention_heads
    every = SCORE_BYTES * heads * plan.batch.sequences * plan.batch.length**2
    assert plan.footprint.scores == (every if share else 0)
    monkeypatch.setattr(attending, "device_memory_mb", lambda: 2 * every / MB)
    limited = planning.plan(recipe)[-1].footprint
    assert limited.scores == (every / 2 if share == 0.25 else share * every)
    again = recipe.model_copy(update={"activation_checkpointing": True})
    one_layer = planning.plan(again)[-1].footprint.scores
    assert one_layer == limited.scores // config.num_hidden_layers


def test_a_conversation_too_long_for_the_model_is_refused(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = stage_run.build_config

    def short(section: ModelSection) -> Any:
        config = original(section)
        config.text_config.max_position_embeddings = 20
        return config

    monkeypatch.setattr(stage_run, "build_config", short)
    with pytest.raises(PanoVLMError, match="tokens too many for 20"):
        planning.plan(recipe)


def test_a_picture_of_two_stages_is_cached_once_and_two_pictures_are_two(
    recipe: Recipe, scenes_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three pictures; a stage with others of their number needs as much again."""
    others = tmp_path / "others.jsonl"
    others.write_text(scenes_file.read_text().replace('.png"', '-other.png"'))
    section = recipe.section("resampler").model_copy(update={"data": others})
    recipe = recipe.model_copy(update={"cache": "on"})
    two = recipe.model_copy(update={"stages": recipe.stages | {"resampler": section}})
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda folder: Disk(0))
    monkeypatch.setattr(planning, "MB", 1)
    sizes = []
    for each in (recipe, two):
        plans = planning.plan(each)
        one = sum(plans[0].cached.values())
        errors = planning.refusals(each, plans)
        sizes.append(
            [e for e in errors if f"expected {one:,}" in e or f"expected {2 * one:,}" in e]
        )
        assert one > 0
    assert f"expected {one:,} MiB" in sizes[0][0]
    assert f"expected {2 * one:,} MiB" in sizes[1][0]


@pytest.mark.parametrize("kind", ["dinov3_convnext", "efficientnet_lite", "timm_wrapper"])
def test_encoders_of_other_kinds_are_planned(
    recipe: Recipe, encoder_folder: Callable[[str], Path], kind: str, tmp_path: Path
) -> None:
    if kind == "timm_wrapper":
        pytest.importorskip("timm")
    grid = {"token_rows": 2, "token_columns": 2}
    changes = {
        "vision_encoder": str(encoder_folder(kind)),
        "views": ViewsSection(num_views=8, fov_deg=90.0, view_size=64),
        "resampler": recipe.model.resampler.model_copy(update=grid),
    }
    changed = recipe.model_copy(update={"model": recipe.model.model_copy(update=changes)})
    encoder = build_vision_encoder(changed.model)
    processor = build_image_processor(changed.model)
    cache = PatchTokenCache(tmp_path, encoder, processor, use_bf16=False)
    for each in planning.plan(changed):
        assert sum(each.cached.values()) == 3 * cache.bytes_per_picture
        assert each.footprint.activations > 0


def test_steps_are_timed_where_asked(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    plan_command(file, measure=True)
    printed = capsys.readouterr().out
    for name in STAGES:
        found = re.search(
            rf"{name}: ([\d.]+) s a step, 0:00:(\d+) in all, ([\d,]+) MiB held", printed
        )
        assert found, printed
        assert float(found[2]) == pytest.approx(6 * float(found[1]), abs=0.54)
        assert int(found[3].replace(",", "")) > 0


def test_epochs_are_planned_as_the_steps_that_they_take(recipe: Recipe) -> None:
    epochs = {"steps": None, "epochs": 3}
    stages = {name: each.model_copy(update=epochs) for name, each in recipe.stages.items()}
    plans = planning.plan(recipe.model_copy(update={"stages": stages}))
    assert [each.run.steps for each in plans] == [3, 6, 6]  # of three pictures one is held out
