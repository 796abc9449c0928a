"""What a stage trains on as a data set: records, fitted and counted in epochs, or a stream."""

import math
from collections.abc import Sequence
from dataclasses import replace

from panovlm.data.augmentation import ClassSwap, ColourJitter
from panovlm.data.cache import FeatureSource, PatchTokenCache
from panovlm.data.cache_room import StreamRoom, cache_limit
from panovlm.data.conversations import ConversationTokenizer, RecordSampler
from panovlm.data.datasets import TOO_LONG_FIX, PanoramaDataset, ViewsAsWords
from panovlm.data.mixture import MixturePart
from panovlm.data.records import Record
from panovlm.data.stream_features import StreamEncoder
from panovlm.data.streaming import StreamDataset
from panovlm.errors import PanoVLMError
from panovlm.model.vision import patch_token_width
from panovlm.runtime.cached_folders import token_cache_folder
from panovlm.runtime.progress import console
from panovlm.training import ranks
from panovlm.training.build import build_config
from panovlm.training.recipe import Recipe
from panovlm.training.sampler import SequenceSampler
from panovlm.training.stage_records import read_stage, without_held_out
from panovlm.training.stage_run import StageRun
from panovlm.training.view_words import ViewWords


def record_sampler(run: StageRun) -> RecordSampler:
    """Return what chooses a stage's conversations and yaw rotations, and tokenises them."""
    section = run.section
    tokenizer = ConversationTokenizer(
        run.processor,
        run.stage.supervision,
        run.longest,
        truncates=section.too_long == "truncate",
    )
    return RecordSampler(
        tokenizer, section.questions_per_panorama, section.roll, section.yaw_steps_per_view
    )


def build_dataset(
    run: StageRun, parts: Sequence[MixturePart], sources: Sequence[FeatureSource] = ()
) -> PanoramaDataset:
    """Build the dataset of a stage that trains on records.

    Args:
        run: The stage.
        parts: The records.
        sources: Load the pictures; none where only texts are read.

    Raises:
        PanoVLMError: If it is to be rotated in fine steps and no record has responses for them, or
            a conversation is too long and none may be cut or left out.
    """
    sampler = record_sampler(run)
    _check_fine_steps(run, sampler, parts)
    if run.needs.text and run.section.too_long != "error":
        parts = _fitting(run, sampler.tokenizer, parts)
    dataset = PanoramaDataset(
        parts,
        sources,
        sampler,
        seed=run.recipe.seed,
        jitter=colour_jitter(run),
        class_swap=class_swap(run),
        views_as_words=views_as_words(run),
    )
    dataset.check_lengths()
    return dataset


def stream_dataset(run: StageRun, source: FeatureSource) -> StreamDataset:
    """Return the dataset of a stage on streams, whose pictures are encoded as they arrive.

    Args:
        run: The stage.
        source: The cache of its encoder, or what loads pixels.

    Raises:
        PanoVLMError: If something is to be changed that only files have.
    """
    for key in ("class_swap", "views_as_words"):
        if share := getattr(run.section, key):
            raise PanoVLMError(
                f"stages.{run.name}: found {key} = {share} beside streams; set "
                f"stages.{run.name}.{key}: 0, or train on files"
            )
    room = StreamRoom.of(token_cache_folder(), cache_limit(), ranks.world_size())
    if isinstance(source, PatchTokenCache):
        console.print(f"{run.name}: a stream, encoded as it arrives and kept in {source.folder}")
    return StreamDataset(
        run.streams,
        StreamEncoder(source, room),
        record_sampler(run),
        seed=run.recipe.seed,
        batch_size=ranks.batch_size_per_rank(run.section.batch_size),
        rank=(ranks.rank(), ranks.world_size()),
        jitter=colour_jitter(run),
    )


def build_watched(
    run: StageRun, records: Sequence[Record], source: FeatureSource
) -> PanoramaDataset:
    """Build the dataset that a stage is validated on: never rotated, whole, always the same.

    Raises:
        PanoVLMError: If a conversation is too long.
    """
    tokenizer = ConversationTokenizer(run.processor, run.stage.supervision, run.longest)
    sampler = RecordSampler(tokenizer, run.section.questions_per_panorama, roll=False)
    dataset = PanoramaDataset([MixturePart(records)], [source], sampler, seed=run.recipe.seed)
    dataset.check_lengths()
    return dataset


def colour_jitter(run: StageRun) -> ColourJitter | None:
    """Return what changes the colours of a stage's views, if anything does."""
    strength, pixels = run.section.colour_jitter, run.processor.image_processor
    return ColourJitter(strength, pixels.image_mean, pixels.image_std) if strength else None


def class_swap(run: StageRun) -> ClassSwap | None:
    """Return what changes which class is which, if anything does.

    Raises:
        PanoVLMError: If what is trained on are not the probabilities of named classes.
    """
    if not run.section.class_swap:
        return None
    setting = f"stages.{run.name}: found class_swap = {run.section.class_swap}"
    if run.section.vision_layers:
        raise PanoVLMError(
            f"{setting} beside vision_layers; set class_swap: 0, or vision_layers: 0"
        )
    vision = build_config(run.recipe.model).vision_config
    if patch_token_width(vision) != len(vision.id2label):
        raise PanoVLMError(
            f"{setting} beside an encoder of type {vision.model_type!r}, expected one whose patch "
            "tokens are the probabilities of named classes, as nanodet-g; set class_swap: 0"
        )
    return ClassSwap(run.section.class_swap, tuple(vision.id2label.values()))


def views_as_words(run: StageRun) -> ViewsAsWords | None:
    """Return what puts words in place of a stage's views, if anything does."""
    if not (share := run.section.views_as_words):
        return None
    return ViewsAsWords(share, run.processor.image_token_id, ViewWords(run.processor).of_text)


def _fitting(
    run: StageRun, tokenizer: ConversationTokenizer, parts: Sequence[MixturePart]
) -> list[MixturePart]:
    """Leave out the records that are too long, also when truncated, and say how many are."""
    longest = run.longest
    records = [record for part in parts for record in part.records]
    too_long = {id(r): r for r in records if tokenizer.num_beyond(r) > 0}
    dropped = {key for key, r in too_long.items() if tokenizer.excess(r) > 0}
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
    section = run.section
    if run.is_stream:
        raise PanoVLMError(
            f"stages.{run.name}: found epochs beside a stream, whose examples are not counted; set "
            f"stages.{run.name}.steps instead"
        )
    parts, _ = without_held_out(run, read_stage(run))
    per_step = section.batch_size * section.accumulation
    budget, seed = section.tokens_per_sequence, run.recipe.seed
    sampler = SequenceSampler(build_dataset(run, parts), per_step, 0, seed, budget)
    return math.ceil(epochs * sum(1 for _ in sampler.epoch(0)) / per_step)


def _check_fine_steps(run: StageRun, sampler: RecordSampler, parts: Sequence[MixturePart]) -> None:
    per_view, count = sampler.steps_per_view, sampler.num_steps
    records = (record for part in parts for record in part.records)
    if per_view == 1 or not run.needs.text or any(r.has_rotations(count) for r in records):
        return
    raise PanoVLMError(
        f"stages.{run.name}: found yaw_steps_per_view = {per_view}, but no record with a response "
        f"for each of {count} rotations (a multiple of it in rolled_responses); write the "
        f"questions with `panovlm questions --yaw-steps {count}`, or set "
        f"stages.{run.name}.yaw_steps_per_view: 1"
    )
