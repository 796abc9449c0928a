"""Shards of features: files with those of many pictures each, mapped into memory.

A shard is a safetensors file whose tensors bear the digests of their pictures. It is written once,
whole, under a name that no other has, and never changes: any number of processes read and write in
one folder. What is in two shards is the same in both.
"""

import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from panovlm.runtime.files import write_whole

ENDING = ".safetensors"
SHARD_BYTES = 256_000_000
"""A larger shard costs more memory while it is filled; a smaller one makes more files."""
SHARD_SECONDS = 60.0
"""The most work that a kill costs."""
ENTRY_BYTES = 256
"""The most that a picture's entry in a shard's header takes."""


class TokenShards:
    """The shards of a folder, as far as this process has seen them.

    Args:
        folder: Where they are; it may not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened: dict[Path, Any] = {}
        self._places: dict[str, Path] = {}
        self._pending: dict[str, Tensor] = {}
        self._seen = -1
        self._filled_since = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        """Be opened anew in another process."""
        return TokenShards, (self.folder,)

    def __contains__(self, digest: str) -> bool:
        return digest in self._pending or self.place_of(digest) is not None

    def place_of(self, digest: str) -> Path | None:
        """Return the shard with a picture's features, of those that other processes add as well."""
        if digest not in self._places:
            self._look_for_changes()
        return self._places.get(digest)

    def read(self, digest: str) -> Tensor | None:
        """Return a picture's features; None where they are not kept."""
        place = self.place_of(digest)
        if place is None:
            return self._pending.get(digest)
        mapped: Tensor = self._opened[place].get_tensor(digest)
        return mapped.clone()  # else another process would be sent the whole shard with it

    def add(self, digest: str, states: Tensor) -> None:
        """Keep a picture's features for the next shard."""
        self._filled_since = self._filled_since if self._pending else time.monotonic()
        self._pending[digest] = states.contiguous()

    @property
    def pending_bytes(self) -> int:
        """Bytes of what waits for a shard."""
        return sum(states.nbytes + ENTRY_BYTES for states in self._pending.values())

    @property
    def is_due(self) -> bool:
        """Whether what waits is to be written: it fills a shard, or has waited long."""
        waited = time.monotonic() - self._filled_since
        return self.pending_bytes >= SHARD_BYTES or (bool(self._pending) and waited > SHARD_SECONDS)

    def flush(self) -> None:
        """Write what waits as one shard, whole or not at all.

        Raises:
            OSError, SafetensorError: If the disk fails; what waited is dropped.
        """
        pending, self._pending = self._pending, {}
        if pending:
            file = self.folder / f"{secrets.token_hex(8)}{ENDING}"
            write_whole(file, lambda partial: save_file(pending, partial))
            self._open(file)

    def refresh(self) -> None:
        """Find the shards that other processes have written or removed."""
        found = set(self.folder.glob(f"*{ENDING}"))
        for file in found - self._opened.keys():
            self._open(file)
        for file in self._opened.keys() - found:
            self._opened.pop(file)
        self._places = {d: file for d, file in self._places.items() if file in self._opened}

    def _look_for_changes(self) -> None:
        with suppress(FileNotFoundError):
            changed = self.folder.stat().st_mtime_ns
            if changed != self._seen:
                self.refresh()
            # Within the clock's precision, a shard may come after the look and not show.
            self._seen = changed if time.time_ns() - changed > 1e9 else -1

    def _open(self, file: Path) -> None:
        # Removed since, or cut short by a power cut: its pictures count as missing.
        with suppress(OSError, SafetensorError):
            self._opened[file] = safe_open(file, framework="pt")
            self._places |= dict.fromkeys(self._opened[file].keys(), file)


def count_pictures(files: Iterable[Path]) -> int:
    """Return how many pictures' features shards hold; one that cannot be read holds none."""
    count = 0
    for file in files:
        with suppress(OSError, SafetensorError), safe_open(file, framework="pt") as shard:
            count += len(shard.keys())
    return count
