"""Trackers get every figure of the log, and finished stages go to the Hub."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from transformers import TrainerState

from panovlm.errors import PanoVLMError
from panovlm.training import trackers
from panovlm.training.pushing import prepare_repositories, push_stage
from panovlm.training.recipe import Recipe
from panovlm.training.recipe_file import load_recipe
from panovlm.training.stage_run import StageRun


@pytest.fixture
def recipe(recipe_file: Path) -> Recipe:
    return load_recipe(recipe_file, ["report_to=[tensorboard]", "push_to_hub=user/model"])


def test_tensorboard_gets_the_figures_of_a_stage(recipe: Recipe) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [callback] = trackers.trackers(StageRun(recipe, "vision"))
    state = TrainerState(global_step=3, is_world_process_zero=True)
    logs = {"loss": 2.5, "grad_norm/resampler": 0.5, "eval_loss": 3.0}
    callback.on_log(None, state, None, logs=logs)
    callback.on_train_end(None, state, None)
    found = EventAccumulator(str(recipe.output / "logs" / "tensorboard" / "vision")).Reload()
    names = {"train/loss", "train/grad_norm/resampler", "eval/loss"}
    assert set(found.Tags()["scalars"]) == names
    assert [event.step for event in found.Scalars("train/loss")] == [3]


def test_a_tracker_that_is_not_installed_is_named_before_training(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        trackers, "find_spec", lambda name: None if name == "wandb" else find_spec(name)
    )
    chosen = recipe.model_copy(update={"report_to": ("tensorboard", "wandb")})
    with pytest.raises(PanoVLMError, match=r"report_to with wandb.*pip install wandb"):
        trackers.check_trackers(chosen)
    trackers.check_trackers(chosen.model_copy(update={"report_to": ("tensorboard",)}))


def test_a_run_of_a_tracker_ends_with_its_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trackio.py").write_text("ended = []\ndef finish(): ended.append(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    trackers.EndTracking("trackio").on_train_end(None, None, None)
    import trackio

    assert trackio.ended == [1]


def test_every_stage_goes_to_a_private_repository_of_its_own(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        HfApi, "create_repo", lambda self, name, **options: calls.append((name, options))
    )
    monkeypatch.setattr(
        HfApi, "upload_folder", lambda self, **o: calls.append((o["repo_id"], o["folder_path"]))
    )
    prepare_repositories(recipe, ["vision", "finetune"])
    push_stage(recipe, "finetune")
    options = {"private": True, "exist_ok": True}
    assert calls == [
        ("user/model-vision", options),
        ("user/model-finetune", options),
        ("user/model-finetune", recipe.output / "finetune"),
    ]
    calls.clear()
    alone = recipe.model_copy(update={"push_to_hub": None})
    prepare_repositories(alone, ["vision"])
    push_stage(alone, "vision")
    assert not calls


def test_a_hub_that_refuses_is_said_with_the_fix(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise ConnectionError("401 Unauthorized")

    monkeypatch.setattr(HfApi, "upload_folder", refuse)
    with pytest.raises(PanoVLMError, match=r"cannot upload .*-vision: .*401.*hf auth login"):
        push_stage(recipe, "vision")
