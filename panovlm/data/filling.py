"""Filling the cache of the frozen encoder's outputs: pictures decoded, encoded and kept."""

import os
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor

from panovlm.data.cache import PatchTokenCache, ViewSource, digest_of
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import PictureFile

MAX_DECODERS = 8
Decoded = dict[PictureFile, Tensor | PanoVLMError]
"""Pixels of views, or what the encoder made of them, or why a picture is no panorama."""
Item = TypeVar("Item")


def fill(
    cache: PatchTokenCache,
    pictures: Sequence[PictureFile],
    batch_size: int,
    progress: Callable[[int], None],
) -> list[str]:
    """Encode the pictures that a cache lacks.

    Several processes may fill at once: each begins at another picture and skips what is there
    meanwhile.

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
            for batch, encoded in zip(batches, _encoded(cache, batches), strict=True):
                errors |= {path: str(e) for path, e in encoded.items() if isinstance(e, Exception)}
                _keep(cache, encoded)
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


def _keep(cache: PatchTokenCache, encoded: Decoded) -> None:
    for picture, states in encoded.items():
        if isinstance(states, Tensor):
            cache.shards.add(digest_of(picture), states)
    if cache.shards.is_due:
        cache.shards.flush()


def _batches(pictures: Sequence[PictureFile], size: int) -> list[Sequence[PictureFile]]:
    """Return batches that begin at another picture in every process, so that several share work."""
    start = random.Random(os.getpid()).randrange(max(len(pictures), 1))
    rotated = [*pictures[start:], *pictures[:start]]
    return [rotated[i : i + size] for i in range(0, len(rotated), size)]


def _encoded(cache: PatchTokenCache, batches: Sequence[Sequence[PictureFile]]) -> Iterator[Decoded]:
    """Yield each batch encoded, without the pictures that another process has kept by now.

    An accelerator encodes while pictures are decoded ahead. Each core of a CPU has a batch of its
    own from file to output: together on one batch, all but one would wait while it is decoded.
    """
    source = ViewSource(cache.image_processor, cache.transform)

    def decode(picture: PictureFile) -> Decoded:
        return {} if digest_of(picture) in cache.shards else {picture: _load(source, picture)}

    def encode(batch: Sequence[PictureFile]) -> Decoded:
        return _encode(cache, _joined(map(decode, batch)))

    if cache.encoder.device.type == "cpu":
        yield from _on_each_core(encode, batches)
        return
    pictures = [picture for batch in batches for picture in batch]
    with ThreadPoolExecutor(min(MAX_DECODERS, os.cpu_count() or 1)) as pool:
        decoded = _ahead(pool, decode, pictures, 2 * len(batches[0]) if batches else 0)
        for batch in batches:
            yield _encode(cache, _joined(islice(decoded, len(batch))))


def _joined(parts: Iterable[Decoded]) -> Decoded:
    return {picture: each for part in parts for picture, each in part.items()}


def _on_each_core(
    encode: Callable[[Sequence[PictureFile]], Decoded], batches: Sequence[Sequence[PictureFile]]
) -> Iterator[Decoded]:
    cores = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from _ahead(pool, encode, batches, cores)
    finally:
        torch.set_num_threads(cores)


def _load(source: ViewSource, picture: PictureFile) -> Tensor | PanoVLMError:
    try:
        return source.load(picture)
    except PanoVLMError as error:
        return error


def _encode(cache: PatchTokenCache, decoded: Decoded) -> Decoded:
    views = {picture: v for picture, v in decoded.items() if isinstance(v, Tensor)}
    if not views:
        return decoded
    encoded = [*cache.encode(torch.stack([*views.values()]))]
    if encoded[0].dtype != torch.float16:  # those within float16 stay in it
        encoded = [cache.encode(each) for each in views.values()]
    return decoded | dict(zip(views, encoded, strict=True))


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Item], Decoded], items: Sequence[Item], depth: int
) -> Iterator[Decoded]:
    """Yield what is made of each item in turn, while the pool works on the next ones."""
    waiting: deque[Future[Decoded]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # after an interruption nothing is begun any more
        for future in waiting:
            future.cancel()
