"""Validation watches a stage: it changes nothing, and keeps the best step's weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from panovlm.errors import PanoVLMError
from panovlm.training import run
from panovlm.training.log import read_log, read_validations
from panovlm.training.outputs import load_result
from panovlm.training.recipe import Recipe
from panovlm.training.sections import LoraSection, ValidationSection
from panovlm.training.trainer import StageTrainer
from panovlm.training.validation import Validation


def watched(recipe: Recipe, stage: str, data: Path, **settings: Any) -> Recipe:
    """The recipe with one stage of six steps from the backbones, validated at every second."""
    validation = ValidationSection(data=data, **{"every": 2, **settings})
    changes = {"validation": validation, "from_backbones": stage != "vision"}
    section = recipe.stages[stage].model_copy(update=changes)
    return recipe.model_copy(update={"stages": recipe.stages | {stage: section}})


def weights(recipe: Recipe, stage: str) -> dict[str, torch.Tensor]:
    return load_file(recipe.output / stage / "model.safetensors")


def train(recipe: Recipe, stage: str, *, resume: bool = False) -> dict[str, torch.Tensor]:
    run.train(recipe, [stage], resume=resume)
    return weights(recipe, stage)


def equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[k], expected[k]) for k in found
    )


def scripted(monkeypatch: pytest.MonkeyPatch, figures: dict[int, float]) -> None:
    """Let validations find the loss of their step among these."""
    original = StageTrainer.evaluate

    def evaluate(trainer: StageTrainer, **kwargs: Any) -> dict[str, float]:
        loss = figures[trainer.state.global_step]
        monkeypatch.setattr(Validation, "metrics", lambda *args: {"eval_loss": loss})
        return original(trainer, **kwargs)

    monkeypatch.setattr(StageTrainer, "evaluate", evaluate)


@pytest.mark.parametrize("stage", ["vision", "resampler", "finetune"])
def test_validation_changes_nothing_that_is_trained(
    recipe: Recipe, stage: str, scenes_file: Path
) -> None:
    """Dropout in the adapters would show a random number taken."""
    seen = watched(recipe, stage, scenes_file, keep="last")
    if stage == "finetune":
        section = seen.stages[stage].model_copy(update={"lora": LoraSection(dropout=0.5)})
        seen = seen.model_copy(update={"stages": {stage: section}})
    with_it = train(seen, stage)
    log, found = (read(run.log_file(seen, stage)) for read in (read_log, read_validations))
    section = seen.stages[stage].model_copy(update={"validation": None})
    plain = seen.model_copy(update={"stages": {stage: section}})
    assert equal(train(plain, stage), with_it)
    assert read_log(run.log_file(plain, stage)) == log
    assert [entry["step"] for entry in found] == [2, 4, 6]
    assert found[0]["eval_loss"] != found[2]["eval_loss"]


def test_the_loss_is_the_mean_over_supervised_tokens_of_all_records(
    recipe: Recipe, scenes_file: Path
) -> None:
    """However they are batched: three panoramas in batches of two."""
    losses = []
    for batch_size, accumulation in ((2, 1), (1, 2)):
        seen = watched(recipe, "resampler", scenes_file)
        changes = {"batch_size": batch_size, "accumulation": accumulation}
        section = seen.stages["resampler"].model_copy(update=changes)
        train(seen.model_copy(update={"stages": {"resampler": section}}), "resampler")
        log = read_validations(run.log_file(seen, "resampler"))
        losses.append([entry["eval_loss"] for entry in log])
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_the_best_step_is_kept_and_named(
    recipe: Recipe, scenes_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, {1: 3.0, 2: 1.0, 3: 2.0, 4: 2.0, 5: 2.0, 6: 2.0})
    until = watched(recipe, "vision", scenes_file, every=1)
    kept = train(until, "vision")
    result = load_result(until.output, "vision")
    assert (result.kept_step, result.validation_loss) == (2, 1.0)
    last = train(watched(recipe, "vision", scenes_file, every=1, keep="last"), "vision")
    assert not equal(kept, last)


def test_patience_ends_a_stage_early_also_when_it_is_resumed(
    recipe: Recipe, scenes_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, {2: 1.0, 4: 2.0, 6: 0.5})
    seen = watched(recipe, "vision", scenes_file, patience=1)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "_write_stage", fail)
        with pytest.raises(KeyboardInterrupt):
            run.train(seen, ["vision"], resume=False)
    run.train(seen, ["vision"], resume=True)
    assert [entry["step"] for entry in read_validations(run.log_file(seen, "vision"))] == [2, 4]
    assert load_result(seen.output, "vision").kept_step == 2


@pytest.mark.parametrize("stage", ["vision", "finetune"])
def test_a_resumed_run_with_validation_equals_the_uninterrupted_one_bit_for_bit(
    recipe: Recipe, stage: str, scenes_file: Path, train_until: Callable[..., None]
) -> None:
    answers = {"answers": 2} if stage == "finetune" else {}
    seen = watched(recipe, stage, scenes_file, every=1, **answers)
    whole = train(seen, stage)
    log = run.log_file(seen, stage).read_text()
    kept = load_result(seen.output, stage).kept_step
    train_until(seen, stage, 5)
    assert equal(train(seen, stage, resume=True), whole)
    assert run.log_file(seen, stage).read_text() == log
    assert load_result(seen.output, stage).kept_step == kept


def test_answers_by_generation_are_scored(
    recipe: Recipe, scenes_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of four answers are right."""
    responses = [
        json.loads(line)["messages"][-1]["content"] for line in scenes_file.read_text().splitlines()
    ]
    asked: list[str] = []
    original = Validation._answers

    def answers(validation: Validation, model: Any, records: Any) -> list[str]:
        generated = original(validation, model, records)
        assert len(generated) == len(records)
        asked.extend(record.response for record in records)
        return [f" {r.response.upper()}. " if n == 0 else "no" for n, r in enumerate(records)]

    monkeypatch.setattr(Validation, "_answers", answers)
    seen = watched(recipe, "finetune", scenes_file, every=6, answers=4, metric="accuracy")
    train(seen, "finetune")
    assert len(asked) == 4
    assert set(asked) <= set(responses)
    [entry] = read_validations(run.log_file(seen, "finetune"))
    assert entry["eval_accuracy"] == 0.5


def test_panoramas_that_are_trained_on_too_are_counted(
    recipe: Recipe, scenes_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(watched(recipe, "vision", scenes_file), "vision")
    said = " ".join(capsys.readouterr().out.split())
    assert "3 of the 3 panoramas of the validation are trained on as well" in said


def test_invalid_validation_records_end_the_run_before_it_begins(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "invalid.jsonl"
    file.write_text('{"image": "nowhere.png"}\n')
    monkeypatch.setattr(StageTrainer, "train", lambda *a, **k: pytest.fail("training began"))
    with pytest.raises(PanoVLMError, match=r"nowhere\.png"):
        run.train(watched(recipe, "vision", file), ["vision"], resume=False)


def test_log_entries_hold_the_rate_and_the_gradient_of_each_module(recipe: Recipe) -> None:
    run.train(recipe, ["vision"], resume=False)
    [*_, entry] = read_log(run.log_file(recipe, "vision"))
    for figure in ("learning_rate", "grad_norm"):
        assert entry[f"{figure}/resampler"] > 0
        assert entry[f"{figure}/vicreg_projector"] > 0
    squares = [entry[f"grad_norm/{m}"] ** 2 for m in ("resampler", "vicreg_projector")]
    assert sum(squares) ** 0.5 == pytest.approx(entry["grad_norm"], rel=1e-4)
    assert not any(key.endswith("per_second") for key in entry)
