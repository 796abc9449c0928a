"""Stages counted in epochs, packed into sequences, and on conversations that are too long."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from panovlm.errors import PanoVLMError
from panovlm.training import run
from panovlm.training.outputs import STAGE_FACTS
from panovlm.training.plan import plan
from panovlm.training.recipe import Recipe, StageSection
from panovlm.training.stage_data import build_dataset, resolve_steps
from panovlm.training.stage_records import read_stage
from panovlm.training.stage_run import StageRun
from panovlm.training.trainer import StageTrainer


def with_changes(recipe: Recipe, **changes: Any) -> Recipe:
    old = recipe.stages["finetune"].model_dump() | {"from_backbones": True}
    return recipe.model_copy(update={"stages": {"finetune": StageSection(**old | changes)}})


@pytest.fixture
def mixed_file(tmp_path: Path, scenes_file: Path) -> Path:
    """Records with a picture, with two, and without one."""
    pictures = [str(scenes_file.parent / f"{number}.png") for number in range(3)]
    answer = {"role": "assistant", "content": "yes"}
    records: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": f"Say yes {n}."}, answer]} for n in range(5)
    ]
    asked = {"role": "user", "content": "<image> or <image>?"}
    records += [{"images": pictures[:2], "messages": [asked, answer]}]
    alone = {"role": "user", "content": "It?"}
    records += [{"image": each, "messages": [alone, answer]} for each in pictures]
    file = tmp_path / "mixed.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def test_a_packed_run_of_epochs_resumes_bit_for_bit(
    recipe: Recipe,
    mixed_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    train_until: Callable[..., None],
) -> None:
    changes = {"data": mixed_file, "steps": None, "epochs": 2.5, "tokens_per_sequence": 200}
    packed = with_changes(recipe, **changes, batch_size=1)
    steps = resolve_steps(packed, ["finetune"]).stages["finetune"].steps
    seen: list[int] = []
    original = StageTrainer.train

    def train(trainer: StageTrainer, **kwargs: Any) -> Any:
        sampler = trainer._get_train_sampler()
        first = [*sampler.epoch(0)]
        assert [*sampler][: len(first)] == first
        assert sorted(i for each in first for i in each.indices) == list(range(9))
        assert len(first) < 9
        assert trainer.args.max_steps == math.ceil(2.5 * len(first))
        seen.append(trainer.args.max_steps)
        return original(trainer, **kwargs)

    monkeypatch.setattr(StageTrainer, "train", train)
    run.train(packed, ["finetune"], resume=False)
    assert seen == [steps]
    assert steps is not None
    assert steps > 5
    other = packed.model_copy(update={"output": tmp_path / "other"})
    train_until(other, "finetune", 3)
    run.train(other, ["finetune"], resume=True)
    expected, found = (
        load_file(each.output / "finetune" / "model.safetensors") for each in (packed, other)
    )
    assert all(torch.equal(found[name], each) for name, each in expected.items())
    facts = json.loads((other.output / "finetune" / STAGE_FACTS).read_text())["section"]
    assert (facts["epochs"], facts["steps"], facts["tokens_per_sequence"]) == (2.5, steps, 200)


def test_epochs_are_whole_steps_of_what_is_trained_on(recipe: Recipe, mixed_file: Path) -> None:
    def steps(name: str, **changes: Any) -> int | None:
        section = recipe.stages["finetune"].model_dump() | changes | {"steps": None}
        changed = recipe.model_copy(update={"stages": {name: StageSection(**section)}})
        return resolve_steps(changed, [name]).stages[name].steps

    assert steps("finetune", epochs=3) == 3 * 2  # three pictures, two in a batch
    assert steps("finetune", epochs=0.5) == 1
    assert steps("finetune", epochs=1, data=mixed_file, batch_size=4, accumulation=2) == 2
    assert steps("vision", epochs=3) == 3  # one of three pictures is held out
    given = recipe.stages["finetune"].steps
    assert resolve_steps(recipe, ["finetune"]).stages["finetune"].steps == given


@pytest.mark.parametrize("too_long", ["truncate", "drop"])
def test_what_is_too_long_is_cut_or_left_out_and_counted(
    recipe: Recipe,
    tmp_path: Path,
    too_long: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "long " * 300
    texts = [("Tell.", "short"), ("Tell.", long), (long, "short")]  # nothing supervised fits last
    records = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        for q, a in texts
    ]
    file = tmp_path / "long.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    stage = StageRun(with_changes(recipe, data=file, max_length=200, too_long=too_long), "finetune")
    dataset = build_dataset(stage, read_stage(stage).parts)
    said = " ".join(capsys.readouterr().out.split())
    counts = {"truncate": "1 truncated, 1 left out", "drop": "0 truncated, 2 left out"}
    assert "2 of 3 records have more than 200 tokens" in said
    assert counts[too_long] in said
    found = [dataset.conversations(index, 0) for index in range(len(dataset))]
    lengths = [len(each.ids) for each in found if each]
    assert (max(lengths) == 200) == (too_long == "truncate")
    assert len(lengths) == (2 if too_long == "truncate" else 1)


def test_too_long_conversations_are_errors_unless_said_otherwise(recipe: Recipe) -> None:
    stage = StageRun(with_changes(recipe, max_length=20), "finetune")
    with pytest.raises(PanoVLMError, match="too many for 20") as caught:
        build_dataset(stage, read_stage(stage).parts)
    assert "set too_long: truncate or drop" in str(caught.value)
    stage = StageRun(with_changes(recipe, max_length=20, too_long="truncate"), "finetune")
    with pytest.raises(PanoVLMError, match="found no record that fits 20 tokens; raise max_len"):
        build_dataset(stage, read_stage(stage).parts)


def test_a_plan_of_packed_sequences_takes_more_memory(recipe: Recipe, mixed_file: Path) -> None:
    [apart] = plan(with_changes(recipe, data=mixed_file))
    [packed] = plan(with_changes(recipe, data=mixed_file, tokens_per_sequence=1000))
    assert packed.footprint.activations > 2 * apart.footprint.activations
    assert packed.num_panoramas == apart.num_panoramas == 9
