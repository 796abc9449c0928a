"""Files under the names that data sets call them by, which came from other systems.

Windows writes backslashes and takes no notice of case, macOS may write é as e and an accent (NFD).
A name that leads to a file is left as it is; only for others is a file of nearly that name looked
for, and only a single one is taken.
"""

import os
import unicodedata
from functools import lru_cache
from pathlib import Path, PureWindowsPath


def find_file(folder: Path, name: str | Path) -> Path:
    """Return the file that a name in a data set means; the path as named if there is none.

    Args:
        folder: What a relative name starts from.
        name: Path as it stands in the data.
    """
    named = folder / name
    if _exists(named):
        return named
    return _found(str(folder), str(name)) or named


@lru_cache(maxsize=100_000)
def _found(folder: str, name: str) -> Path | None:
    """Look for each part of a name in the folder before it."""
    parts = PureWindowsPath(name).parts if "\\" in name else Path(name).parts
    here = Path(folder)
    for part in parts:
        below = here / part
        if not _exists(below):
            alike = _listed(str(here)).get(_folded(part), [])
            if len(alike) != 1:
                return None
            below = here / alike[0]
        here = below
    return here


@lru_cache(maxsize=1_000)
def _listed(folder: str) -> dict[str, list[str]]:
    """Return the names in a folder by what they have in common with others' spelling."""
    names: dict[str, list[str]] = {}
    try:
        for name in os.listdir(folder):
            names.setdefault(_folded(name), []).append(name)
    except (OSError, ValueError):
        return {}
    return names


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no disk takes
        return False
