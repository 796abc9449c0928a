"""The views of a stage: the frozen encoder's outputs, computed once, or pixels."""

import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from transformers import PreTrainedModel

from panovlm.data.cache import PatchTokenCache, ViewSource
from panovlm.data.cache_room import NoRoomError, cache_limit, gigabytes, make_room, mark_used
from panovlm.data.filling import fill
from panovlm.data.record_files import raise_errors
from panovlm.data.records import Record
from panovlm.model.image_processing import PanoVLMImageProcessor
from panovlm.model.processing import PanoVLMProcessor
from panovlm.pictures.declaring import PictureFile
from panovlm.pictures.panorama import panorama_error
from panovlm.runtime.arithmetic import uses_bf16
from panovlm.runtime.cached_folders import token_cache_folder
from panovlm.runtime.progress import console, progress_bar
from panovlm.stages import Supervision
from panovlm.training import ranks
from panovlm.training.build import build_image_processor, build_vision_encoder, free_vision_encoder
from panovlm.training.disk import disk_errors
from panovlm.training.recipe import Recipe
from panovlm.training.stage_run import StageRun

ENCODING_BATCH, GPU_ENCODING_BATCH = 1, 16


def view_sources(
    run: StageRun, model: PreTrainedModel, processor: PanoVLMProcessor, records: list[Record]
) -> Sequence[PatchTokenCache] | Sequence[ViewSource]:
    """Return the cached outputs of the frozen part of the encoder, or else the pixels.

    Those of the pictures as they are come first, then those after each fine step within a stride.
    An encoder that is frozen as a whole is not needed after that, and its weights are freed.
    """
    image_processor, encoder = processor.image_processor, model.model.vision_encoder
    if run.recipe.cache == "off":
        return pixel_sources(run, image_processor)
    cache = cache_of(encoder, image_processor, run.section.vision_layers, bf16=run.bf16)
    if not cache.can_cut_encoder():
        console.print(
            f"{run.name}: {encoder.config.model_type} cannot be cut below the layers that train, "
            f"so it runs as a whole in every step, and nothing is cached"
        )
        return pixel_sources(run, image_processor)
    plain, *fine = caches = fine_caches(cache, run)
    pictures = [picture for record in records for picture in record.pictures]
    rotated = _finely_rotated(run, records)
    errors = fill_caches({plain: pictures} | dict.fromkeys(fine, rotated), run.name)
    with ranks.synchronized():
        raise_errors(f"pictures of stage {run.name}", errors)
    if not run.section.vision_layers:
        free_vision_encoder(model)
    return caches


def pixel_sources(run: StageRun, image_processor: PanoVLMImageProcessor) -> list[ViewSource]:
    """Return what loads the pixels of a stage's pictures, for each fine step within a stride."""
    source = ViewSource(image_processor)
    return [source.with_yaw_shift(yaw_deg) for yaw_deg in fine_yaws_deg(run)]


def _finely_rotated(run: StageRun, records: list[Record]) -> list[PictureFile]:
    """Return the pictures that a stage rotates in fine steps: others' records lack responses."""
    count = run.recipe.model.views.layout.num_strides * run.section.yaw_steps_per_view
    has_text = run.stage.supervision is not Supervision.NONE
    rotated = [each for each in records if not has_text or each.has_rotations(count)]
    return [picture for record in rotated for picture in record.pictures]


def fine_yaws_deg(run: StageRun) -> list[float]:
    """Return the yaws of a stage's fine steps within a stride, from 0."""
    num_steps = run.section.yaw_steps_per_view
    num_strides = run.recipe.model.views.layout.num_strides
    return [360.0 / num_strides * i / num_steps for i in range(num_steps)]


def fine_caches(cache: PatchTokenCache, run: StageRun) -> list[PatchTokenCache]:
    """Return the caches of a stage: one for each fine step within a stride, the plain one first."""
    return [cache, *(cache.with_yaw_shift(yaw_deg) for yaw_deg in fine_yaws_deg(run)[1:])]


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
        image_processor = build_image_processor(recipe.model)
    caches: dict[Path, PatchTokenCache] = {}
    pictures: dict[Path, dict[PictureFile, None]] = defaultdict(dict)
    uncached: dict[PictureFile, None] = {}
    bf16 = uses_bf16(recipe.dtype)
    by_layers = {
        num_layers: cache_of(encoder, image_processor, num_layers, bf16=bf16)
        for num_layers in {run.section.vision_layers for run, _ in wanted}
    }
    for run, own in wanted:
        cache = by_layers[run.section.vision_layers]
        if not cache.can_cut_encoder():
            uncached |= dict.fromkeys(own)
            continue
        caches.setdefault(cache.folder, cache)
        pictures[cache.folder] |= dict.fromkeys(own)
    filled = {cache: pictures[folder] for folder, cache in caches.items()}
    return check_pictures(uncached) + fill_caches(filled, "vision encoder")


def check_pictures(pictures: Collection[PictureFile]) -> list[str]:
    """Decode pictures as cheaply as possible; return a line for each that is no valid panorama."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        own = [*pool.map(panorama_error, ranks.shard(list(pictures)))]
    return [error for errors in ranks.all_gather(own) for error in errors if error]


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
        files = {cache: cache.files(list(pictures)) for cache, pictures in wanted.items()}
        missing = {cache: [p for f, p in files[cache].items() if not f.exists()] for cache in files}
    for cache in files:
        _report(cache, len(files[cache]), len(missing[cache]), label)
    needed = sum(len(missing[cache]) * cache.bytes_per_picture for cache in missing)
    kept = [file for each in files.values() for file in each]
    if error := ranks.run_on_first(lambda: _make_room(kept, needed)):
        raise NoRoomError(error)
    with ranks.synchronized():
        own = [error for cache in missing for error in _fill(cache, ranks.shard(missing[cache]))]
    return [error for errors in ranks.all_gather(own) for error in errors]


def _report(cache: PatchTokenCache, total: int, num_missing: int, label: str) -> None:
    found = total - num_missing
    share = f", {found} ({found / total:.0%}) of them kept from before" if total else ""
    line = f"{label}: {total} pictures, {gigabytes(total * cache.bytes_per_picture)} in"
    console.print(f"{line} {cache.folder}{share}", highlight=False, soft_wrap=True)


def _make_room(files: Collection[Path], needed_bytes: int) -> str | None:
    """Make room; return why there is none."""
    mark_used(files)
    try:
        if needed_bytes:
            make_room(token_cache_folder(), needed_bytes, files, cache_limit())
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


def cache_of(
    encoder: PreTrainedModel,
    image_processor: PanoVLMImageProcessor,
    num_trained_layers: int,
    *,
    bf16: bool,
) -> PatchTokenCache:
    """Return the cache of a stage's encoder, which is moved to the device that encodes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return PatchTokenCache(
        token_cache_folder(),
        encoder.to(device),
        image_processor,
        use_bf16=bf16,
        num_trained_layers=num_trained_layers,
    )
