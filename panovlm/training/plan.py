"""What a run will take, before anything is loaded, encoded or trained."""

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from panovlm.backbones.packaged import PACKAGED
from panovlm.data.cache import NPY_HEADER_BYTES
from panovlm.data.datasets import PanoramaDataset
from panovlm.data.packing import IGNORED
from panovlm.data.records import Needs, Record, read_records
from panovlm.data.samples import records_of
from panovlm.data.shards import is_stream, open_stream
from panovlm.errors import PanoVLMError
from panovlm.model.configuration import PanoVLMConfig
from panovlm.model.processing import PanoVLMProcessor
from panovlm.model.vision import num_prefix_tokens, patch_token_width, token_grid
from panovlm.runtime.cached_folders import MANIFEST, cache_folder
from panovlm.runtime.precision import uses_bf16
from panovlm.stages import STAGES
from panovlm.training.assembly import build_dataset
from panovlm.training.build import build_config, build_model, build_processor
from panovlm.training.footprint import (
    FLOAT_BYTES,
    BatchShape,
    Footprint,
    blank_patch_tokens,
    footprint,
)
from panovlm.training.ranks import batch_size_per_rank
from panovlm.training.recipe import Recipe
from panovlm.training.run import stage_variant
from panovlm.training.trainable import apply_stage

MB = 1024**2
EXAMPLES_READ = 64
CACHE_NUMBER_BYTES = 2
MEASURED_STEPS = 2
LIBRARIES_MB = 450
"""What Python, PyTorch and transformers hold in a process that has loaded no model, about."""
HEADER = ["stage", "examples", "image tokens", "longest", "parameters", "trained"]
HEADER += [*(field.name for field in fields(Footprint)), "peak", "cache"]
"""Of `StagePlan.row`; memory and disk in MiB."""


@dataclass(frozen=True)
class StagePlan:
    """What one stage will take.

    Attributes:
        name: Of the stage.
        num_panoramas: Examples of an epoch: panoramas, and texts without one; None of a stream.
        image_tokens: Of one panorama in the language model; 0 without text.
        batch: Of one process, by the longest of the examples read.
        footprint: Memory of one process.
        steps_per_epoch: Optimiser steps that see every panorama once; None of a stream.
        cached: Bytes that the frozen encoder's outputs take on disk, by picture and by the number
            of trained layers left out; empty of a stream, which takes what there is and no more.
    """

    name: str
    num_panoramas: int | None
    image_tokens: int
    batch: BatchShape
    footprint: Footprint
    steps_per_epoch: int | None
    cached: Mapping[tuple[Path, int], int]

    @property
    def memory_mb(self) -> float:
        """Memory of one process at its peak, in MiB, with what the libraries take by themselves."""
        return self.footprint.peak / MB + LIBRARIES_MB

    def row(self) -> list[str]:
        """Return the plan as cells of a table; `HEADER` names them."""
        held = self.footprint
        tokens = [self.image_tokens, self.batch.length]
        parameters = [held.weights / FLOAT_BYTES, held.gradients / FLOAT_BYTES]
        memory = [*(size / MB for size in vars(held).values()), self.memory_mb]
        numbers = [*tokens, *parameters, *memory, sum(self.cached.values()) / MB]
        count = "stream" if self.num_panoramas is None else f"{self.num_panoramas:,}"
        return [self.name, count, *(f"{number:,.0f}" for number in numbers)]


def plan(recipe: Recipe) -> list[StagePlan]:
    """Plan every stage of a recipe.

    Raises:
        PanoVLMError: If a record is invalid, or a conversation is too long for the language model.
    """
    for name in (recipe.model.vision_encoder, recipe.model.language_model):
        if name in PACKAGED and not (cache_folder() / name / MANIFEST).is_file():
            raise PanoVLMError(f"{name} is not on this machine yet; run: panovlm backbones {name}")
    processor = build_processor(recipe.model)
    return [_plan_stage(recipe, name, processor) for name in STAGES if name in recipe.stages]


def _plan_stage(recipe: Recipe, name: str, processor: PanoVLMProcessor) -> StagePlan:
    section, config = recipe.section(name), build_config(recipe.model)
    stage = stage_variant(section, name)
    records = _read_records(section.data, Needs.of(stage.supervision))
    views = _BlankViews(config.num_views)
    dataset = build_dataset(recipe, section, stage, processor, records, views)
    dataset.check_lengths(config.text_config.max_position_embeddings)
    batch = _batch_shape(dataset, batch_size_per_rank(section.batch_size))
    is_cached, layers = not is_stream(section.data), stage.num_vision_layers
    model = untrained_model(recipe, name, "meta")
    per_step = section.batch_size * section.accumulation
    pictures = [record.image for record in records if record.image and is_cached]
    return StagePlan(
        name=name,
        num_panoramas=len(dataset) if is_cached else None,
        image_tokens=config.num_image_tokens if batch.length else 0,
        batch=batch,
        footprint=footprint(model, batch, frees_encoder=is_cached and not layers),
        steps_per_epoch=-(-len(dataset) // per_step) if is_cached else None,
        cached=dict.fromkeys(((p, layers) for p in pictures), _bytes_per_picture(config, layers)),
    )


def untrained_model(recipe: Recipe, name: str, device: str) -> PreTrainedModel:
    """Build a stage's model with fresh weights (none on the meta device), ready to train."""
    section = recipe.section(name)
    stage = stage_variant(section, name)
    lora = section.lora and section.lora.model_copy(update={"quantization": None})
    with torch.device(device):
        model = build_model(recipe.model, stage, section.overlap, pretrained=False)
        apply_stage(model, stage, lora)
    return model.train()


def refusals(recipe: Recipe, plans: list[StagePlan]) -> list[str]:
    """Return a line for everything that cannot fit this machine, with the setting to change."""
    memory_mb = _memory_mb()
    errors = [
        f"stage {each.name}: found about {each.memory_mb:,.0f} MiB needed, expected at most "
        f"{memory_mb:,.0f} MiB, the memory of this machine; lower batch_size (and raise "
        f"accumulation), questions_per_panorama, token_rows or token_columns"
        for each in plans
        if each.memory_mb > memory_mb
    ]
    cached = {key: size for each in plans for key, size in each.cached.items()}
    needs = {
        cache_folder(): (sum(cached.values()), "set PANOVLM_CACHE to another disk"),
        recipe.output: (sum(2 * p.footprint.weights for p in plans), "set output to another disk"),
    }
    for folder, (needed, fix) in needs.items():
        places = (folder.absolute(), *folder.absolute().parents)
        free = shutil.disk_usage(next(place for place in places if place.exists())).free
        if needed > free:
            errors.append(
                f"{folder}: found {free / MB:,.0f} MiB free, expected {needed / MB:,.0f} MiB; "
                f"{fix}, or lower num_views or view_size"
            )
    return errors


def seconds_per_step(recipe: Recipe, each: StagePlan) -> float:
    """Time an optimiser step of a planned stage here, with fresh weights and a blank batch."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = untrained_model(recipe, each.name, device)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    batch = _blank_batch(model, each.batch, device)
    seconds = 0.0
    for _ in range(MEASURED_STEPS):  # the last one counts: those before warm up
        started = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=uses_bf16(recipe.precision)):
            loss = model(**batch).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    return recipe.section(each.name).accumulation * seconds


@dataclass(frozen=True)
class _BlankViews:
    """Stands for the views of pictures where only text is read."""

    num_views: int

    def load(self, picture: Path) -> Tensor:
        return torch.zeros(self.num_views, 0)


def _read_records(data: Path, needs: Needs) -> list[Record]:
    """Read a stage's records, of a stream the first."""
    if not is_stream(data):
        return read_records(data, needs)
    samples = open_stream(data).head(EXAMPLES_READ)
    return [record for sample in samples for record in records_of(sample, needs)]


def _batch_shape(dataset: PanoramaDataset, sequences: int) -> BatchShape:
    """Read the first examples; a batch is taken to hold the longest of them, side by side."""
    read = [dataset[i]["conversations"] for i in range(min(len(dataset), EXAMPLES_READ))]
    packed = [each for each in read if each is not None]
    supervised = max((sum(label != IGNORED for label in p.labels) for p in packed), default=0)
    longest = max((len(p.ids) for p in packed), default=0)
    return BatchShape(sequences, longest, supervised * sequences)


def _bytes_per_picture(config: PanoVLMConfig, num_trained_layers: int) -> int:
    rows, columns = token_grid(config.vision_config, config.view_size)
    prefix = num_prefix_tokens(config.vision_config) if num_trained_layers else 0
    tokens = config.layout.num_views * (prefix + rows * columns)
    width = patch_token_width(config.vision_config)
    return CACHE_NUMBER_BYTES * tokens * width + NPY_HEADER_BYTES


def _blank_batch(model: PreTrainedModel, shape: BatchShape, device: str) -> dict[str, Tensor]:
    config, rows = model.config, shape.sequences
    tokens = torch.randn_like(blank_patch_tokens(config, rows, device))
    if not shape.length:
        return {"patch_tokens": tokens}
    word = (config.image_token_id + 1) % config.text_config.vocab_size
    ids = torch.full((rows, shape.length), word, device=device)
    ids[:, : config.num_image_tokens] = config.image_token_id
    labels = torch.full_like(ids, IGNORED)
    labels[:, -(shape.supervised // rows) :] = word
    mask = torch.ones(rows, 1, shape.length, shape.length, dtype=torch.bool, device=device).tril()
    return {"patch_tokens": tokens, "input_ids": ids, "labels": labels, "attention_mask": mask}


def _memory_mb() -> float:
    """Return the memory of the accelerator, or of the machine, in MiB."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[1] / MB
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / MB
