"""What only a GPU can show; `make gpu-check` runs it. Elsewhere it is skipped."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from panovlm.training import run
from panovlm.training.log import read_log
from panovlm.training.recipe import Recipe
from panovlm.training.run import log_file

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
ALL = ["vision", "resampler", "finetune"]


def losses(recipe: Recipe) -> list[float]:
    return [entry["loss"] for name in ALL for entry in read_log(log_file(recipe, name))]


def trained_on_cpu(recipe: Recipe) -> Recipe:
    """Train in a process that sees no GPU."""
    file = recipe.output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    command = [sys.executable, "-m", "panovlm", "train", str(file)]
    subprocess.run(command, check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    return recipe


@pytest.mark.parametrize("changes", [{}, {"cache": "off"}])
def test_a_gpu_trains_what_a_cpu_does(
    recipe: Recipe, tmp_path: Path, changes: dict[str, object]
) -> None:
    other = trained_on_cpu(recipe.model_copy(update={"output": tmp_path / "cpu"}))
    run.train(recipe.model_copy(update=changes), ALL, resume=False)
    assert losses(recipe) == pytest.approx(losses(other), abs=5e-3)


def test_bf16_trains_and_what_it_saved_answers(recipe: Recipe) -> None:
    run.train(recipe.model_copy(update={"dtype": "bf16"}), ALL, resume=False)
    assert all(torch.isfinite(torch.tensor(losses(recipe))))
    model = AutoModelForImageTextToText.from_pretrained(recipe.output / "finetune").to("cuda")
    tokens = torch.full((1, 4), 20, device="cuda")
    assert model.generate(input_ids=tokens, max_new_tokens=3).shape[1] > 4


def test_a_stopped_stage_ends_as_if_it_had_not(
    recipe: Recipe, tmp_path: Path, train_until: Callable[[Recipe, str, int], None]
) -> None:
    run.train(recipe, ["vision"], resume=False)
    other = recipe.model_copy(update={"output": tmp_path / "other"})
    train_until(other, "vision", 3)
    run.train(other, ["vision"], resume=True)
    expected, found = (
        load_file(each.output / "vision" / "model.safetensors") for each in (recipe, other)
    )
    for name, weights in expected.items():
        torch.testing.assert_close(found[name], weights, rtol=0, atol=1e-5, msg=name)
