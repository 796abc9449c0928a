"""Streams of any size: shards of panoramas with their conversations, read from front to back.

`train-{000..099}.tar`   WebDataset: `key.jpg`, `.png` or `.webp` beside `key.json`
`train-*.parquet`        rows with `messages` and a column `image` (the extra `datasets`)
a folder                 from `save_to_disk`, or of Parquet files (the extra `datasets`)
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from glob import glob
from itertools import islice
from pathlib import Path

from panovlm.data.hub_shards import read_rows, rows_in
from panovlm.data.picture_folders import is_picture_folder
from panovlm.data.samples import Sample
from panovlm.data.tar_shards import read_tar
from panovlm.errors import PanoVLMError

MAX_SHARDS = 1_000_000
"""A range of more is a typing error."""
_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Stream:
    """Shards in the order of their names, and a function that yields the samples of one."""

    shards: tuple[Path, ...]
    read: Callable[[Path], Iterator[Sample]]

    def head(self, count: int) -> Iterator[Sample]:
        """Yield the first samples in the order of the shards."""
        return islice((sample for shard in self.shards for sample in self.read(shard)), count)

    def digest(self) -> str:
        """Return a digest of the shards' names and sizes; the content is not read."""
        facts = [(shard.name, shard.stat().st_size) for shard in self.shards]
        return hashlib.sha256(repr(facts).encode()).hexdigest()


def is_stream(data: Path) -> bool:
    """Return whether `data` of a recipe (a file, folder or pattern) names shards.

    Other data are files of records and folders of pictures.
    """
    if data.suffix in (".tar", ".parquet"):
        return True
    return data.is_dir() and not is_picture_folder(data)


def open_stream(data: Path) -> Stream:
    """Find the shards that a recipe's `data` names.

    Args:
        data: A file, a folder, or a pattern with `{000..099}`, `{a,b}`, `*`, `?` or `[ab]`.

    Raises:
        PanoVLMError: If a shard is missing, or the library `datasets` is and is needed.
    """
    shards = rows_in(data) if data.is_dir() else _expanded(str(data))
    missing = [shard for shard in shards if not shard.is_file()]
    if missing or not shards:
        which = f"no shard {missing[0]} ({len(missing)} missing)" if missing else "no shard at all"
        raise PanoVLMError(
            f"{data}: found {which}, expected every shard that the pattern names; correct `data` "
            f"or restore the files"
        )
    return Stream(tuple(shards), read_tar if data.suffix == ".tar" else read_rows)


def _expanded(pattern: str) -> list[Path]:
    """Return the files of a pattern: braces list files that must exist, `*` finds existing ones."""
    names = [pattern]
    while names and (found := _BRACES.search(names[0])):
        choices = _choices(*found.groups())
        if len(names) * len(choices) > MAX_SHARDS:
            raise PanoVLMError(f"{pattern}: found more than {MAX_SHARDS:,} shards; shorten `data`")
        names = [name.replace(found[0], choice, 1) for name in names for choice in choices]
    wild = [sorted(glob(name)) if _WILD.search(name) else [name] for name in names]
    return [Path(name) for group in wild for name in group]


def _choices(first: str | None, last: str | None, listed: str | None) -> list[str]:
    if first is None or last is None:
        return (listed or "").split(",")
    width = len(first) if first.startswith("0") else 0
    numbers = range(int(first), min(int(last), int(first) + MAX_SHARDS) + 1)
    return [str(number).zfill(width) for number in numbers]
