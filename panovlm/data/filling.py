"""Filling the cache of the frozen encoder's outputs: pictures decoded, encoded and kept."""

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from panovlm.data.cache import PatchTokenCache, ViewSource, digest_of
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import PictureFile

MAX_DECODERS = 8
Decoded = tuple[PictureFile, Tensor | PanoVLMError | None]


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
    try:
        cache.prepare_folder()
        for batch in _decoded(cache, _batches(pictures, batch_size)):
            decoded = {path: views for path, views in batch if isinstance(views, Tensor)}
            if decoded:
                for picture, states in zip(decoded, _encoded(cache, decoded), strict=True):
                    cache.keep(digest_of(picture), states)
            errors |= {path: str(e) for path, e in batch if isinstance(e, PanoVLMError)}
            progress(len(batch))
    except OSError as error:
        raise PanoVLMError(
            f"cannot keep patch tokens in {cache.folder}: {error}; make room there (`panovlm "
            f"cache --prune`) or set PANOVLM_CACHE to another folder, then start again: what "
            f"is kept already stays"
        ) from error
    return [errors[picture] for picture in pictures if picture in errors]


def _encoded(cache: PatchTokenCache, decoded: Mapping[PictureFile, Tensor]) -> Sequence[Tensor]:
    encoded = cache.encode(torch.stack([*decoded.values()]))
    if encoded.dtype == torch.float16:
        return [*encoded]
    return [cache.encode(views) for views in decoded.values()]  # those within float16 stay in it


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
            return picture, None if cache.file(picture).exists() else source.load(picture)
        except PanoVLMError as error:
            return picture, error

    if cache.encoder.device.type == "cpu":  # it takes all cores; a thread beside it costs more
        yield from ([decode(picture) for picture in batch] for batch in batches)
        return
    with ThreadPoolExecutor(max_workers=min(MAX_DECODERS, os.cpu_count() or 1)) as pool:
        ahead: list[Future[Decoded]] = []
        for following in [*batches, []]:
            ready, ahead = ahead, [pool.submit(decode, picture) for picture in following]
            if ready:
                yield [future.result() for future in ready]
