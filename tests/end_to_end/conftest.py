"""A tiny recipe on rendered scenes; nothing outside the test's folder is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from panovlm.training import run
from panovlm.training.recipe import Recipe, StageSection
from panovlm.training.sections import ModelSection

SLOW_RATES = {"resampler": 1e-3, "projection": 1e-3, "vicreg_projector": 1e-3, "lora": 1e-3}


@pytest.fixture
def recipe(
    tmp_path: Path,
    model_section: ModelSection,
    scenes_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Recipe:
    """Three stages of six steps each."""
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path / "cache"))
    shared: dict[str, Any] = {
        "data": scenes_file,
        "steps": 6,
        "batch_size": 2,
        "questions_per_panorama": 3,
        "learning_rate": SLOW_RATES,
        "save_steps": 2,
    }
    stages = {name: StageSection(**shared) for name in ("vision", "resampler", "finetune")}
    return Recipe(output=tmp_path / "run", model=model_section, stages=stages, dtype="fp32")


class Stop(TrainerCallback):
    """Ends a run after a step, as Ctrl-C would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.fixture
def train_until(monkeypatch: pytest.MonkeyPatch) -> Callable[[Recipe, str, int], None]:
    """Begins a stage, and stops it after a step."""

    def train(recipe: Recipe, stage: str, step: int) -> None:
        original = run._callbacks

        def callbacks(*args: Any, **kwargs: Any) -> list[TrainerCallback]:
            return [*original(*args, **kwargs), Stop(step)]

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(run, "_callbacks", callbacks)
            run.train(recipe, [stage], resume=False)

    return train
