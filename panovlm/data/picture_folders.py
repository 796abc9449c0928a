"""Folders of pictures without records: what a stage without text trains on."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from panovlm.runtime.cached_folders import sha256

PICTURE_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".avif", ".heic", ".hdr"}
)
"""Other files of a folder, as texts beside the pictures, are passed over."""
_OF_DATASETS = (
    "state.json",
    "dataset_info.json",
    "dataset_dict.json",
    "metadata.jsonl",
    "metadata.csv",
)
"""What the library `datasets` writes into its folders, or reads there."""


def is_picture_folder(path: Path) -> bool:
    """Return whether a path is a folder that holds no data set of the library `datasets`."""
    if not path.is_dir() or any((path / name).is_file() for name in _OF_DATASETS):
        return False
    return not any(file.suffix in (".arrow", ".parquet") for file in _files(path))


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures in a folder and the folders in it, by name; hidden files are left out."""
    return sorted(file for file in _files(folder) if file.suffix.lower() in PICTURE_ENDINGS)


def data_digest(data: Path) -> str:
    """Return a digest of a file's content, or of the pictures in a folder.

    Of these the names, sizes and times count, so that none is read.
    """
    return _folder_digest(data) if data.is_dir() else sha256(data)


def _folder_digest(folder: Path) -> str:
    status = [(file, file.stat()) for file in pictures_in(folder)]
    facts = [(str(f.relative_to(folder)), s.st_size, s.st_mtime_ns) for f, s in status]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith("."))
