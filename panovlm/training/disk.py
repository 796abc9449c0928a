"""Failures of the disk as errors with a fix, and a lock against a second writer."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from panovlm.errors import PanoVLMError

PYTORCH_WRITER = "inline_container"
"""In the message of `torch.save` where the disk fails: it raises no `OSError`."""


@contextmanager
def disk_errors(what: str, incomplete: Path | None = None) -> Iterator[None]:
    """Raise a failure of the disk as an error with the fix.

    Args:
        what: What is being done, to follow "cannot".
        incomplete: A folder that is removed after any failure; another try may need the room.

    Raises:
        PanoVLMError: Where writing failed.
    """
    try:
        yield
    except BaseException as error:
        if incomplete is not None:
            shutil.rmtree(incomplete, ignore_errors=True)
        if not isinstance(error, OSError | SafetensorError) and PYTORCH_WRITER not in str(error):
            raise
        raise PanoVLMError(
            f"cannot {what}: {error}; make room there, then continue with --resume: "
            f"what was saved before is whole"
        ) from error


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the lock goes with the process, however it ends.

    Raises:
        PanoVLMError: If another process trains there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PanoVLMError(
                f"another process trains in {folder}; wait until it ends, stop it, or set another "
                f"output in the recipe"
            ) from None
        yield
