"""The size of the cache of the frozen encoder's outputs, and which shards are removed first.

A shard's modification time says when a run last used it: `mark_used` sets it.
"""

import json
import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from panovlm.data.token_shards import ENDING, SHARD_BYTES, count_pictures
from panovlm.errors import PanoVLMError

FACTS = "facts.json"
"""Names the encoder and the views of a folder's files."""
PART = ".part"
ENDINGS = (ENDING, ".npy")  # the latter were written by earlier versions, a file a picture
LIMIT_VARIABLE = "PANOVLM_CACHE_LIMIT_GB"
GB = 1e9


class NoRoomError(PanoVLMError):
    """The outputs of a run do not fit; nothing was encoded."""


@dataclass(frozen=True)
class CacheFolder:
    """Content of one folder of the cache."""

    path: Path
    encoder: str
    views: str  # in words
    num_pictures: int
    num_bytes: int
    used: float  # the last time, in seconds since 1970


@dataclass(frozen=True)
class Removed:
    """Files removed from the cache."""

    num_pictures: int
    num_bytes: int


def cache_limit() -> int | None:
    """Return the bytes the cache may hold, from the environment; None where it is not set.

    Raises:
        PanoVLMError: If the variable holds no number above 0.
    """
    text = os.environ.get(LIMIT_VARIABLE)
    if not text:
        return None
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not 0 < limit < float("inf"):
        raise PanoVLMError(
            f"found {LIMIT_VARIABLE}={text!r}, expected a number of gigabytes above 0, as in 50"
        )
    return int(limit * GB)


def folders_of(root: Path) -> list[CacheFolder]:
    """Describe each folder of the cache that holds something, the one used last first."""
    found = [_described(folder) for folder in {file.parent for file in _files(root)}]
    return sorted(found, key=lambda folder: folder.used, reverse=True)


def mark_used(files: Iterable[Path]) -> None:
    """Note that a run uses shards: they are removed last."""
    for file in files:
        with suppress(OSError):  # removed meanwhile, or of another user
            os.utime(file)


def make_room(root: Path, needed: int, keep: Collection[Path], limit: int | None) -> None:
    """Remove the shards used longest ago until those of a run fit.

    Args:
        root: Folder of all caches.
        needed: Bytes about to be written.
        keep: Shards that this run reads.
        limit: Bytes all caches may hold together; None for the free space of the disk.

    Raises:
        NoRoomError: If the run's own files do not fit.
    """
    own = _total(_statuses(keep))
    if limit is not None:
        if own + needed > limit:
            raise NoRoomError(
                f"the frozen encoder's outputs for this run take {gigabytes(own + needed)}, "
                f"{LIMIT_VARIABLE} allows {gigabytes(limit)}; raise it, set cache: off, or train "
                f"on fewer pictures or views"
            )
        remove_oldest(root, limit - needed, keep)
    free = _free(root)
    if needed > free:
        raise NoRoomError(
            f"the frozen encoder's outputs for this run take {gigabytes(needed)} more, {root} has "
            f"{gigabytes(free)} free; make room (`panovlm cache --prune`), set PANOVLM_CACHE to a "
            f"folder on another disk, or set cache: off"
        )


@dataclass(frozen=True)
class StreamRoom:
    """Room for the outputs of an endless stream, within a limit for all caches.

    A process that makes room leaves a tenth of the limit free, and then writes at most its share of
    that tenth. So all processes together never pass the limit.

    Attributes:
        root: Folder of all caches.
        limit: Bytes all caches may hold together.
        sharers: Processes that write at the same time.
    """

    root: Path
    limit: int
    sharers: int

    @classmethod
    def of(cls, root: Path, limit: int | None, sharers: int) -> "StreamRoom":
        """Return the room of a run; without a limit it is half of what the disk has for caches."""
        if limit is None:
            limit = (num_bytes(root) + _free(root)) // 2
        return cls(root, limit, sharers)

    @property
    def share(self) -> int:
        """Bytes of the largest shard that a process may write after `make`."""
        return min(self.limit // 10 // self.sharers, SHARD_BYTES)

    def make(self) -> None:
        """Remove the shards used longest ago."""
        remove_oldest(self.root, self.limit - self.limit // 10)


def remove_oldest(root: Path, limit: int, keep: Collection[Path] = ()) -> Removed:
    """Remove the shards used longest ago until the rest takes at most `limit` bytes."""
    found, kept = _statuses(_files(root)), set(keep)
    excess = _total(found) - limit
    chosen = []
    for file in sorted(found.keys() - kept, key=lambda file: (found[file].st_mtime, file)):
        if excess <= 0:
            break
        chosen.append(file)
        excess -= found[file].st_size
    return _remove(chosen)


def remove_unused(root: Path, days: float) -> Removed:
    """Remove the shards that no run has used for so many days."""
    before = time.time() - days * 86_400
    found = _statuses(_files(root))
    return _remove([file for file, status in found.items() if status.st_mtime < before])


def gigabytes(count: float) -> str:
    """Return a number of bytes in words."""
    return f"{count / GB:.2f} GB" if count >= GB / 10 else f"{count / 1e6:.1f} MB"


def num_bytes(root: Path) -> int:
    """Return the size of all caches together."""
    return _total(_statuses(_files(root)))


def _files(root: Path) -> Iterator[Path]:
    """Yield the shards of folders that a run described; in others nothing is ours to remove."""
    for facts in root.glob(f"*/{FACTS}"):
        yield from (file for file in facts.parent.iterdir() if file.suffix in ENDINGS)


def _described(folder: Path) -> CacheFolder:
    try:
        facts = json.loads((folder / FACTS).read_text())
    except (OSError, ValueError):
        facts = {}
    below = facts.get("trained_layers_left_out")
    found = _statuses(file for file in _files(folder.parent) if file.parent == folder)
    return CacheFolder(
        folder,
        facts.get("encoder", "unknown") + (f", below its last {below} layers" if below else ""),
        facts.get("views", "unknown"),
        count_pictures(found),
        _total(found),
        max((status.st_mtime for status in found.values()), default=0.0),
    )


def _remove(files: Collection[Path]) -> Removed:
    """Remove shards; their folders stay, for another process may be about to write there."""
    found = _statuses(files)
    count = count_pictures(found)
    for file in found:
        file.unlink(missing_ok=True)
    return Removed(count, _total(found))


def _statuses(files: Iterable[Path]) -> dict[Path, os.stat_result]:
    """Return the status of files, without those that another process has removed meanwhile."""
    found: dict[Path, os.stat_result] = {}
    for file in files:
        with suppress(FileNotFoundError):
            found[file] = file.stat()
    return found


def _total(found: dict[Path, os.stat_result]) -> int:
    return sum(status.st_size for status in found.values())


def _free(root: Path) -> int:
    """Return the free space of the disk for a folder that may not exist yet."""
    return shutil.disk_usage(next(each for each in (root, *root.parents) if each.exists())).free
