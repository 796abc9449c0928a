"""The trainer sets the dataset's epoch, whatever data loader the library puts between."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from torch.utils.data import DataLoader, Dataset
from transformers import TrainerControl, TrainerState, TrainingArguments

from panovlm.errors import PanoVLMError
from panovlm.training.sections import LearningRates
from panovlm.training.trainer import SetEpoch, StageTrainer


class Epochs(Dataset):
    epoch = None

    def __len__(self):
        return 1

    def set_epoch(self, epoch):
        self.epoch = epoch


def test_the_dataset_gets_every_epoch(tmp_path):
    dataset = Epochs()
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    found = []
    for epoch in (None, 1.0, 2.5):  # at the start, after an epoch, resumed in the middle
        state = TrainerState(epoch=epoch)
        SetEpoch().on_epoch_begin(
            arguments, state, TrainerControl(), train_dataloader=DataLoader(dataset)
        )
        found.append(dataset.epoch)
    assert found == [0, 1, 2]


def test_every_stage_trainer_sets_it(model_of_stage, tmp_path):
    trainer = StageTrainer(
        model=model_of_stage("vision"),
        args=TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[]),
        train_dataset=Epochs(),
        learning_rates=LearningRates(),
    )
    assert any(isinstance(each, SetEpoch) for each in trainer.callback_handler.callbacks)


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
        train_dataset=Epochs(),
        learning_rates=LearningRates(),
    )
    trainer.is_fsdp_enabled, trainer.accelerator = True, plugin(version)
    with pytest.raises(PanoVLMError, match=message) if message else nullcontext():
        trainer._check_sharding()
