"""Builds a stage's trainer: data, arguments and callbacks."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from panovlm.data.cache import FeatureSource
from panovlm.data.datasets import PanoramaCollator, PanoramaDataset
from panovlm.data.packing import IGNORED
from panovlm.data.records import Record
from panovlm.data.streaming import StreamCollator, StreamDataset
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import PictureFile
from panovlm.runtime.progress import console
from panovlm.training import ranks
from panovlm.training.log import VALIDATION_ACCURACY, VALIDATION_LOSS
from panovlm.training.overlap.diagnostics import MAX_PICTURES, Diagnosis
from panovlm.training.sections import ValidationSection
from panovlm.training.sources import feature_source, fill_or_raise, view_sources
from panovlm.training.stage_data import build_dataset, build_watched, stream_dataset
from panovlm.training.stage_records import StageRecords, read_stage, without_held_out
from panovlm.training.stage_run import StageRun
from panovlm.training.trackers import run_name
from panovlm.training.trainer import StageTrainer
from panovlm.training.validation import Validation
from panovlm.training.view_words import ViewWords

EXAMPLES_WITH_WORDS = 32
"""Of so many examples at least one has words for its views, where steps learn them."""


def build_trainer(
    run: StageRun, model: PreTrainedModel, callbacks: list[TrainerCallback]
) -> StageTrainer:
    """Put a stage's data, arguments and callbacks together."""
    section, pad_id = run.section, run.processor.tokenizer.pad_token_id
    records, held_out = read_stage(run), list[PictureFile]()
    _report_watched(run, records)
    source: FeatureSource
    dataset: StreamDataset | PanoramaDataset
    collator: StreamCollator | PanoramaCollator
    if run.is_stream:
        with ranks.synchronized():
            source = feature_source(run, model.model.vision_encoder)
            dataset = stream_dataset(run, source)
        collator = StreamCollator(pad_id)
        pictures = [picture for record in records.watched for picture in record.pictures]
        fill_or_raise({source: pictures} if pictures else {}, f"{run.name}: validation")
    else:
        sources = view_sources(run, model, [*records.trained_on, *records.watched])
        source = sources[0]
        with ranks.synchronized():
            parts, held_out = without_held_out(run, records)
            dataset = build_dataset(run, parts, sources)
            dataset.check_packing()
        collator = PanoramaCollator(source.key, pad_id)
    with ranks.synchronized():
        _check_words(run, dataset)
        validation = _build_validation(run, records.watched, source)
    trainer = StageTrainer(
        model=model,
        args=training_arguments(run),
        train_dataset=dataset,
        data_collator=collator,
        section=section,
        validation=validation,
        view_words=ViewWords(run.processor) if section.word_steps else None,
        callbacks=callbacks,
    )
    if held_out:
        shown, every = held_out[:MAX_PICTURES], section.overlap_settings.diagnose_every
        trainer.add_callback(Diagnosis(trainer.scalars, shown, source, every))
    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    return trainer


def _report_watched(run: StageRun, records: StageRecords) -> None:
    """Print how many records are set apart, and how many panoramas are not, though validated on."""
    validation = run.section.validation
    if validation is None:
        return
    if validation.share is not None:
        console.print(f"{run.name}: {len(records.watched):,} records set apart to validate on")
    trained_on = {picture for record in records.trained_on for picture in record.pictures}
    shown = {picture for record in records.watched for picture in record.pictures}
    if shared := len(shown & trained_on):
        console.print(
            f"{run.name}: {shared} of the {len(shown)} panoramas of the validation are trained on "
            f"as well, so it may not show overfitting"
        )


def _build_validation(
    run: StageRun, records: Sequence[Record], source: FeatureSource
) -> Validation | None:
    """Build what scores a stage's model on records; None where the recipe asks for none."""
    section = run.section.validation
    if section is None:
        return None
    places = np.linspace(0, len(records) - 1, min(section.answers, len(records)))
    return Validation(
        section,
        build_watched(run, records, source),
        PanoramaCollator(source.key, run.processor.tokenizer.pad_token_id),
        ranks.batch_size_per_rank(run.section.batch_size),
        [records[place] for place in places.round().astype(int)],
    )


def _validation_arguments(validation: ValidationSection | None) -> dict[str, Any]:
    """Return when the library validates, and what tells it which validation is best."""
    if validation is None:
        return {}
    is_accuracy = validation.metric == "accuracy"
    name = VALIDATION_ACCURACY if is_accuracy else VALIDATION_LOSS
    best = {"metric_for_best_model": name, "greater_is_better": is_accuracy}
    return best | {"eval_strategy": "steps", "eval_steps": validation.every}


def _check_words(run: StageRun, dataset: PanoramaDataset | StreamDataset) -> None:
    """Refuse steps on words where none of the first examples has a word for a view."""
    if not run.section.word_steps:
        return
    found, find = "a stream", ViewWords(run.processor)
    if isinstance(dataset, PanoramaDataset):
        first = range(min(len(dataset), EXAMPLES_WITH_WORDS))
        texts = (dataset.conversations(index, epoch=0) for index in first)
        packed = [each for each in texts if each is not None]
        if any((find(torch.tensor([each.ids])) != IGNORED).any() for each in packed):
            return
        found = f"no line as `front: chair` in the first {len(packed)} examples"
    raise PanoVLMError(
        f"stages.{run.name}: found word_steps = {run.section.word_steps} and {found}, expected "
        f"records with listings, as `panovlm questions` writes; give the stage such a file, or set "
        f"stages.{run.name}.word_steps: 0"
    )


def training_arguments(run: StageRun) -> TrainingArguments:
    """Return the library's arguments for a stage."""
    recipe, section = run.recipe, run.section
    return TrainingArguments(
        output_dir=str(run.checkpoints),
        max_steps=run.steps,
        per_device_train_batch_size=ranks.batch_size_per_rank(section.batch_size),
        gradient_accumulation_steps=section.accumulation,
        warmup_steps=run.warmup_steps,
        weight_decay=section.weight_decay,
        optim=section.optimizer.type,
        adam_beta1=section.optimizer.betas[0],
        adam_beta2=section.optimizer.betas[1],
        adam_epsilon=section.optimizer.epsilon,
        lr_scheduler_type=section.schedule,
        lr_scheduler_kwargs=dict(section.schedule_options),
        max_grad_norm=math.inf if section.max_grad_norm is None else section.max_grad_norm,
        bf16=run.bf16,
        seed=recipe.seed,
        save_steps=run.steps,  # at the end; `SavePoints` asks for those before it
        logging_steps=max(run.steps // 50, 1),
        logging_first_step=True,
        **_validation_arguments(section.validation),
        remove_unused_columns=False,  # the collator needs fields that no `forward` takes
        logging_nan_inf_filter=False,  # it reads every loss; `StageTrainer` reads those logged
        report_to=[],  # `trackers` builds the callbacks
        run_name=run_name(run),
        project="panovlm",
        ddp_find_unused_parameters=False,  # every trained parameter is used, by text alone too
        ddp_broadcast_buffers=False,  # no buffer ever changes
        use_cpu=not torch.cuda.is_available(),
        activation_checkpointing=recipe.activation_checkpointing,
        dataloader_num_workers=run.num_workers,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
