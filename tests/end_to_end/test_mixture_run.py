"""Stages on several files with weights and caps: shares, resume settings, and the bits of a run."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from panovlm.errors import PanoVLMError
from panovlm.exporting.card import _data_of
from panovlm.training import run
from panovlm.training.outputs import STAGE_FACTS
from panovlm.training.plan import plan
from panovlm.training.recipe import Recipe, StageSection
from panovlm.training.stage_run import StageRun
from panovlm.training.trainer import StageTrainer

TEXTS = 5


@pytest.fixture
def texts_file(tmp_path: Path) -> Path:
    """Records without pictures."""
    messages = [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "it"}]
    file = tmp_path / "texts.jsonl"
    lines = [
        json.dumps({"messages": [*messages[:1], {**messages[1], "content": f"it {number}"}]})
        for number in range(TEXTS)
    ]
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture
def mixed(recipe: Recipe, scenes_file: Path, texts_file: Path) -> Recipe:
    """One stage, twice the scenes and half of some texts in an epoch."""
    return with_data(
        recipe,
        [
            {"path": str(scenes_file), "weight": 2.0, "limit": 9},
            {"path": str(texts_file), "weight": 0.4},
        ],
    )


def with_data(recipe: Recipe, data: Any) -> Recipe:
    old = recipe.stages["finetune"].model_dump(exclude={"data"})
    section = StageSection(**{**old, "data": data, "from_backbones": True})
    return recipe.model_copy(update={"stages": {"finetune": section}})


def weights(recipe: Recipe) -> dict[str, torch.Tensor]:
    return load_file(recipe.output / "finetune" / "model.safetensors")


def test_a_stage_sees_every_file_as_often_as_its_weight_says(
    mixed: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[bool] = Counter()
    original = StageTrainer.train

    def train(trainer: StageTrainer, **kwargs: Any) -> Any:
        dataset = trainer.train_dataset
        epoch = [*trainer._get_train_sampler().epoch(0)][: len(dataset)]
        seen.update(not dataset[key]["views"] for key in epoch)
        assert sum(len(group) for group in dataset.groups) == 9 + TEXTS
        return original(trainer, **kwargs)

    monkeypatch.setattr(StageTrainer, "train", train)
    run.train(mixed, ["finetune"], resume=False)
    assert seen == {False: 2 * 3, True: 0.4 * TEXTS}
    facts = json.loads((mixed.output / "finetune" / STAGE_FACTS).read_text())
    described = _data_of(facts)
    assert described is not None
    assert described["count"] == 12 + TEXTS


def test_a_resumed_mixture_equals_the_uninterrupted_one_bit_for_bit(
    mixed: Recipe, tmp_path: Path, train_until: Callable[..., None]
) -> None:
    run.train(mixed, ["finetune"], resume=False)
    other = mixed.model_copy(update={"output": tmp_path / "other"})
    train_until(other, "finetune", 3)
    run.train(other, ["finetune"], resume=True)
    expected, found = weights(mixed), weights(other)
    assert all(torch.equal(found[name], each) for name, each in expected.items())


def test_a_change_of_any_file_weight_or_limit_is_another_run(
    mixed: Recipe, scenes_file: Path, texts_file: Path
) -> None:
    def facts(recipe: Recipe) -> dict[str, Any]:
        return StageRun(recipe, "finetune").facts

    before = facts(mixed)
    paths = [str(scenes_file), str(texts_file)]
    for data in (paths, [{"path": paths[0], "weight": 2.0}, {"path": paths[1], "weight": 0.4}]):
        assert facts(with_data(mixed, data))["section"] != before["section"]
    texts_file.write_text(texts_file.read_text() * 2)
    assert facts(mixed)["records"] != before["records"]


def test_the_resume_settings_of_one_path_are_as_ever(recipe: Recipe, scenes_file: Path) -> None:
    facts = StageRun(recipe, "finetune").facts
    assert facts["section"]["data"] == str(scenes_file)
    assert "," not in facts["records"]


def test_a_plan_counts_the_examples_and_pictures_of_all_files(
    mixed: Recipe, scenes_file: Path, texts_file: Path
) -> None:
    [planned] = plan(mixed)
    assert planned.num_panoramas == 2 * 3 + 0.4 * TEXTS
    assert len(planned.cached) == 3
    [single] = plan(with_data(mixed, [{"path": str(scenes_file), "limit": 1}, str(texts_file)]))
    assert single.num_panoramas == 1 + TEXTS
    assert len(single.cached) == 1


def test_an_invalid_record_of_any_file_is_found_before_training(
    mixed: Recipe, texts_file: Path
) -> None:
    texts_file.write_text(texts_file.read_text() + '{"messages": []}\n')
    with pytest.raises(PanoVLMError, match=rf"{texts_file}: line {TEXTS + 1}: found no user"):
        run.train(mixed, ["finetune"], resume=False)


def test_streams_do_not_mix_with_files(recipe: Recipe, scenes_file: Path, tmp_path: Path) -> None:
    stream = str(tmp_path / "shard-{0..2}.tar")
    for data in ([str(scenes_file), stream], [{"path": stream, "limit": 5}]):
        with pytest.raises(PanoVLMError, match=r"stages.finetune.data: found the stream .*alone"):
            run.train(with_data(recipe, data), ["finetune"], resume=False)


def test_the_first_stage_trains_on_folders_of_pictures(recipe: Recipe, scenes_file: Path) -> None:
    folder, steps = str(scenes_file.parent), {"steps": 2, "batch_size": 1, "save_steps": None}
    section = recipe.stages["vision"].model_dump(exclude={"data"}) | steps
    stages = {"vision": StageSection(**section, data=folder)}
    [result] = run.train(recipe.model_copy(update={"stages": stages}), ["vision"], resume=False)
    assert result.loss_last > 0
    with pytest.raises(PanoVLMError, match="found a folder of pictures, expected records with tex"):
        run.train(with_data(recipe, folder), ["finetune"], resume=False)
