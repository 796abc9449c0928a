"""Builds a stage's trainer from its section of the recipe: data, arguments and callbacks."""

from pathlib import Path

import torch
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from panovlm.data.datasets import PanoramaCollator, PanoramaDataset, Source
from panovlm.data.records import Needs, Record, read_records
from panovlm.data.shards import is_stream
from panovlm.data.streaming import StreamCollator, StreamDataset
from panovlm.model.processing import PanoVLMProcessor
from panovlm.runtime.precision import uses_bf16
from panovlm.stages import Objective, Stage
from panovlm.training import ranks
from panovlm.training.checkpoints import checkpoint_folder
from panovlm.training.diagnosing import Diagnosis, hold_out
from panovlm.training.recipe import Recipe, StageSection
from panovlm.training.sources import view_source
from panovlm.training.streams import stream_dataset
from panovlm.training.trainer import StageTrainer


def build_trainer(
    recipe: Recipe,
    section: StageSection,
    stage: Stage,
    model: PreTrainedModel,
    processor: PanoVLMProcessor,
    callbacks: list[TrainerCallback],
) -> StageTrainer:
    """Put a stage's data, arguments and callbacks together."""
    bf16 = uses_bf16(recipe.precision)
    pad_id = processor.tokenizer.pad_token_id
    dataset: StreamDataset | PanoramaDataset
    collator: StreamCollator | PanoramaCollator
    if is_stream(section.data):
        held_out: list[Path] = []
        with ranks.synchronized():
            dataset = stream_dataset(recipe, section, stage, model, processor, bf16=bf16)
        collator = StreamCollator(pad_id)
    else:
        records = read_records(section.data, Needs.of(stage.supervision))
        source = view_source(model, processor, records, stage, bf16=bf16)
        with ranks.synchronized():
            held_out, records = _hold_out(records, section, stage, recipe.seed)
            dataset = build_dataset(recipe, section, stage, processor, records, source)
            dataset.check_lengths(model.config.text_config.max_position_embeddings)
        collator = PanoramaCollator(source.key, pad_id)
    trainer = StageTrainer(
        model=model,
        args=training_arguments(recipe, section, stage, bf16=bf16),
        train_dataset=dataset,
        data_collator=collator,
        learning_rates=section.learning_rate,
        callbacks=callbacks,
    )
    if held_out:
        every = section.overlap_settings.diagnose_every
        trainer.add_callback(Diagnosis(trainer.scalars, held_out, source, every))
    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    return trainer


def _hold_out(
    records: list[Record], section: StageSection, stage: Stage, seed: int
) -> tuple[list[Path], list[Record]]:
    """Return the pictures that are diagnosed, and the records to train on."""
    is_on_overlaps = stage.objective is Objective.VICREG_OVERLAP
    share = section.overlap_settings.held_out if is_on_overlaps else 0.0
    return hold_out(records, share, seed)


def build_dataset(
    recipe: Recipe,
    section: StageSection,
    stage: Stage,
    processor: PanoVLMProcessor,
    records: list[Record],
    source: Source,
) -> PanoramaDataset:
    """Build the dataset of a stage that trains on records."""
    return PanoramaDataset(
        records,
        source,
        processor,
        stage.supervision,
        section.questions_per_panorama,
        roll=section.roll,
        seed=recipe.seed,
    )


def training_arguments(
    recipe: Recipe, section: StageSection, stage: Stage, *, bf16: bool
) -> TrainingArguments:
    """Return the library's arguments for a stage."""
    return TrainingArguments(
        output_dir=str(checkpoint_folder(recipe, stage.name)),
        max_steps=section.steps,
        per_device_train_batch_size=ranks.batch_size_per_rank(section.batch_size),
        gradient_accumulation_steps=section.accumulation,
        warmup_steps=round(section.warmup * section.steps),
        weight_decay=section.weight_decay,
        lr_scheduler_type="cosine",
        max_grad_norm=1.0,
        bf16=bf16,
        seed=recipe.seed,
        save_steps=section.steps,  # at the end; `SavePoints` asks for those before it
        logging_steps=max(section.steps // 50, 1),
        logging_first_step=True,
        remove_unused_columns=False,  # the collator needs fields that no `forward` takes
        report_to=[],
        ddp_find_unused_parameters=False,  # every trained parameter is used, by text alone too
        use_cpu=not torch.cuda.is_available(),
        activation_checkpointing=recipe.activation_checkpointing,
        dataloader_num_workers=recipe.workers,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
