"""A tiny recipe on rendered scenes; nothing outside the test's folder is written."""

from pathlib import Path
from typing import Any

import pytest

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
