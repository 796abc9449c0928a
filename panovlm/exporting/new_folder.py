"""Folders that are whole or not there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from panovlm.errors import PanoVLMError
from panovlm.runtime.files import whole_folder


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a folder to fill beside `out`, which takes its place once it is whole.

    Raises:
        PanoVLMError: If there is something at `out`.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise PanoVLMError(f"found something in {out}, expected a new folder; choose another name")
    with whole_folder(out) as partial:
        yield partial
