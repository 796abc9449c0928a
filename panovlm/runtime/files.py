"""Atomic writing of files and folders, and syncing them to the disk."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from panovlm.errors import PanoVLMError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` write a file atomically: beside `path`, and renamed to it once it is whole."""
    partial = _partial(path)
    try:
        write(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Write a folder atomically: yield one beside `out`, and rename it to `out` in the end.

    Raises:
        PanoVLMError: If there is something at `out`, other than an empty folder.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise PanoVLMError(f"found something in {out}, expected a new folder; choose another name")
    out = out.resolve()
    partial = _partial(out)
    partial.mkdir(parents=True)
    try:
        yield partial
        if out.exists():
            out.rmdir()  # empty; not every system replaces it
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _partial(path: Path) -> Path:
    """Return a name for a file in writing that no other process has, on no machine of a disk."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")


def remove_parts(path: Path) -> None:
    """Remove what killed processes left of `write_whole`; no process may be writing there now."""
    for partial in path.parent.glob(f".{path.name}.*.part"):
        partial.unlink(missing_ok=True)


def sync_tree(folder: Path) -> None:
    """Wait until a folder and all in it are on the disk, so that a power cut finds them whole."""
    for path in (*folder.rglob("*"), folder):
        sync(path)


def sync(path: Path) -> None:
    """Wait until a file, or the list of a folder's names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
