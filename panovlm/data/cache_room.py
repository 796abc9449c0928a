"""How much the cache of the frozen encoder's outputs holds, and what goes when it is too much.

A file's time of change says when a run last used it: `mark_used` sets it.
"""

import json
import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from panovlm.errors import PanoVLMError

FACTS = "facts.json"
"""Says in a folder which encoder and which views its files are of."""
PART = ".part"
LIMIT_VARIABLE = "PANOVLM_CACHE_LIMIT_GB"
GB = 1e9


@dataclass(frozen=True)
class CacheFolder:
    """What one folder of the cache holds.

    Attributes:
        path: The folder.
        encoder: Name of the encoder.
        views: The views in words.
        num_pictures: Files, one a picture.
        num_bytes: Their size.
        used: When a run last used one, in seconds since 1970.
    """

    path: Path
    encoder: str
    views: str
    num_pictures: int
    num_bytes: int
    used: float


@dataclass(frozen=True)
class Removed:
    """What was removed from the cache."""

    num_pictures: int
    num_bytes: int


def cache_limit() -> int | None:
    """Give the bytes the cache may hold, by the environment; None where nothing is said.

    Raises:
        PanoVLMError: If the variable holds no number above 0.
    """
    said = os.environ.get(LIMIT_VARIABLE)
    if not said:
        return None
    try:
        limit = float(said)
    except ValueError:
        limit = 0.0
    if not 0 < limit < float("inf"):
        raise PanoVLMError(
            f"found {LIMIT_VARIABLE}={said!r}, expected a number of gigabytes above 0, as in 50"
        )
    return int(limit * GB)


def folders_of(root: Path) -> list[CacheFolder]:
    """Describe each folder of the cache that holds something, the one used last first."""
    found = [_described(folder) for folder in {file.parent for file in _files(root)}]
    return sorted(found, key=lambda folder: folder.used, reverse=True)


def mark_used(files: Iterable[Path]) -> None:
    """Note that a run uses files: they become the last to go."""
    for file in files:
        try:
            os.utime(file)
        except OSError:  # gone meanwhile, or of another user: then it is not ours to keep
            continue


def make_room(root: Path, needed: int, keep: Collection[Path], limit: int | None) -> None:
    """Make sure that files of a run will fit, removing what was used longest ago.

    Args:
        root: Folder of all caches.
        needed: Bytes about to be written.
        keep: Files of this run, those there already and those about to be written.
        limit: Bytes all caches may hold together; None for what the disk has.

    Raises:
        PanoVLMError: If the run's own files do not fit.
    """
    own = sum(status.st_size for status in _statuses(keep).values())
    if limit is not None:
        if own + needed > limit:
            raise PanoVLMError(
                f"the frozen encoder's outputs for this run take {gigabytes(own + needed)}, "
                f"{LIMIT_VARIABLE} allows {gigabytes(limit)}; raise it, or train on fewer pictures "
                f"or views"
            )
        remove_oldest(root, limit - needed, keep)
    free = shutil.disk_usage(_existing(root)).free
    if needed > free:
        raise PanoVLMError(
            f"the frozen encoder's outputs for this run take {gigabytes(needed)} more, {root} has "
            f"{gigabytes(free)} free; make room (`panovlm cache --prune`), or set PANOVLM_CACHE to "
            f"a folder on another disk"
        )


@dataclass
class StreamRoom:
    """Lets a stream keep what it meets, without end and within a limit for all caches.

    Whoever looks leaves a tenth of the limit free, and may then write its share of that tenth
    before it looks again. So all processes together never pass the limit, and looks are few.

    Attributes:
        root: Folder of all caches.
        limit: Bytes all caches may hold together.
        sharers: Processes that keep at once.
    """

    root: Path
    limit: int
    sharers: int
    _left: int = 0

    @classmethod
    def of(cls, root: Path, limit: int | None, sharers: int) -> "StreamRoom":
        """Give the room of a run; without a limit half of what the disk has for caches."""
        if limit is None:
            limit = (num_bytes(root) + shutil.disk_usage(_existing(root)).free) // 2
        return cls(root, limit, sharers)

    def take(self, size: int) -> bool:
        """Make room for a file, removing what was used longest ago; False where it never fits."""
        share = self.limit // 10 // self.sharers
        if size > share:
            return False
        if size > self._left:
            remove_oldest(self.root, self.limit - self.limit // 10)
            self._left = share
        self._left -= size
        return True


def remove_oldest(root: Path, limit: int, keep: Collection[Path] = ()) -> Removed:
    """Remove the files used longest ago until the rest takes at most `limit` bytes."""
    kept = set(keep)
    sizes = _statuses(_files(root))
    excess = sum(status.st_size for status in sizes.values()) - limit
    chosen = []
    for file in sorted(sizes, key=lambda file: sizes[file].st_mtime):
        if excess <= 0:
            break
        if file not in kept:
            chosen.append(file)
            excess -= sizes[file].st_size
    return _remove(chosen)


def remove_unused(root: Path, days: float) -> Removed:
    """Remove the files that no run has used for so many days."""
    before = time.time() - days * 86_400
    found = _statuses(_files(root))
    return _remove([file for file, status in found.items() if status.st_mtime < before])


def gigabytes(count: float) -> str:
    """Word a number of bytes."""
    return f"{count / GB:.2f} GB" if count >= GB / 10 else f"{count / 1e6:.1f} MB"


def _files(root: Path) -> Iterator[Path]:
    return root.glob("*/*.npy")


def _described(folder: Path) -> CacheFolder:
    try:
        facts = json.loads((folder / FACTS).read_text())
    except (OSError, ValueError):
        facts = {}
    below = facts.get("trained_layers_left_out")
    states = _statuses(folder.glob("*.npy")).values()
    return CacheFolder(
        folder,
        facts.get("encoder", "unknown") + (f", below its last {below} layers" if below else ""),
        facts.get("views", "unknown"),
        len(states),
        sum(status.st_size for status in states),
        max((status.st_mtime for status in states), default=0.0),
    )


def _remove(files: Collection[Path]) -> Removed:
    """Remove files; their folders stay, for another process may be about to write there."""
    sizes = _statuses(files)
    for file in sizes:
        file.unlink(missing_ok=True)
    return Removed(len(sizes), sum(status.st_size for status in sizes.values()))


def num_bytes(root: Path) -> int:
    """Give what all caches hold together."""
    return sum(status.st_size for status in _statuses(_files(root)).values())


def _statuses(files: Iterable[Path]) -> dict[Path, os.stat_result]:
    """Look at files, leaving out those that another process has removed meanwhile."""
    found: dict[Path, os.stat_result] = {}
    for file in files:
        with suppress(FileNotFoundError):
            found[file] = file.stat()
    return found


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
