"""What the trainer accepts, and what it counts."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainingArguments

from panovlm.errors import PanoVLMError
from panovlm.training import ranks, throughput
from panovlm.training.recipe import StageSection
from panovlm.training.trainer import StageTrainer


def plugin(version):
    return SimpleNamespace(state=SimpleNamespace(fsdp_plugin=SimpleNamespace(fsdp_version=version)))


@pytest.mark.parametrize(
    ("stage", "version", "message"),
    [
        ("vision", 2, "the stage on overlaps"),
        ("resampler", 1, "fsdp_version: 2"),
        ("resampler", 2, ""),
    ],
)
def test_sharding_is_accepted_where_it_can_be_saved(
    model_of_stage, tmp_path, stage, version, message
):
    trainer = StageTrainer(
        model=model_of_stage(stage),
        args=TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[]),
        train_dataset=[0],
        section=StageSection(data=tmp_path, steps=1),
    )
    trainer.is_fsdp_enabled, trainer.accelerator = True, plugin(version)
    with pytest.raises(PanoVLMError, match=message) if message else nullcontext():
        trainer._check_sharding()


@pytest.mark.parametrize(("count", "ranks_started"), [(1, 1), (0, 1), (8, 8)])
def test_a_process_for_each_gpu_is_accepted(monkeypatch, count, ranks_started):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(ranks, "world_size", lambda: ranks_started)
    ranks.check_devices()


def test_one_process_beside_several_gpus_is_refused_with_the_line_to_start(monkeypatch):
    """The library would train copies of the model in it, with a batch for each."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    with pytest.raises(PanoVLMError, match=r"8 GPUs and one process.*torchrun --nproc-per-node 8"):
        ranks.check_devices()


def test_a_figure_of_all_ranks_is_read_when_it_is_needed():
    pending = ranks.PendingMax([0, 2], torch.device("cpu"))
    assert not pending.is_shared
    assert pending.values == [0, 2]


def test_speeds_count_panoramas_and_the_tokens_that_fill_nothing(monkeypatch):
    now = iter([0.0, 10.0, 12.0, 14.0, 14.0])
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(now))
    counted = throughput.Throughput(pad_id=0)
    with counted.paused():  # from 10 to 12
        pass
    counted.count({"patch_tokens": torch.zeros(3, 4, 5, 6), "input_ids": torch.tensor([[5, 6, 0]])})
    counted.count({"pixel_values": torch.zeros(1, 4, 3, 8, 8)})
    found = counted.figures(torch.device("cpu"))
    assert found == {"panoramas_per_second": 4 / 12, "tokens_per_second": 2 / 12}
