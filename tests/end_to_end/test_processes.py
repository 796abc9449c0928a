"""The same recipe under `torchrun`: two processes train what one does, and end together."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from panovlm.training import run
from panovlm.training.recipe import Recipe
from panovlm.training.trainer import read_log

TIME_LIMIT = 240  # seconds; a hang fails the test instead of the suite
ALL = ["vision", "resampler", "finetune"]


def torchrun(recipe: Recipe, *options: str) -> subprocess.CompletedProcess[str]:
    """Train a recipe in two processes of this machine."""
    file = recipe.output.with_suffix(".yaml")
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc-per-node", "2", "-m", "panovlm", "train", str(file), *options]
    return subprocess.run(launcher, capture_output=True, text=True, timeout=TIME_LIMIT)


def losses(recipe: Recipe, stage: str) -> list[float]:
    return [entry["loss"] for entry in read_log(run.log_file(recipe, stage))]


def elsewhere(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"output": recipe.output.with_name("processes")})


def test_two_processes_train_as_one_does_and_the_first_alone_speaks(recipe: Recipe) -> None:
    run.train(recipe, ALL, resume=False)
    other = elsewhere(recipe)
    shutil.copytree(recipe.output / "vision", other.output / "vision")
    ended = torchrun(other, "--resume")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("vision: finished before, skipped") == 1
    for stage in ("resampler", "finetune"):
        assert losses(other, stage) == pytest.approx(losses(recipe, stage), abs=1e-5), stage
        assert (other.output / stage / "model.safetensors").is_file()
        assert ended.stdout.count(f"{stage}: loss") == 1
        assert ended.stdout.count(f"stage {stage}: ") == 1
    assert not (other.output / "checkpoints" / "finetune").exists()
    again = torchrun(other, "--resume")
    assert again.stdout.count("finished before, skipped") == 3, again.stderr


def test_a_bad_picture_ends_all_processes_with_one_message(recipe: Recipe, tmp_path: Path) -> None:
    good = tmp_path.parent / "good.png"
    good.write_bytes((recipe.stages["vision"].data.parent / "0.png").read_bytes())
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    data = tmp_path / "faulty.jsonl"
    data.write_text("".join(json.dumps({"image": str(p)}) + "\n" for p in (good, bad)))
    section = recipe.stages["vision"].model_copy(update={"data": data})
    ended = torchrun(recipe.model_copy(update={"stages": {"vision": section}}))
    assert ended.returncode != 0
    assert ended.stderr.count("panovlm: ") == 1, ended.stderr
    assert ended.stderr.count("bad.png") == 1
    assert not recipe.output.exists()


def test_a_batch_that_processes_cannot_share_is_refused_once(recipe: Recipe) -> None:
    section = recipe.stages["vision"].model_copy(update={"batch_size": 3})
    ended = torchrun(recipe.model_copy(update={"stages": {"vision": section}}))
    assert ended.returncode != 0
    assert ended.stderr.count("found batch_size = 3, expected a multiple of 2") == 1
