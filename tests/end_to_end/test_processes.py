"""The same recipe under `torchrun`: two processes train what one does, and stop as one."""

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from panovlm.training import run
from panovlm.training.log import read_log, read_validations
from panovlm.training.recipe import Recipe
from panovlm.training.sections import ValidationSection

LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
MODEL = "model.safetensors"
TIME_LIMIT = 600  # seconds; a hang fails the test instead of the suite
pytestmark = pytest.mark.timeout(3 * TIME_LIMIT)
"""Three processes import everything for each run: on a busy machine that takes minutes."""
ALL = ["vision", "resampler", "finetune"]


def torchrun(recipe: Recipe, *options: str) -> subprocess.CompletedProcess[str]:
    """Train a recipe in two processes of this machine."""
    file = recipe.output.with_suffix(".yaml")
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    command = [*LAUNCHER, "-m", "panovlm", "train", str(file), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT)


def losses(recipe: Recipe, stage: str) -> list[float]:
    return [entry["loss"] for entry in read_log(run.log_file(recipe, stage))]


def validations(recipe: Recipe, stage: str) -> list[float]:
    """All figures of the stage's validations."""
    found = read_validations(run.log_file(recipe, stage))
    return [entry[name] for entry in found for name in sorted(entry) if name.startswith("eval_")]


def validated(recipe: Recipe) -> Recipe:
    """The same recipe with validation in all stages, with answers where there is text."""
    stages = {}
    for name, section in recipe.stages.items():
        answers = 0 if name == "vision" else 3
        validation = ValidationSection(data=section.data, every=3, answers=answers)
        stages[name] = section.model_copy(update={"validation": validation})
    return recipe.model_copy(update={"stages": stages})


def elsewhere(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"output": recipe.output.with_name("processes")})


def test_two_processes_train_as_one_does_and_the_first_alone_prints(recipe: Recipe) -> None:
    recipe = validated(recipe)
    run.train(recipe, ALL, resume=False)
    other = elsewhere(recipe)
    ended = torchrun(other)
    assert ended.returncode == 0, ended.stderr
    for stage in ALL:
        assert losses(other, stage) == pytest.approx(losses(recipe, stage), abs=1e-4), stage
        found = validations(other, stage)
        assert found == pytest.approx(validations(recipe, stage), abs=1e-4), stage
        assert len(found) == (2 if stage == "vision" else 4)
        assert (other.output / stage / MODEL).is_file()
        assert ended.stdout.count(f"{stage}: loss") == 1
        assert ended.stdout.count(f"stage {stage}: ") == 1
    assert not (other.output / "checkpoints" / "finetune").exists()
    again = torchrun(other, "--resume")
    assert again.stdout.count("finished before, skipped") == 3, again.stderr


def test_another_number_of_processes_goes_on(
    recipe: Recipe, train_until: Callable[[Recipe, str, int], None]
) -> None:
    one = recipe.model_copy(update={"stages": {"vision": recipe.stages["vision"]}})
    run.train(one, ["vision"], resume=False)
    other = elsewhere(one)
    train_until(other, "vision", 5)
    ended = torchrun(other, "--resume")
    assert ended.returncode == 0, ended.stderr
    found, expected = (load_file(each.output / "vision" / MODEL) for each in (other, one))
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, atol=1e-4, rtol=0)


def test_a_bad_picture_ends_all_processes_with_one_message(recipe: Recipe, tmp_path: Path) -> None:
    good = tmp_path.parent / "good.png"
    good.write_bytes((recipe.stages["vision"].data.parent / "0.png").read_bytes())
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    data = tmp_path / "invalid.jsonl"
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


def test_a_process_whose_share_is_text_alone_trains_as_one_does(
    recipe: Recipe, tmp_path: Path
) -> None:
    """Two examples, one of them without a picture: in every step one process has no panorama."""
    scenes = recipe.stages["resampler"].data
    seen = json.loads(scenes.read_text().splitlines()[0])
    seen["image"] = str(scenes.parent / seen["image"])
    messages = [
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": "Me."},
    ]
    data = tmp_path / "mixed.jsonl"
    data.write_text(json.dumps(seen) + "\n" + json.dumps({"messages": messages}) + "\n")
    mixed = recipe.stages["finetune"].model_copy(update={"data": data, "steps": 3})
    stages = recipe.stages | {"resampler": mixed, "finetune": mixed}
    one = recipe.model_copy(update={"stages": stages})
    run.train(one, ALL, resume=False)
    other = elsewhere(one)
    ended = torchrun(other)
    assert ended.returncode == 0, ended.stderr
    for stage in ("resampler", "finetune"):
        assert losses(other, stage) == pytest.approx(losses(one, stage), abs=1e-4), stage


def test_two_processes_evaluate_as_one_does_and_share_the_questions(
    saved_model: Path, scenes_file: Path, tmp_path: Path
) -> None:
    several = tmp_path / "several.jsonl"  # more groups than one, and an odd number of them
    several.write_text("\n".join(_many(scenes_file, 600)))
    options = ["--data", str(several), "--baselines", "all", "--yaw-rotated", "3", "--ablated", "2"]
    ways = {"one": [sys.executable], "two": [*LAUNCHER]}
    reports = {}
    for name, launcher in ways.items():
        out = tmp_path / f"{name}.json"
        command = [*launcher, "-m", "panovlm", "evaluate", str(saved_model)]
        ended = subprocess.run(
            [*command, *options, "--seam-shifted", "2", "--out", str(out)],
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.count("written to") == 1
        reports[name] = json.loads(out.read_text())
    one, two = reports["one"], reports["two"]
    assert two["settings"].pop("processes") == 2 == 1 + one["settings"].pop("processes")
    own = ("seconds_evaluation", "seconds_total", "peak_memory_mb")
    assert {k: v for k, v in one.items() if k not in own} == {
        k: v for k, v in two.items() if k not in own
    }
    assert not (tmp_path / "two.jsonl").exists()


def _many(scenes_file: Path, count: int) -> list[str]:
    """Return lines of records with whole paths, some with responses for all rotations."""
    lines = []
    for line in cycle(scenes_file.read_text().splitlines()):
        record = json.loads(line)
        record["image"] = str(scenes_file.parent / record["image"])
        if len(lines) % 3 == 0:
            record["yaw_deg"] = 33.75
            record["rolled_responses"] = [record["messages"][-1]["content"]] * 8
        lines.append(json.dumps(record))
        if len(lines) == count:
            return lines
    raise AssertionError(scenes_file)
