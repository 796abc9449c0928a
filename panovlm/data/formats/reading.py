"""Reading a data file of any format, and detecting its format."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from panovlm.data.findings import Finding, FindingKind
from panovlm.data.formats.chats import read_lines, read_list
from panovlm.data.formats.content import Content, Entry
from panovlm.data.formats.hub import read_folder
from panovlm.data.formats.tables import is_row, read_csv, read_tsv
from panovlm.data.lines import json_lines, read_text
from panovlm.data.picture_folders import is_picture_folder, pictures_in
from panovlm.data.record_files import Located, located, no_records, scan_records
from panovlm.data.records import Needs, Record

ENDINGS = {".csv": "csv", ".tsv": "tsv", ".parquet": "datasets"}


def _read_chats(path: Path) -> Content:
    """Read a list or lines, whichever it is."""
    return read_list(path) if _is_list(path) else read_lines(path)


def _read_pictures(path: Path) -> Content:
    """Make a record without text of every picture in a folder."""
    names = [file.relative_to(path) for file in pictures_in(path)]
    images = [(str(name), Path(path.name, name)) for name in names]
    return Content([Entry({"image": str(image)}, place) for place, image in images])


READERS: dict[str, Callable[[Path], Content]] = {
    "records": read_lines,
    "llava": _read_chats,
    "sharegpt": _read_chats,
    "messages": _read_chats,
    "rows": _read_chats,
    "csv": read_csv,
    "tsv": read_tsv,
    "datasets": read_folder,
    "pictures": _read_pictures,
}


def detect_format(path: Path) -> str:
    """Return the format of a file or folder, by its name and its first object."""
    if path.is_dir():
        return "pictures" if is_picture_folder(path) else "datasets"
    if path.suffix.lower() in ENDINGS:
        return ENDINGS[path.suffix.lower()]
    is_list = _is_list(path)
    first = _first_of_list(path) if is_list else next(json_lines(path), None)
    first = first[1] if isinstance(first, tuple) else first
    if not isinstance(first, dict):
        return "llava" if is_list else "records"
    if "conversations" in first:
        return "sharegpt" if "images" in first else "llava"
    if is_row(first):
        return "rows"
    is_record = "image" in first or "messages" not in first or _is_text_record(first)
    return "records" if is_record and not is_list and "images" not in first else "messages"


def _is_text_record(first: dict[str, Any]) -> bool:
    """Return whether an object is a record without a picture, not a conversation in parts."""
    messages = first["messages"]
    return set(first) <= set(Record.model_fields) and all(
        isinstance(message, dict) and isinstance(message.get("content"), str)
        for message in (messages if isinstance(messages, list) else [None])
    )


def _is_list(path: Path) -> bool:
    """Return whether a file holds one JSON list, and not one object a line as `.jsonl` does."""
    if path.suffix.lower() == ".jsonl":
        return False
    try:
        with path.open("rb") as file:
            return file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    except (OSError, ValueError):
        return False


def _first_of_list(path: Path) -> Any:
    """Return the first item of a JSON list without parsing the others; None if there is none."""
    text = read_text(path)
    if isinstance(text, Finding):
        return None
    start = re.compile(r"\s*\[\s*").match(text)
    try:
        return json.JSONDecoder().raw_decode(text, start.end())[0] if start else None
    except (ValueError, RecursionError):
        return None


def scan(path: Path, needs: Needs, pictures: Path | None = None) -> Iterator[Located | Finding]:
    """Read a file or folder of any format as `scan_records` reads records."""
    kind = detect_format(path)
    if kind == "records":
        yield from scan_records(path, needs, pictures)
        return
    if not _is_trained_on(kind, path):
        found = f"found the format {kind}, expected records to train on"
        fix = "panovlm data convert makes them"
        yield Finding(FindingKind.FORMAT, found, fix, path)
    content = READERS[kind](path)
    yield from _remarks(content, path, kind)
    for entry in content.entries:
        if entry.picture is None:
            yield from located(entry.data, path, entry.place, needs, pictures)


def scan_trained(
    path: Path, needs: Needs, pictures: Path | None = None
) -> Iterator[Located | Finding]:
    """Read what a stage trains on: records, or a format that cannot be mistaken for them."""
    kind = detect_format(path)
    if kind == "pictures" and needs.text:
        found = f"{path}: found a folder of pictures, expected records with text"
        yield Finding(FindingKind.FILE, found, "name a file of records for stages with text")
    elif _is_trained_on(kind, path):
        yield from scan(path, needs, pictures)
    else:
        yield from scan_records(path, needs, pictures)


def _is_trained_on(kind: str, path: Path) -> bool:
    """Return whether training reads a format itself.

    Lines of JSON with `messages` are records: a misspelled field among them is an error.
    """
    return kind != "datasets" and not (kind == "messages" and path.suffix.lower() == ".jsonl")


def _remarks(content: Content, path: Path, kind: str) -> Iterator[Finding]:
    """Yield what could not be read, was left out, or is not there at all."""
    yield from content.findings
    for note in content.notes:
        yield Finding(FindingKind.FORMAT, f"found what reading it {note}", "", path)
    if content.lost:
        listed = ", ".join(f"{name!r} ({count})" for name, count in content.lost.items())
        yield Finding(FindingKind.FORMAT, f"found fields that are not read: {listed}", "", path)
    inside = sum(entry.picture is not None for entry in content.entries)
    if inside:
        found = f"found {inside} pictures inside the data set, expected files"
        yield Finding(
            FindingKind.PICTURE, found, "convert it to records first", path, field="image"
        )
    if not content.entries and not content.findings:
        expected = "pictures" if kind == "pictures" else "at least one"
        yield no_records(path, expected)
