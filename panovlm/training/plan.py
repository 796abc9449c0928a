"""What a run will take, before anything is loaded, encoded or trained."""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from panovlm.backbones.packaged import PACKAGED
from panovlm.data.cache import bytes_per_picture
from panovlm.data.datasets import PanoramaDataset
from panovlm.data.packing import IGNORED
from panovlm.data.records import Needs, read_records
from panovlm.data.samples import records_of
from panovlm.data.shards import is_stream, open_stream
from panovlm.errors import PanoVLMError
from panovlm.model.configuration import PanoVLMConfig
from panovlm.model.processing import PanoVLMProcessor
from panovlm.runtime.cached_folders import MANIFEST, cache_folder
from panovlm.runtime.measure import peak_memory_mb
from panovlm.stages import STAGES, Stage
from panovlm.training.build import build_config, build_processor
from panovlm.training.footprint import (
    Footprint,
    StepShape,
    build_without_weights,
    footprint,
    patch_tokens_for,
)
from panovlm.training.ranks import part_of_batch
from panovlm.training.recipe import Recipe, StageSection
from panovlm.training.run import derive
from panovlm.training.trainable import ModuleReport, report

MB = 1024**2
EXAMPLES_LOOKED_AT = 64
MEASURED_STEPS = 2


@dataclass(frozen=True)
class StagePlan:
    """What one stage will take.

    Attributes:
        name: Of the stage.
        num_panoramas: Examples of an epoch: panoramas, and texts without one; None of a stream.
        image_tokens: Of one panorama in the language model; 0 without text.
        shape: Of one batch, by the longest of the examples looked at.
        modules: Parameters by module, all and trained.
        footprint: Memory of one process.
        steps_per_epoch: Optimiser steps that see every panorama once; None of a stream.
        cache_bytes: Of the frozen encoder's outputs on disk; 0 of a stream, which takes what there
            is and no more.
    """

    name: str
    num_panoramas: int | None
    image_tokens: int
    shape: StepShape
    modules: list[ModuleReport]
    footprint: Footprint
    steps_per_epoch: int | None
    cache_bytes: int

    @property
    def memory_mb(self) -> float:
        """Memory of one process at its peak, in MiB, with what the libraries take by themselves."""
        return self.footprint.peak / MB + LIBRARIES_MB

    def row(self) -> list[str]:
        """Give the plan as cells of a table; `HEADER` names them."""
        total, trained = (
            sum(getattr(module, name) for module in self.modules)
            for name in ("num_parameters", "num_trained")
        )
        return [
            self.name,
            "stream" if self.num_panoramas is None else f"{self.num_panoramas:,}",
            f"{self.image_tokens:,}",
            f"{self.shape.length:,}",
            f"{total:,}",
            f"{trained:,}",
            *(f"{number / MB:,.0f}" for number in vars(self.footprint).values()),
            f"{self.memory_mb:,.0f}",
            f"{self.cache_bytes / MB:,.0f}",
        ]


HEADER = [
    "stage",
    "examples",
    "image tokens",
    "longest",
    "parameters",
    "trained",
    "weights",
    "freed",
    "loading",
    "gradients",
    "optimiser",
    "activations",
    "peak",
    "cache",
]
"""Of `StagePlan.row`; memory and disk in MiB."""
LIBRARIES_MB = 450
"""What Python, PyTorch and transformers hold in a process that has loaded no model, about."""


@dataclass(frozen=True)
class Measured:
    """What steps with fresh weights and blank batches took on this machine.

    Attributes:
        name: Of the stage.
        seconds_per_step: Of one optimiser step.
        seconds_per_epoch: Of as many as see every panorama once; None of a stream.
        peak_memory_mb: The most memory the process has held by then, in MiB.
    """

    name: str
    seconds_per_step: float
    seconds_per_epoch: float | None
    peak_memory_mb: float


def plan(recipe: Recipe) -> list[StagePlan]:
    """Plan every stage of a recipe.

    Raises:
        PanoVLMError: If a record is invalid, or a conversation is too long for the language model.
    """
    for name in (recipe.model.vision_encoder, recipe.model.language_model):
        if name in PACKAGED and not (cache_folder() / name / MANIFEST).is_file():
            raise PanoVLMError(f"{name} is not on this machine yet; run: panovlm backbones {name}")
    processor = build_processor(recipe.model)
    chosen = [name for name in STAGES if name in recipe.stages]
    return [_plan_stage(recipe, recipe.section(name), name, processor) for name in chosen]


def measure(recipe: Recipe, each: StagePlan) -> Measured:
    """Time the steps of a planned stage on this machine."""
    section = recipe.section(each.name)
    stage = derive(STAGES[each.name], section)
    model = build_without_weights(build_config(recipe.model), stage, section.lora, "cpu")
    seconds = section.accumulation * _seconds_per_batch(model, each.shape)
    epoch = None if each.steps_per_epoch is None else seconds * each.steps_per_epoch
    return Measured(each.name, seconds, epoch, peak_memory_mb())


def refusals(recipe: Recipe, plans: list[StagePlan]) -> list[str]:
    """Give a line for everything that cannot fit this machine, with the knob to turn."""
    errors = []
    memory_mb = _memory_mb()
    for each in plans:
        if each.memory_mb > memory_mb:
            errors.append(
                f"stage {each.name}: found about {each.memory_mb:,.0f} MiB needed, expected at "
                f"most {memory_mb:,.0f} MiB, the memory of this machine; lower batch_size (and "
                f"raise accumulation), questions_per_panorama, token_rows or token_columns"
            )
    needs = {
        cache_folder(): (sum({p.cache_bytes for p in plans}), "set PANOVLM_CACHE to another disk"),
        recipe.output: (sum(2 * p.footprint.weights for p in plans), "set output to another disk"),
    }
    for folder, (needed, fix) in needs.items():
        free = shutil.disk_usage(_existing(folder)).free
        if needed > free:
            errors.append(
                f"{folder}: found {free / MB:,.0f} MiB free, expected {needed / MB:,.0f} MiB; "
                f"{fix}, or lower num_views or view_size"
            )
    return errors


class _NoPictures:
    """Stands for the views of a picture where only text is looked at."""

    def __init__(self, num_views: int) -> None:
        self.num_views = num_views

    def load(self, picture: Path) -> Tensor:
        """Give views that hold nothing."""
        return torch.zeros(self.num_views, 0)


def _plan_stage(
    recipe: Recipe, section: StageSection, name: str, processor: PanoVLMProcessor
) -> StagePlan:
    stage = derive(STAGES[name], section)
    config = build_config(recipe.model)
    dataset, num_pictures = _dataset(recipe, section, stage, processor, config)
    count = None if is_stream(section.data) else len(dataset)
    per_step = section.batch_size * section.accumulation
    shape = _step_shape(dataset, part_of_batch(section.batch_size))
    model = build_without_weights(config, stage, section.lora)
    frees_encoder = count is not None and not stage.num_vision_layers
    views = config.num_views, config.view_size
    cached = bytes_per_picture(config.vision_config, *views, section.vision_layers)
    return StagePlan(
        name=name,
        num_panoramas=count,
        image_tokens=config.num_image_tokens if shape.length else 0,
        shape=shape,
        modules=report(model, stage),
        footprint=footprint(model, stage, shape, frees_encoder=frees_encoder),
        steps_per_epoch=None if count is None else -(-count // per_step),
        cache_bytes=0 if count is None else num_pictures * cached,
    )


def _dataset(
    recipe: Recipe,
    section: StageSection,
    stage: Stage,
    processor: PanoVLMProcessor,
    config: PanoVLMConfig,
) -> tuple[PanoramaDataset, int]:
    """Give a stage's examples (of a stream the first) without pictures, and their number."""
    needs = Needs.of(stage.supervision)
    if is_stream(section.data):
        head = open_stream(section.data).head(EXAMPLES_LOOKED_AT)
        records = [record for sample in head for record in records_of(sample, needs)]
    else:
        records = read_records(section.data, needs)
    dataset = PanoramaDataset(
        records,
        _NoPictures(config.num_views),
        processor,
        stage.supervision,
        section.questions_per_panorama,
        roll=section.roll,
        seed=recipe.seed,
    )
    dataset.check_lengths(config.text_config.max_position_embeddings)
    return dataset, len({record.image for record in records if record.image})


def _step_shape(dataset: PanoramaDataset, sequences: int) -> StepShape:
    """Look at the first examples; a batch is taken to hold the longest of them, side by side."""
    looked_at = [dataset[i]["conversations"] for i in range(min(len(dataset), EXAMPLES_LOOKED_AT))]
    packed = [each for each in looked_at if each is not None]
    supervised = max((sum(label != IGNORED for label in p.labels) for p in packed), default=0)
    longest = max((len(p.ids) for p in packed), default=0)
    return StepShape(sequences, longest, supervised * sequences)


def _seconds_per_batch(model: PreTrainedModel, shape: StepShape) -> float:
    """Time forward and backward of a blank batch; the first run, which warms up, does not count."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    batch = _blank_batch(model, shape, str(device))
    seconds = 0.0
    for _ in range(MEASURED_STEPS):
        started = time.perf_counter()
        model(**batch).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    return seconds


def _blank_batch(model: PreTrainedModel, shape: StepShape, device: str) -> dict[str, Tensor]:
    config, rows = model.config, shape.sequences
    tokens = torch.randn_like(patch_tokens_for(config, rows, device))
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
    """Give the memory of the accelerator, or of the machine, in MiB."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[1] / MB
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / MB


def _existing(folder: Path) -> Path:
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
