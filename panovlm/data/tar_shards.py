"""WebDataset shards, read by the standard library from front to back; nothing is unpacked.

Names are only used to group members, so paths that lead elsewhere do no harm; links and devices are
skipped; a member that claims to be huge is refused before it is read.
"""

import posixpath
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from panovlm.data.lines import NotJsonError, parse_json
from panovlm.data.samples import Sample
from panovlm.errors import PanoVLMError

PICTURES = ("jpg", "jpeg", "png", "webp")
MAX_BYTES = {"json": 16_000_000} | dict.fromkeys(PICTURES, 256_000_000)
"""The kinds of members that are read, and their size limits; larger ones make a sample invalid."""
BLOCK = 512

Member = tuple[str, str, bytes | None]
"""Key, kind and content of a member; no content where it is too large."""


def read_tar(shard: Path) -> Iterator[Sample]:
    """Yield the samples of a shard; consecutive members of one key are one sample.

    Raises:
        PanoVLMError: If the archive is damaged or cut short.
    """
    try:
        for key, members in groupby(_members(shard), key=lambda member: member[0]):
            yield _sample(f"{shard.name}/{key}", list(members))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise PanoVLMError(
            f"{shard}: found a damaged archive ({error}), expected a whole .tar, not compressed; "
            f"copy it anew or leave it out of `data`"
        ) from error


def _members(shard: Path) -> Iterator[Member]:
    with tarfile.open(shard, "r|") as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # else it remembers all of them
            # Not pathlib, which interns every name: Python's table of them would grow.
            folder, name = posixpath.split(posixpath.normpath(member.name))
            stem, _, kind = name.partition(".")
            kind = kind.lower()
            if not member.isreg() or member.issparse() or kind not in MAX_BYTES:
                continue
            key = posixpath.join(folder, stem)
            yield key, kind, _content(archive, member, MAX_BYTES[kind])
        offset = archive.offset
    _check_end(shard, offset)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, max_bytes: int) -> bytes | None:
    file = archive.extractfile(member)
    if file is None or member.size > max_bytes:
        return None
    data = file.read()
    if len(data) < member.size:
        raise tarfile.ReadError("found the end of the file within a member")
    return data


def _check_end(shard: Path, offset: int) -> None:
    """Raise an error at a damaged header: the library stops there as it does at the end."""
    with shard.open("rb") as file:
        file.seek(offset)
        header = file.read(BLOCK)
    if any(header) or 0 < len(header) < BLOCK or offset > shard.stat().st_size:
        raise tarfile.ReadError(f"a broken header at byte {offset}")


def _sample(place: str, members: list[Member]) -> Sample:
    held = {kind: content for _, kind, content in members}
    pictures = [kind for kind in held if kind in PICTURES]
    picture = held[pictures[0]] if len(pictures) == 1 else None
    too_large = [kind for kind, content in held.items() if content is None]
    if too_large or len(held) < len(members) or len(pictures) > 1:
        found = f"a .{too_large[0]} that is too large" if too_large else "two members of one kind"
        return Sample(place, (), None, f"found {found}, expected one picture and one .json")
    try:
        data = parse_json((held.get("json") or b"{}").decode("utf-8-sig"))
    except (NotJsonError, UnicodeDecodeError) as error:
        return Sample(place, (), None, f"found a .json that is not JSON ({error})")
    return Sample(place, tuple(data) if isinstance(data, list) else (data,), picture)
