"""Writing files and folders whole or not at all, and making sure that they are on the disk."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside `path` that takes its place once it is whole, or goes away.

    Args:
        path: Where the file shall stand.
        write: Writes it to the path it is given.
    """
    partial = _partial(path)
    try:
        write(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` that takes its place once all is written, or goes away.

    Args:
        out: Where the folder shall stand; nothing is there, or an empty folder.
    """
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
    """Name what is still being written; no other process has the name, on no machine of a disk."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")


def sweep_parts(path: Path) -> None:
    """Remove what killed processes left of `write_whole`; none that lives may be writing there."""
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
