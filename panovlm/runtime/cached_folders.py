"""Folders in the user's cache that are built once, atomically."""

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from panovlm.errors import PanoVLMError

MANIFEST = "manifest.json"  # written last: where it is, the folder is whole

Facts = Mapping[str, str | int | float]


def cache_folder() -> Path:
    """Return the folder of backbones and of the frozen encoders' outputs.

    Returns:
        `$PANOVLM_CACHE`, else `$XDG_CACHE_HOME/panovlm`, else `~/.cache/panovlm`. It may not exist.
    """
    if chosen := os.environ.get("PANOVLM_CACHE"):
        return Path(chosen).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "panovlm"


def token_cache_folder() -> Path:
    """Return the folder of the outputs of all frozen encoders."""
    return cache_folder() / "patch-tokens"


def build_once(name: str, facts: Facts, build: Callable[[Path], object]) -> Path:
    """Return a folder of the cache, built if it is missing, not whole or of other facts.

    Args:
        name: Name of the folder.
        facts: What it was built from; other facts build it again.
        build: Fills an empty folder, which is then moved to its place in one step.

    Raises:
        PanoVLMError: If the disk fails.
    """
    folder = cache_folder() / name
    try:
        if not _is_whole(folder, facts):
            with _one_builder(folder):
                if not _is_whole(folder, facts):  # another process may have built it meanwhile
                    _build(folder, facts, build)
    except (OSError, SafetensorError) as error:
        raise PanoVLMError(
            f"cannot keep {name} under {cache_folder()}: {error}. It needs a writable folder with "
            "1 GB free: make room, or set PANOVLM_CACHE to another folder"
        ) from error
    return folder


def built_from(folder: Path) -> Facts:
    """Return the facts that `build_once` built a folder from."""
    facts: Facts = json.loads((folder / MANIFEST).read_text())["facts"]
    return facts


@contextmanager
def _one_builder(folder: Path) -> Iterator[None]:
    """Let one process build a folder while others, as the ranks of a run, wait for it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(folder: Path, facts: Facts, build: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        built = Path(scratch, "built")
        built.mkdir()
        build(built)
        _write_manifest(built, facts)
        if folder.exists():
            _check_own(folder)
            folder.replace(Path(scratch, "replaced"))
        built.replace(folder)


def _check_own(folder: Path) -> None:
    """Refuse to build where a folder stands that `build_once` did not write."""
    if any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise PanoVLMError(
            f"{folder}: found a folder without {MANIFEST}, expected one that PanoVLM built or "
            "none; move it away, or set PANOVLM_CACHE to another folder"
        )


def _write_manifest(folder: Path, facts: Facts) -> None:
    """Write the list of a folder's files and what they were built from."""
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = {"facts": dict(facts), "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def _is_whole(folder: Path, facts: Facts) -> bool:
    """Return whether a folder holds all files, by size, and was built from these facts."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return manifest["facts"] == dict(facts) and all(
            (folder / name).stat().st_size == file["bytes"]
            for name, file in manifest["files"].items()
        )
    except (FileNotFoundError, NotADirectoryError, LookupError, TypeError, ValueError):
        return False


def digests_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that lies in a folder itself, by name."""
    return {file.name: sha256(file) for file in sorted(folder.iterdir()) if file.is_file()}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
