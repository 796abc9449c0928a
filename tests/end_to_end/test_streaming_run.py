"""Training on WebDataset shards: all stages, resumed bit for bit, shared by two processes."""

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from panovlm.errors import PanoVLMError
from panovlm.training import plan, run
from panovlm.training.log import read_log
from panovlm.training.recipe import Recipe
from panovlm.training.sections import OverlapSection

TIME_LIMIT = 240  # seconds; a hang fails the test instead of the suite
ALL = ["vision", "resampler", "finetune"]


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def streamed(recipe: Recipe, scenes_file: Path, tmp_path: Path) -> Recipe:
    """The recipe on three shards, each of one panorama and its four questions."""
    groups: dict[str, list[dict[str, object]]] = {}
    for line in scenes_file.read_text().splitlines():
        data = json.loads(line)
        groups.setdefault(data.pop("image"), []).append(data)
    for number, (name, group) in enumerate(groups.items()):
        with tarfile.open(tmp_path / f"scenes-{number}.tar", "w") as archive:
            add(archive, name, (scenes_file.parent / name).read_bytes())
            add(archive, f"{Path(name).stem}.json", json.dumps(group).encode())
    update = {"data": tmp_path / "scenes-{0..2}.tar"}
    stages = {name: each.model_copy(update=update) for name, each in recipe.stages.items()}
    unwatched = {"overlap": OverlapSection(held_out=0)}
    stages["vision"] = stages["vision"].model_copy(update=unwatched)
    stages["finetune"] = stages["finetune"].model_copy(update={"accumulation": 2})
    return recipe.model_copy(update={"stages": stages})


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_stream_equals_the_uninterrupted_one_bit_for_bit(
    streamed: Recipe, workers: int, train_until: Callable[..., None]
) -> None:
    recipe = streamed.model_copy(update={"workers": workers})
    run.train(recipe, ALL, resume=False)
    for stage in ALL:
        output = recipe.output / stage
        whole, log = load_file(output / "model.safetensors"), read_log(run.log_file(recipe, stage))
        assert [entry["step"] for entry in log] == [1, 2, 3, 4, 5, 6]
        assert {entry["skipped"] for entry in log} == {0}
        train_until(recipe, stage, 3)  # the last checkpoint is that of step 2
        (output / "stage.json").unlink()
        run.train(recipe, [stage], resume=True)
        resumed = load_file(output / "model.safetensors")
        assert all(torch.equal(resumed[name], whole[name]) for name in whole)
        losses = [entry["loss"] for entry in read_log(run.log_file(recipe, stage))]
        assert losses == [entry["loss"] for entry in log]


def test_two_processes_share_a_stream(streamed: Recipe) -> None:
    file = streamed.output.with_suffix(".yaml")
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(streamed.model_dump(mode="json")))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc-per-node", "2", "-m", "panovlm", "train", str(file)]
    ended = subprocess.run(launcher, capture_output=True, text=True, timeout=TIME_LIMIT)
    assert ended.returncode == 0, ended.stderr
    for stage in ALL:
        assert (streamed.output / stage / "model.safetensors").is_file()


def test_an_invalid_head_and_a_share_held_out_are_reported_before_training(
    streamed: Recipe, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "scenes-2.tar", "w") as archive:
        add(archive, "a.jpg", b"no picture")
        add(archive, "a.json", b'{"messagez": []}')
        add(archive, "b.jpg", b"no picture")
    update = {"overlap": None, "yaw_steps_per_view": 2}
    watched = streamed.stages["vision"].model_copy(update=update)
    recipe = streamed.model_copy(update={"stages": {**streamed.stages, "vision": watched}})
    with pytest.raises(PanoVLMError) as caught:
        run.train(recipe, ALL, resume=False)
    expected_parts = ("did you mean 'messages'", "scenes-2.tar/b: found no rea", "held_out: 0")
    for expected in (*expected_parts, "yaw_steps_per_view: 1"):
        assert expected in str(caught.value)
    assert not recipe.output.exists()


def test_the_plan_of_a_stream_counts_no_examples(streamed: Recipe) -> None:
    for each in plan.plan(streamed):
        assert each.num_panoramas is None
        assert "stream" in each.row()


@pytest.mark.parametrize("key", ["class_swap", "views_as_words"])
def test_what_is_known_of_files_alone_is_refused_beside_a_stream(
    streamed: Recipe, key: str
) -> None:
    changed = streamed.stages["finetune"].model_copy(update={key: 0.5, "from_backbones": True})
    recipe = streamed.model_copy(update={"stages": {"finetune": changed}})
    with pytest.raises(PanoVLMError, match=rf"finetune: found {key} = 0\.5 beside streams; set"):
        run.train(recipe, ["finetune"], resume=False)
