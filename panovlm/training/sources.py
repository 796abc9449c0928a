"""Where a stage's views come from: the frozen encoder's outputs, encoded once, or pixels."""

import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from panovlm.data.cache import PatchTokenCache, ViewSource
from panovlm.data.cache_room import cache_limit, gigabytes, make_room, mark_used
from panovlm.data.filling import fill
from panovlm.data.records import Record, raise_errors
from panovlm.model.image_processing import PanoVLMImageProcessor
from panovlm.model.processing import PanoVLMProcessor
from panovlm.pictures.panorama import panorama_error
from panovlm.runtime.cached_folders import token_cache_folder
from panovlm.runtime.precision import uses_bf16
from panovlm.runtime.progress import console, progress_bar
from panovlm.stages import Stage
from panovlm.training import ranks
from panovlm.training.build import (
    build_image_processor,
    build_vision_encoder,
    free_vision_encoder,
)
from panovlm.training.disk import disk_errors
from panovlm.training.recipe import Recipe

ENCODING_BATCH, GPU_ENCODING_BATCH = 1, 16


def view_source(
    model: PreTrainedModel,
    processor: PanoVLMProcessor,
    records: list[Record],
    stage: Stage,
    *,
    bf16: bool,
) -> PatchTokenCache | ViewSource:
    """Give what the frozen part of the encoder made of every picture, or else the pixels.

    An encoder that is frozen as a whole has nothing left to do then, and its weights are freed.
    """
    image_processor = processor.image_processor
    encoder = model.model.vision_encoder
    cache = cache_of(encoder, image_processor, stage.num_vision_layers, bf16=bf16)
    if not cache.can_cut_encoder():
        console.print(
            f"{stage.name}: {encoder.config.model_type} cannot be cut below the layers that train, "
            f"so it runs as a whole in every step, and nothing is cached"
        )
        return ViewSource(image_processor)
    pictures = [record.image for record in records if record.image]
    filled = fill_caches({cache: pictures}, stage.name)
    with ranks.synchronized():
        raise_errors(f"pictures of stage {stage.name}", filled)
    if not stage.num_vision_layers:
        free_vision_encoder(model)
    return cache


def prepare_pictures(recipe: Recipe, wanted: Mapping[int, Collection[Path]]) -> list[str]:
    """Encode every picture of a run before its first stage; each is decoded once, to be encoded.

    Args:
        recipe: The run.
        wanted: Pictures, by how many of the encoder's last layers train on them.

    Returns:
        A line for each picture that is no good panorama.
    """
    with ranks.synchronized():
        encoder = build_vision_encoder(recipe.model)
        image_processor = build_image_processor(recipe.model)
    caches: dict[PatchTokenCache, Collection[Path]] = {}
    errors: list[str] = []
    for num_layers, pictures in wanted.items():
        bf16 = uses_bf16(recipe.precision)
        cache = cache_of(encoder, image_processor, num_layers, bf16=bf16)
        if cache.can_cut_encoder():
            caches[cache] = pictures
        else:
            errors += check_pictures(pictures)
    return errors + fill_caches(caches, "vision encoder")


def check_pictures(pictures: Collection[Path]) -> list[str]:
    """Decode pictures as cheaply as possible; give a line for each that is no good panorama."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        own = [*pool.map(panorama_error, ranks.share(list(pictures)))]
    return [error for errors in ranks.gathered(own) for error in errors if error]


@dataclass(frozen=True)
class _Filling:
    """One cache, the files of this run in it, and the pictures it still lacks."""

    cache: PatchTokenCache
    files: Mapping[Path, Path]
    missing: Sequence[Path]

    @property
    def num_bytes(self) -> int:
        return len(self.missing) * self.cache.bytes_per_picture

    def report(self, label: str) -> str:
        total, found = len(self.files), len(self.files) - len(self.missing)
        size = gigabytes(total * self.cache.bytes_per_picture)
        share = f", {found} ({found / total:.0%}) of them kept from before" if total else ""
        return f"{label}: {total} pictures, {size} in {self.cache.folder}{share}"


def fill_caches(wanted: Mapping[PatchTokenCache, Collection[Path]], label: str) -> list[str]:
    """Encode what is missing from caches, after making room for all of it.

    Args:
        wanted: Pictures of this run, by the cache they belong in.
        label: Who asks, for the line that says how much was there.

    Returns:
        A line for each picture that is missing or no good panorama.

    Raises:
        PanoVLMError: If what is missing will not fit, before anything is encoded.
    """
    every = dict.fromkeys(picture for pictures in wanted.values() for picture in pictures)
    absent = [picture for picture in every if not picture.is_file()]
    if absent:
        return [f"{p}: no such picture; correct `image` or restore the file" for p in absent]
    with ranks.synchronized():  # all look for what is missing before any of them writes
        fillings = [_filling(cache, list(pictures)) for cache, pictures in wanted.items()]
    for filling in fillings:
        console.print(filling.report(label), highlight=False, soft_wrap=True)
    ranks.from_first(lambda: _make_room(fillings))
    with ranks.synchronized():
        own = [error for f in fillings for error in _fill(f.cache, ranks.share(f.missing))]
    return [error for errors in ranks.gathered(own) for error in errors]


def _make_room(fillings: Sequence[_Filling]) -> None:
    ours = [file for filling in fillings for file in filling.files]
    mark_used(ours)
    needed = sum(filling.num_bytes for filling in fillings)
    if needed:
        make_room(token_cache_folder(), needed, ours, cache_limit())


def _filling(cache: PatchTokenCache, pictures: Sequence[Path]) -> _Filling:
    files = cache.files(pictures)
    return _Filling(cache, files, [p for file, p in files.items() if not file.exists()])


def _fill(cache: PatchTokenCache, missing: Sequence[Path]) -> list[str]:
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
    """Give the cache of a stage's encoder, which goes to the device that encodes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return PatchTokenCache(
        token_cache_folder(),
        encoder.to(device),
        image_processor,
        use_bf16=bf16,
        num_trained_layers=num_trained_layers,
    )
