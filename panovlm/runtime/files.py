"""Atomic writing of files and folders that costs no one what they had, and syncing to the disk.

What stands where an output goes is replaced only if PanoVLM wrote it: each output has a marker, or
a form of its own, by which `is_own` knows it.
"""

import json
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from panovlm.errors import PanoVLMError

IsOwn = Callable[[Path], bool]
"""Whether PanoVLM wrote what stands at a path."""
CONTENTS = ".panovlm.json"
"""Marks a folder that PanoVLM wrote: the files in it, and the bytes of each."""
MARK_BYTES = 65_536
"""Bytes at the head of a text in which its mark stands."""


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` write a file atomically: beside `path`, and renamed to it once it is whole.

    Whatever file is at `path` is replaced: `write_own` asks first.
    """
    partial = _partial(path)
    try:
        write(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_own(path: Path, write: Callable[[Path], object], is_own: IsOwn) -> None:
    """Write a file as `write_whole` does, if nothing is lost by it.

    Raises:
        PanoVLMError: As `check_output` does.
    """
    check_output(path, is_own)
    write_whole(path, write)


def check_output(path: Path, is_own: IsOwn, inputs: Collection[Path] = ()) -> None:
    """Refuse a file to write where something stands that PanoVLM did not write.

    Args:
        path: The file. An empty one counts as none: there is nothing to lose.
        is_own: Whether a file is one that may be replaced.
        inputs: Files and folders that are read and must stay.

    Raises:
        PanoVLMError: If `path` is an input, a folder, a link or someone else's file.
    """
    if any(path.exists() and each.exists() and path.samefile(each) for each in inputs):
        raise PanoVLMError(f"{path}: found the input itself, expected another name; change it")
    if found := _in_the_way(path, is_own):
        raise PanoVLMError(
            f"{path}: found {found} there already, expected a new name or what this command wrote "
            "before; name another, or move it away"
        )


def _in_the_way(path: Path, is_own: IsOwn) -> str | None:
    """Return what stands at the path of an output and must stay; None if nothing does."""
    if path.is_symlink():
        return "a link"
    if path.is_dir():
        return "a folder"
    if path.exists() and not path.is_file():
        return "something that is no file"
    is_free = not path.exists() or path.stat().st_size == 0 or is_own(path)
    return None if is_free else "a file that PanoVLM did not write"


@contextmanager
def whole_folder(out: Path, is_own: IsOwn | None = None) -> Iterator[Path]:
    """Write a folder atomically: yield one beside `out`, and rename it to `out` in the end.

    Args:
        out: The folder; a link to an empty one stays a link.
        is_own: Whether a folder may be replaced; None replaces none but an empty one.

    Raises:
        PanoVLMError: If there is something at `out` that may not be replaced.
    """
    check_folder(out, is_own)
    out = out.resolve()
    partial, old = _partial(out), _partial(out)
    partial.mkdir(parents=True)
    try:
        yield partial
        check_folder(out, is_own)  # once more: the writing may have taken hours
        if out.exists():
            os.replace(out, old)
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not out.exists():
            os.replace(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def check_folder(out: Path, is_own: IsOwn | None = None) -> None:
    """Refuse a folder to write where something stands that PanoVLM did not write.

    Raises:
        PanoVLMError: If `out` is there, neither empty nor a folder that may be replaced.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if is_own is None or out.is_symlink() or not out.is_dir() or not is_own(out):
        raise PanoVLMError(
            f"found something in {out}, expected a new folder"
            f"{' or one that this command wrote' if is_own else ''}; choose another name"
        )


def mark_folder(folder: Path) -> None:
    """List the files of a folder in it, as a proof for `is_marked_folder`."""
    text = json.dumps({"files": _sizes(folder)}, indent=1) + "\n"
    (folder / CONTENTS).write_text(text, encoding="utf-8")


def is_marked_folder(folder: Path) -> bool:
    """Return whether `mark_folder` marked a folder and nothing was added or changed since."""
    try:
        listed = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))["files"]
        return _sizes(folder).items() <= listed.items()
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def _sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of each file in a folder, and of each link, by its path."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    sizes = {path.relative_to(folder).as_posix(): path.lstat().st_size for path in sorted(paths)}
    sizes.pop(CONTENTS, None)
    return sizes


def has_mark(path: Path, mark: str) -> bool:
    """Return whether a mark stands in the head of a text."""
    with path.open("rb") as file:
        return mark.encode() in file.read(MARK_BYTES)


def has_keys(path: Path, keys: Collection[str]) -> bool:
    """Return whether a file is a JSON object that has some keys, among others perhaps."""
    try:
        held = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(held, dict) and held.keys() >= set(keys)


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
