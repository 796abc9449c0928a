"""The trainer tells the dataset its epoch, whatever data loader the library puts between."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from torch.utils.data import DataLoader, Dataset
from transformers import TrainerControl, TrainerState, TrainingArguments

from panovlm.errors import PanoVLMError
from panovlm.training.recipe import LearningRates
from panovlm.training.trainer import EpochDraws, StageTrainer


class Epochs(Dataset):
    epoch = None

    def __len__(self):
        return 1

    def set_epoch(self, epoch):
        self.epoch = epoch


def test_the_dataset_hears_of_every_epoch(tmp_path):
    dataset = Epochs()
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    heard = []
    for epoch in (None, 1.0, 2.5):  # at the start, after an epoch, resumed in the middle
        state = TrainerState(epoch=epoch)
        EpochDraws().on_epoch_begin(
            arguments, state, TrainerControl(), train_dataloader=DataLoader(dataset)
        )
        heard.append(dataset.epoch)
    assert heard == [0, 1, 2]


def test_every_stage_trainer_tells_it(model_of_stage, tmp_path):
    trainer = StageTrainer(
        model=model_of_stage("vision"),
        args=TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[]),
        train_dataset=Epochs(),
        learning_rates=LearningRates(),
    )
    assert any(isinstance(each, EpochDraws) for each in trainer.callback_handler.callbacks)


def plugin(version):
    return SimpleNamespace(state=SimpleNamespace(fsdp_plugin=SimpleNamespace(fsdp_version=version)))


@pytest.mark.parametrize(
    ("stage", "version", "told"),
    [
        ("vision", 2, "the stage on overlaps"),
        ("resampler", 1, "fsdp_version: 2"),
        ("resampler", 2, ""),
    ],
)
def test_sharding_is_taken_where_it_can_be_saved(model_of_stage, tmp_path, stage, version, told):
    trainer = StageTrainer(
        model=model_of_stage(stage),
        args=TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[]),
        train_dataset=Epochs(),
        learning_rates=LearningRates(),
    )
    trainer.is_fsdp_enabled, trainer.accelerator = True, plugin(version)
    with pytest.raises(PanoVLMError, match=told) if told else nullcontext():
        trainer._check_whole()
