"""The records of a stage as a data set: read, fitted to the longest length, counted in epochs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from panovlm.data.augmentation import ColourJitter
from panovlm.data.conversations import ConversationTokenizer
from panovlm.data.datasets import TOO_LONG_FIX, PanoramaDataset, Source
from panovlm.data.mixture import MixturePart
from panovlm.data.records import Needs, Record
from panovlm.errors import PanoVLMError
from panovlm.model.processing import PanoVLMProcessor
from panovlm.pictures.declaring import PictureFile
from panovlm.runtime.progress import console
from panovlm.stages import Supervision
from panovlm.training.build import build_config, build_processor
from panovlm.training.data_sources import read_source
from panovlm.training.diagnosing import hold_out
from panovlm.training.recipe import Recipe
from panovlm.training.sampler import SequenceSampler
from panovlm.training.stage_run import StageRun
from panovlm.training.validation_split import set_apart


def read_parts(run: StageRun) -> list[MixturePart]:
    """Read and check the records that a stage trains on, each file's as one part of the mixture.

    Raises:
        PanoVLMError: Listing every invalid line of a file.
    """
    return parts_and_watched(run)[0]


def parts_and_watched(run: StageRun) -> tuple[list[MixturePart], list[Record]]:
    """Read the records that a stage trains on, and of these the share to validate on.

    Raises:
        PanoVLMError: Listing every invalid line of a file.
    """
    needs, seed = Needs.of(run.stage.supervision), run.recipe.seed
    parts = [MixturePart(read_source(each, needs, seed), each.weight) for each in run.sources]
    validation = run.section.validation
    if validation is None or validation.share is None:
        return parts, []
    return set_apart(run.name, parts, validation.share, seed)


def build_dataset(
    run: StageRun,
    processor: PanoVLMProcessor,
    parts: Sequence[MixturePart],
    sources: Sequence[Source],
    limit: int,
) -> PanoramaDataset:
    """Build the dataset of a stage that trains on records.

    Args:
        run: The stage.
        processor: Tokenises the conversations.
        parts: The records.
        sources: Load the pictures.
        limit: Tokens that the language model reads at most.

    Raises:
        PanoVLMError: If it is to be rotated in fine steps and no record has responses for them, or
            a conversation is too long and none may be cut or left out.
    """
    _check_fine_steps(run, [record for part in parts for record in part.records])
    has_text = run.stage.supervision is not Supervision.NONE
    if has_text and run.section.too_long != "error":
        parts = _fitting(run, processor, parts, limit)
    dataset = PanoramaDataset(
        parts,
        sources,
        processor,
        run.stage.supervision,
        run.section.questions_per_panorama,
        roll=run.section.roll,
        seed=run.recipe.seed,
        truncate_to=run.truncate_to(limit),
        jitter=colour_jitter(run, processor),
    )
    dataset.check_lengths(run.longest(limit))
    return dataset


def colour_jitter(run: StageRun, processor: PanoVLMProcessor) -> ColourJitter | None:
    """Return what changes the colours of a stage's views, if anything does."""
    strength, pixels = run.section.colour_jitter, processor.image_processor
    return ColourJitter(strength, pixels.image_mean, pixels.image_std) if strength else None


def _fitting(
    run: StageRun, processor: PanoVLMProcessor, parts: Sequence[MixturePart], limit: int
) -> list[MixturePart]:
    """Leave out the records that are too long, also when truncated, and say how many are."""
    longest = run.longest(limit)
    tokenizer = ConversationTokenizer(processor, run.stage.supervision, run.truncate_to(limit))
    records = [record for part in parts for record in part.records]
    too_long = {id(r): r for r in records if tokenizer.num_beyond(r, longest) > 0}
    dropped = {key for key, r in too_long.items() if tokenizer.excess(r, longest) > 0}
    if too_long:
        console.print(
            f"{run.name}: {len(too_long):,} of {len(records):,} records have more than "
            f"{longest:,} tokens: {len(too_long) - len(dropped):,} truncated, "
            f"{len(dropped):,} left out"
        )
    if len(dropped) == len(records):
        raise PanoVLMError(
            f"stages.{run.name}: found no record that fits {longest:,} tokens; raise max_length, "
            f"or {TOO_LONG_FIX}"
        )
    return [
        replace(part, records=[r for r in part.records if id(r) not in dropped]) for part in parts
    ]


@dataclass(frozen=True)
class BlankViews:
    """Stands for the views of pictures where only text is read."""

    num_views: int

    def load(self, picture: PictureFile) -> Tensor:
        """Return views without pixels."""
        return torch.zeros(self.num_views, 0)


def resolve_steps(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """Return the recipe with the steps of those stages that are given epochs.

    Raises:
        PanoVLMError: If the data of one are a stream, whose examples cannot be counted.
    """
    stages = dict(recipe.stages)
    for name, section in recipe.stages.items():
        if name in names and section.epochs is not None:
            steps = _count_steps(StageRun(recipe, name), section.epochs)
            stages[name] = section.model_copy(update={"steps": steps})
    return recipe.model_copy(update={"stages": stages})


def _count_steps(run: StageRun, epochs: float) -> int:
    section, config = run.section, build_config(run.recipe.model)
    if run.is_stream:
        raise PanoVLMError(
            f"stages.{run.name}: found epochs beside a stream, whose examples are not counted; set "
            f"stages.{run.name}.steps instead"
        )
    parts, per_step = read_parts(run), section.batch_size * section.accumulation
    if run.is_on_overlaps:
        records = [record for part in parts for record in part.records]
        held_out = hold_out(records, section.overlap_settings.held_out, run.recipe.seed)
        parts = [part.without(held_out) for part in parts]
    blank = [BlankViews(config.layout.num_views)] * section.yaw_steps_per_view
    limit = config.text_config.max_position_embeddings
    examples = build_dataset(run, build_processor(run.recipe.model), parts, blank, limit)
    sampler = SequenceSampler(examples, per_step, 0, run.recipe.seed, section.tokens_per_sequence)
    return math.ceil(epochs * sum(1 for _ in sampler.epoch(0)) / per_step)


def _check_fine_steps(run: StageRun, records: list[Record]) -> None:
    per_view = run.section.yaw_steps_per_view
    count = run.recipe.model.views.layout.num_strides * per_view
    has_text = run.stage.supervision is not Supervision.NONE
    if per_view == 1 or not has_text or any(r.has_rotations(count) for r in records):
        return
    raise PanoVLMError(
        f"stages.{run.name}: found yaw_steps_per_view = {per_view}, but no record with a response "
        f"for each of {count} rotations (a multiple of it in rolled_responses); write the "
        f"questions with `panovlm questions --yaw-steps {count}`, or set "
        f"stages.{run.name}.yaw_steps_per_view: 1"
    )
