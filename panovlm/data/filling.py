"""Filling the cache of the frozen encoder's outputs: pictures decoded, encoded and kept."""

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from safetensors import SafetensorError
from torch import Tensor

from panovlm.data.cache import PatchTokenCache, ViewSource, digest_of
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import PictureFile

MAX_DECODERS = 8
Decoded = tuple[PictureFile, Tensor | PanoVLMError]


def fill(
    cache: PatchTokenCache,
    pictures: Sequence[PictureFile],
    batch_size: int,
    progress: Callable[[int], None],
) -> list[str]:
    """Encode the pictures that a cache lacks.

    Several processes may fill at once: each begins at another picture and skips what is there
    meanwhile. On an accelerator, pictures are decoded ahead while the encoder works.

    Args:
        cache: Where the outputs are kept.
        pictures: Panoramas, each content once.
        batch_size: Panoramas encoded at once.
        progress: Called with the number of pictures of each batch.

    Returns:
        A line for each picture that is not a valid panorama.

    Raises:
        PanoVLMError: If the disk fails.
    """
    errors: dict[PictureFile, str] = {}
    batches = _batches(pictures, batch_size)
    try:
        cache.prepare_folder()
        try:
            for batch, decoded in zip(batches, _decoded(cache, batches), strict=True):
                errors |= {path: str(e) for path, e in decoded if isinstance(e, PanoVLMError)}
                _encode(cache, {path: v for path, v in decoded if isinstance(v, Tensor)})
                progress(len(batch))
        finally:  # also what was done before an interruption
            cache.shards.flush()
    except (OSError, SafetensorError) as error:
        raise PanoVLMError(
            f"cannot keep patch tokens in {cache.folder}: {error}; make room there (`panovlm "
            f"cache --prune`) or set PANOVLM_CACHE to another folder, then start again: what "
            f"is kept already stays"
        ) from error
    return [errors[picture] for picture in pictures if picture in errors]


def _encode(cache: PatchTokenCache, decoded: Mapping[PictureFile, Tensor]) -> None:
    if not decoded:
        return
    encoded = [*cache.encode(torch.stack([*decoded.values()]))]
    if encoded[0].dtype != torch.float16:  # those within float16 stay in it
        encoded = [cache.encode(views) for views in decoded.values()]
    for picture, states in zip(decoded, encoded, strict=True):
        cache.shards.add(digest_of(picture), states)
    if cache.shards.is_due:
        cache.shards.flush()


def _batches(pictures: Sequence[PictureFile], size: int) -> list[Sequence[PictureFile]]:
    """Return batches that begin at another picture in every process, so that several share work."""
    start = random.Random(os.getpid()).randrange(max(len(pictures), 1))
    rotated = [*pictures[start:], *pictures[:start]]
    return [rotated[i : i + size] for i in range(0, len(rotated), size)]


def _decoded(
    cache: PatchTokenCache, batches: Sequence[Sequence[PictureFile]]
) -> Iterator[list[Decoded]]:
    """Yield each batch decoded; pictures that another process has kept by now are left out."""
    source = ViewSource(cache.image_processor, cache.transform)

    def decode(picture: PictureFile) -> Decoded:
        try:
            return picture, source.load(picture)
        except PanoVLMError as error:
            return picture, error

    def lacking(batch: Sequence[PictureFile]) -> list[PictureFile]:
        return [picture for picture in batch if digest_of(picture) not in cache.shards]

    if cache.encoder.device.type == "cpu":  # it takes all cores; a thread beside it costs more
        yield from ([decode(picture) for picture in lacking(batch)] for batch in batches)
        return
    with ThreadPoolExecutor(max_workers=min(MAX_DECODERS, os.cpu_count() or 1)) as pool:
        ahead: list[Future[Decoded]] | None = None
        for following in [*batches, []]:
            ready, ahead = ahead, [pool.submit(decode, each) for each in lacking(following)]
            if ready is not None:
                yield [future.result() for future in ready]
