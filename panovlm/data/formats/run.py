"""The conversion of a data file: written whole or not at all, with a report of lost fields."""

import filecmp
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from panovlm.data.file_names import find_file
from panovlm.data.findings import Finding
from panovlm.data.formats.chats import as_llava, as_messages, as_sharegpt, write_list, write_records
from panovlm.data.formats.content import Content, Item
from panovlm.data.formats.hub import write_folder
from panovlm.data.formats.reading import READERS, detect_format
from panovlm.data.formats.tables import write_csv, write_tsv
from panovlm.data.record_files import is_address, located, no_records, raise_findings
from panovlm.data.records import Needs
from panovlm.errors import PanoVLMError
from panovlm.runtime.files import (
    check_folder,
    check_output,
    is_marked_folder,
    mark_folder,
    whole_folder,
    write_own,
)

WRITERS: dict[str, Callable[[Path, list[Item]], object]] = {
    "records": write_records,
    "llava": partial(write_list, shape=as_llava),
    "sharegpt": partial(write_list, shape=as_sharegpt),
    "messages": partial(write_list, shape=as_messages),
    "csv": write_csv,
    "tsv": write_tsv,
    "datasets": write_folder,
}
ENDINGS = {".jsonl": "records", ".json": "llava", ".csv": "csv", ".tsv": "tsv", "": "datasets"}
"""The format written for each ending of the output's name."""
_BEGINNINGS = {
    ".jpg": (0, b"\xff\xd8\xff"),
    ".png": (0, b"\x89PNG"),
    ".webp": (8, b"WEBP"),
    ".avif": (4, b"ftypavif"),
    ".tif": (0, b"II*\0"),
    ".tiff": (0, b"MM\0*"),
}
"""Offset and bytes that identify a picture's format."""


@dataclass(frozen=True)
class Converted:
    """The result of a conversion.

    Attributes:
        num_records: Records written.
        source_format: The format read.
        out_format: The format written.
        lost: Fields that the new format cannot hold, and how often each held something.
        notes: Remarks for the user.
    """

    num_records: int
    source_format: str
    out_format: str
    lost: Counter[str]
    notes: tuple[str, ...]


def convert_data(
    source: Path,
    out: Path,
    *,
    source_format: str | None = None,
    out_format: str | None = None,
    pictures: Path | None = None,
    overwrite: bool = False,
) -> Converted:
    """Convert a data file to another format; pictures stay where they are and are not read.

    Paths of pictures are rewritten where `out` lies in another folder; pictures inside a data set
    are written into a folder beside `out`.

    Args:
        source: The file, or a folder of the library `datasets`.
        out: The file or folder to write.
        source_format: A key of `READERS`; None detects it.
        out_format: A key of `WRITERS`; None goes by the ending of `out`.
        pictures: The folder that paths in `source` are relative to; None for its own folder.
        overwrite: Whether `out` may be what an earlier conversion wrote.

    Raises:
        PanoVLMError: If anything in `source` is invalid, or the new format cannot hold a record;
            then nothing is written.
    """
    kind, made = _formats(source, out, source_format, out_format)
    inputs = [source, *([pictures] if pictures else [])]
    _check_target(out, inputs, overwrite=overwrite, makes_folder=made == "datasets")
    content = READERS[kind](source)
    folder = None if made == "datasets" else out.with_name(f"{out.stem}-pictures")
    items = _items(content, source, pictures or source.parent, out, folder)
    inside = {
        Path(item.image).name: item.picture
        for item in items
        if item.image is not None and item.picture is not None
    }
    if inside and folder:
        _check_target(folder, inputs, overwrite=overwrite, makes_folder=True)
        _write_folder(folder, lambda partial: _write_pictures(partial, inside))
    if made == "datasets":
        _write_folder(out, lambda partial: write_folder(partial, items))
    else:
        write_own(out, lambda partial: WRITERS[made](partial, items), is_converted)
    notes = (*content.notes, *_notes(items))
    return Converted(len(items), kind, made, content.lost, notes)


def _formats(source: Path, out: Path, kind: str | None, made: str | None) -> tuple[str, str]:
    made = made or ENDINGS.get(out.suffix.lower())
    if made is None:
        raise PanoVLMError(
            f"found the output {out}, expected a name that ends in {', '.join(list(ENDINGS)[:-1])} "
            "or in nothing for a folder; change it, or pass --to"
        )
    if not source.exists():
        raise PanoVLMError(f"{source}: found no such file or folder; check the path")
    kind = kind or detect_format(source)
    for option, name, known in (("--from", kind, [*READERS]), ("--to", made, [*WRITERS])):
        if name not in known:
            raise PanoVLMError(f"found {option} {name}, expected one of {', '.join(known)}")
    return kind, made


def _check_target(
    out: Path, inputs: Collection[Path], *, overwrite: bool, makes_folder: bool
) -> None:
    """Refuse an output that would cost anything, before the work begins."""
    if out.exists() and any(each.exists() and out.samefile(each) for each in inputs):
        raise PanoVLMError(f"{out}: found the input itself, expected another name; change OUT")
    if os.path.lexists(out) and not overwrite:
        raise PanoVLMError(
            f"{out}: found something there already; name another, or pass --overwrite to replace "
            "what a conversion wrote"
        )
    if not out.parent.is_dir():
        raise PanoVLMError(f"{out.parent}: found no such folder, expected one to write in; make it")
    if makes_folder:
        check_folder(out, is_marked_folder)
    else:
        check_output(out, is_converted)


def is_converted(path: Path) -> bool:
    """Return whether a file is as a conversion writes it: to the byte, read and written again."""
    kinds = dict.fromkeys((detect_format(path), "csv", "tsv"))  # a table may have any name
    return any(_is_of(kind, path) for kind in kinds if kind in WRITERS and kind != "datasets")


def _is_of(kind: str, path: Path) -> bool:
    try:
        items = _items(READERS[kind](path), path, path.parent, path, None)
        with tempfile.TemporaryDirectory() as folder:
            again = Path(folder, "again")
            WRITERS[kind](again, items)
            return filecmp.cmp(path, again, shallow=False)
    except PanoVLMError:
        return False


def _items(
    content: Content, source: Path, base: Path, out: Path, folder: Path | None
) -> list[Item]:
    """Check every entry as a record, but let URLs pass; name the pictures relative to `out`.

    Raises:
        PanoVLMError: Listing every error.
    """
    findings, items = list(content.findings), []
    names: dict[bytes, str] = {}
    for entry in content.entries:
        data = _without_url(entry.data)
        for each in located(data, source, entry.place, _needs_of(data)):
            if isinstance(each, Finding):
                findings.append(each)
                continue
            path: Path | None = None
            image: str | None = entry.data.get("image")
            if entry.picture is not None:
                name = f"{len(names):06d}{_ending(entry.picture)}"
                name = names.setdefault(entry.picture, name)
                image = f"{folder.name}/{name}" if folder else name
            elif image is not None and not is_address(image):
                path = find_file(base, image)
                image = _relative(image, path, base, out)
            items.append(Item(each.record, image, path, entry.picture))
    if not content.entries and not findings:
        findings.append(no_records(source, "at least one"))
    raise_findings(source, findings)
    return items


def _needs_of(data: Any) -> Needs:
    """Return what an entry must hold: a whole conversation if it has any, else a picture."""
    has_text = isinstance(data, dict) and bool(data.get("messages"))
    return Needs(text=has_text, image=not has_text)


def _without_url(data: Any) -> Any:
    """Replace a URL by a name, because a path would not keep it."""
    has_url = isinstance(data, dict) and is_address(data.get("image"))
    return data | {"image": "a URL"} if has_url else data


def _relative(image: str, path: Path, base: Path, out: Path) -> str:
    """Return the path of a picture in `base` relative to the folder of `out`; a full one stays."""
    if Path(image).is_absolute():
        return image if path == Path(image) else str(path)
    if base.resolve() == out.parent.resolve():
        return image if path == base / image else path.relative_to(base).as_posix()
    return Path(os.path.relpath(path, out.parent)).as_posix()


def _ending(picture: bytes) -> str:
    found = (e for e, (place, start) in _BEGINNINGS.items() if picture.startswith(start, place))
    return next(found, ".unknown")


def _write_pictures(folder: Path, inside: dict[str, bytes]) -> None:
    for name, picture in inside.items():
        (folder / name).write_bytes(picture)


def _write_folder(out: Path, write: Callable[[Path], object]) -> None:
    """Write a folder whole, or nothing, with the mark by which it may be replaced."""
    with whole_folder(out, is_marked_folder) as partial:
        write(partial)
        mark_folder(partial)


def _notes(items: list[Item]) -> list[str]:
    urls = sum(is_address(item.image) for item in items)
    texts = sum(item.image is None for item in items)
    questions = Counter((item.image, item.record.messages[:-1]) for item in items)
    several = sum(count > 1 for count in questions.values())
    notes = [f"{urls} pictures are URLs, which are never fetched"] if urls else []
    if texts:
        notes.append(f"{texts} records are texts without a picture")
    if several:
        notes.append(f"{several} questions have several answers: a record each, put together")
    return notes
