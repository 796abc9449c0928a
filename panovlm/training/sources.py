"""The views of a stage: the frozen encoder's outputs, computed once, or pixels."""

import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from transformers import PreTrainedModel

from panovlm.data.cache import FeatureSource, PatchTokenCache, ViewSource
from panovlm.data.cache_room import NoRoomError, cache_limit, gigabytes, make_room, mark_used
from panovlm.data.filling import fill
from panovlm.data.record_files import raise_errors
from panovlm.data.records import Record
from panovlm.pictures.declaring import PictureFile
from panovlm.pictures.panorama import panorama_error
from panovlm.runtime.cached_folders import token_cache_folder
from panovlm.runtime.progress import console, progress_bar
from panovlm.training import ranks
from panovlm.training.build import build_vision_encoder, free_vision_encoder
from panovlm.training.disk import disk_errors
from panovlm.training.recipe import Recipe
from panovlm.training.stage_run import StageRun

ENCODING_BATCH, GPU_ENCODING_BATCH = 1, 16


def feature_source(run: StageRun, encoder: PreTrainedModel) -> FeatureSource:
    """Return the cache of the frozen part of a stage's encoder, which moves to the fastest device.

    Where nothing is to be cached, or the encoder cannot be cut, that is what loads the pixels.
    """
    image_processor = run.processor.image_processor
    if run.recipe.cache == "off":
        return ViewSource(image_processor)
    cache = PatchTokenCache(
        token_cache_folder(),
        encoder.to("cuda" if torch.cuda.is_available() else "cpu"),
        image_processor,
        use_bf16=run.bf16,
        num_trained_layers=run.section.vision_layers,
    )
    if cache.can_cut_encoder():
        return cache
    console.print(
        f"{run.name}: {encoder.config.model_type} cannot be cut below the layers that train, so it "
        f"runs as a whole in every step, and nothing is cached"
    )
    return ViewSource(image_processor)


def view_sources(
    run: StageRun, model: PreTrainedModel, records: Sequence[Record]
) -> Sequence[FeatureSource]:
    """Return the cached outputs of the frozen part of the encoder, or else the pixels.

    Those of the pictures as they are come first, then those after each fine step within a stride.
    An encoder that is frozen as a whole is not needed after that, and its weights are freed.
    """
    source = feature_source(run, model.model.vision_encoder)
    sources = [source.with_yaw_shift(yaw_deg) for yaw_deg in fine_yaws_deg(run)]
    rotated = [picture for each in _finely_rotated(run, records) for picture in each.pictures]
    pictures = [picture for record in records for picture in record.pictures]
    wanted = [pictures, *(rotated for _ in sources[1:])]
    fill_or_raise(dict(zip(sources, wanted, strict=True)), run.name)
    if isinstance(source, PatchTokenCache) and not run.section.vision_layers:
        free_vision_encoder(model)
    return sources


def _finely_rotated(run: StageRun, records: Sequence[Record]) -> list[Record]:
    """Return the records that a stage rotates in fine steps: others lack responses for them."""
    count = run.recipe.model.views.layout.num_strides * run.section.yaw_steps_per_view
    return [each for each in records if not run.needs.text or each.has_rotations(count)]


def fine_yaws_deg(run: StageRun) -> list[float]:
    """Return the yaws of a stage's fine steps within a stride, from 0."""
    num_steps = run.section.yaw_steps_per_view
    num_strides = run.recipe.model.views.layout.num_strides
    return [360.0 / num_strides * i / num_steps for i in range(num_steps)]


def prepare_pictures(
    recipe: Recipe, wanted: Sequence[tuple[StageRun, list[PictureFile]]]
) -> list[str]:
    """Encode every picture of a run before its first stage; after fine steps, each stage does.

    `wanted` holds the pictures of each stage. A line is returned for each that is no valid
    panorama. Without a cache they are only decoded, as cheaply as possible.

    Raises:
        NoRoomError: If the outputs do not fit, before anything is encoded.
    """
    if recipe.cache == "off":
        return check_pictures(dict.fromkeys(p for _, pictures in wanted for p in pictures))
    with ranks.synchronized():
        encoder = build_vision_encoder(recipe.model)
    by_layers: dict[int, dict[PictureFile, None]] = defaultdict(dict)
    for run, own in wanted:
        by_layers[run.section.vision_layers] |= dict.fromkeys(own)
    runs = {run.section.vision_layers: run for run, _ in wanted}
    sources = {feature_source(runs[n], encoder): pictures for n, pictures in by_layers.items()}
    caches = {each: own for each, own in sources.items() if isinstance(each, PatchTokenCache)}
    uncached = dict.fromkeys(p for each in sources.keys() - caches.keys() for p in sources[each])
    return check_pictures(uncached) + fill_caches(caches, "vision encoder")


def check_pictures(pictures: Collection[PictureFile]) -> list[str]:
    """Decode pictures as cheaply as possible; return a line for each that is no valid panorama."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        own = [*pool.map(panorama_error, ranks.shard(list(pictures)))]
    return [error for errors in ranks.all_gather(own) for error in errors if error]


def fill_or_raise(wanted: Mapping[FeatureSource, Collection[PictureFile]], label: str) -> None:
    """Encode what is missing from those sources that are caches, as `fill_caches` does.

    Raises:
        PanoVLMError: Listing every picture that is missing or invalid.
    """
    caches = {each: own for each, own in wanted.items() if isinstance(each, PatchTokenCache)}
    errors = fill_caches(caches, label) if caches else []
    with ranks.synchronized():
        raise_errors(f"pictures of {label}", errors)


def fill_caches(wanted: Mapping[PatchTokenCache, Collection[PictureFile]], label: str) -> list[str]:
    """Encode what is missing from caches, after making room for all of it.

    Args:
        wanted: Pictures of this run, by the cache they belong in.
        label: What the caches are for, at the head of the line that reports their size.

    Returns:
        A line for each picture that is missing or invalid.

    Raises:
        NoRoomError: If what is missing will not fit, before anything is encoded.
    """
    every = dict.fromkeys(picture for pictures in wanted.values() for picture in pictures)
    absent = [picture for picture in every if not Path(picture).is_file()]
    if absent:
        fix = "correct `image`, set `pictures` to the folder it starts from, or restore the file"
        return [f"{picture}: no such picture; {fix}" for picture in absent]
    with ranks.synchronized():  # all look for what is missing before any of them writes
        own = [cache.missing(pictures) for cache, pictures in wanted.items()]
    # What the first rank lacks counts for all, should another run be writing.
    missing = dict(zip(wanted, ranks.run_on_first(lambda: own), strict=True))
    for cache, pictures in wanted.items():
        _report(cache, len(set(pictures)), len(missing[cache]), label)
    if error := ranks.run_on_first(lambda: _make_room(wanted, missing)):
        raise NoRoomError(error)
    with ranks.synchronized():
        errors = [error for cache in missing for error in _fill(cache, ranks.shard(missing[cache]))]
    return [error for found in ranks.all_gather(errors) for error in found]


def _report(cache: PatchTokenCache, total: int, num_missing: int, label: str) -> None:
    found = total - num_missing
    share = f", {found} ({found / total:.0%}) of them kept from before" if total else ""
    line = f"{label}: {total} pictures, {gigabytes(total * cache.bytes_per_picture)} in"
    console.print(f"{line} {cache.folder}{share}", highlight=False)


def _make_room(
    wanted: Mapping[PatchTokenCache, Collection[PictureFile]],
    missing: Mapping[PatchTokenCache, Sequence[PictureFile]],
) -> str | None:
    """Make room; return why there is none."""
    shards = {shard for cache, pictures in wanted.items() for shard in cache.shards_with(pictures)}
    mark_used(shards)
    needed = sum(len(pictures) * cache.bytes_per_picture for cache, pictures in missing.items())
    try:
        if needed:
            make_room(token_cache_folder(), needed, shards, cache_limit())
    except NoRoomError as error:
        return str(error)
    return None


def _fill(cache: PatchTokenCache, missing: Sequence[PictureFile]) -> list[str]:
    if not missing:
        return []
    label = "vision encoder: reading panoramas once"
    with disk_errors(f"fill {cache.folder}"), progress_bar(label, len(missing)) as advance:
        is_fast = cache.encoder.device.type != "cpu"
        return fill(cache, missing, GPU_ENCODING_BATCH if is_fast else ENCODING_BATCH, advance)
