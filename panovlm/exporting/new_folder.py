"""Folders that are whole or not there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from panovlm.model.errors import PanoVLMError


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a folder to fill beside `out`, which takes its place once it is whole.

    Raises:
        PanoVLMError: If there is something at `out`.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise PanoVLMError(f"found something in {out}, expected a new folder; choose another name")
    partial = out.with_name(f".{out.name}.{os.getpid()}.part")
    partial.mkdir(parents=True)
    try:
        yield partial
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
