"""Which pictures there are to annotate, and which place each of them shows."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from panovlm.annotating.picture import Picture
from panovlm.data.findings import Finding
from panovlm.data.lines import json_lines
from panovlm.data.records import is_address
from panovlm.errors import PanoVLMError
from panovlm.pictures.conversion.jobs import ENDINGS


def find_pictures(given: Path, out: Path) -> list[Picture]:
    """Find the pictures to annotate, each once.

    Args:
        given: A folder, searched at any depth in alphabetical order (names that begin with a dot
            are left out, links to folders are not followed); a picture; or JSON Lines with `image`
            (from the file's folder) and, where it is known, `group`.
        out: The file of annotations, from whose folder their paths are.

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
        pairs = [(path, _group(path, given)) for path in _walk(given)]
    elif given.suffix.lower() in ENDINGS:
        pairs = [(given, None)]
    else:
        pairs = [*_listed(given)]
    if not pairs:
        raise PanoVLMError(
            f"{given}: found no pictures, expected files that end in {', '.join(sorted(ENDINGS))}, "
            "or lines with `image`; name another folder"
        )
    start = os.path.abspath(out.parent)
    named = {os.path.relpath(path.absolute(), start): (path, group) for path, group in pairs}
    return [Picture(path, name, group) for name, (path, group) in named.items()]


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


def _listed(file: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield the pictures that lines name, and their groups."""
    for line in json_lines(file):
        if isinstance(line, Finding):
            raise PanoVLMError(str(line))
        number, content = line
        yield _picture_of(content, file, number)


def _picture_of(content: Any, file: Path, number: int) -> tuple[Path, str | None]:
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
    return file.parent / image, group
