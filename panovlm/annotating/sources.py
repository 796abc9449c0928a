"""Which pictures there are to annotate, and which place each of them shows."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panovlm.annotating.picture import Picture
from panovlm.data.findings import Finding
from panovlm.data.lines import declaration_in, json_lines
from panovlm.data.record_files import is_address
from panovlm.errors import PanoVLMError
from panovlm.pictures.conversion.jobs import ENDINGS
from panovlm.pictures.declaring import Declaration, declare


@dataclass(frozen=True)
class Found:
    """A picture that was found.

    Attributes:
        path: Its file.
        group: The place it shows, where that is known.
        declared: What it is, where that is said.
    """

    path: Path
    group: str | None
    declared: Declaration | None


def find_pictures(given: Path, out: Path, declared: Declaration | None = None) -> list[Picture]:
    """Find the pictures to annotate, each once.

    Args:
        given: A folder, searched at any depth in alphabetical order (names that begin with a dot
            are left out, links to folders are not followed); a picture; or JSON Lines with `image`
            (from the file's folder) and, where they are known, `group` and `declared`.
        out: The file of annotations, from whose folder their paths are.
        declared: What the pictures are of which no line declares anything.

    Returns:
        The pictures. The group of one found in a folder is its own folder below that one, if it
        is not that one itself.

    Raises:
        PanoVLMError: If there is none, or a line names none.
    """
    if not given.exists():
        raise PanoVLMError(
            f"{given}: found no such file or folder, expected a folder of panoramas, a picture or "
            "JSON Lines that name pictures; check the path"
        )
    if given.is_dir():
        found = [Found(path, _group(path, given), declared) for path in _walk(given)]
    elif given.suffix.lower() in ENDINGS:
        found = [Found(given, None, declared)]
    else:
        found = [*_listed(given, declared)]
    if not found:
        raise PanoVLMError(
            f"{given}: found no pictures, expected files that end in {', '.join(sorted(ENDINGS))}, "
            "or lines with `image`; name another folder"
        )
    start = os.path.abspath(out.parent)
    named = {os.path.relpath(each.path.absolute(), start): each for each in found}
    return [
        Picture(declare(each.path, each.declared), name, each.group) for name, each in named.items()
    ]


def _walk(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in ENDINGS and not name.startswith("."):
                yield Path(here, name)


def _group(path: Path, given: Path) -> str | None:
    """Return the folder of a picture below the one given; None where it lies in that itself."""
    below = path.parent.relative_to(given).as_posix()
    return None if below == "." else below


def _listed(file: Path, declared: Declaration | None) -> Iterator[Found]:
    """Yield the pictures that lines name."""
    for line in json_lines(file):
        if isinstance(line, Finding):
            raise PanoVLMError(str(line))
        number, content = line
        yield _picture_of(content, file, number, declared)


def _picture_of(content: Any, file: Path, number: int, declared: Declaration | None) -> Found:
    image = content.get("image") if isinstance(content, dict) else None
    group = content.get("group") if isinstance(content, dict) else None
    if not isinstance(image, str) or not image or is_address(image):
        raise PanoVLMError(
            f"{file} line {number}: found no path under 'image', expected that of a picture from "
            "the file's folder; change the line"
        )
    if group is not None and not isinstance(group, str):
        raise PanoVLMError(
            f"{file} line {number}: found {group!r} under 'group', expected a text that names the "
            "place; change the line"
        )
    try:
        own = declaration_in(content)
    except PanoVLMError as error:
        raise PanoVLMError(f"{file} line {number}: {error}") from error
    return Found(file.parent / image, group, declared if own is None else own)
