"""How the C library keeps the memory that a process has freed."""

import ctypes
import gc
import sys
from typing import Any

MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD = -3, -1, -2
"""Parameters of `mallopt`, from glibc's malloc.h."""
SETTINGS = {MMAP_THRESHOLD: 2**30, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**26}
"""In bytes: blocks up to the first come from the heap, which gives back only more than the second
and grows by the third."""


def keep_freed_memory() -> bool:
    """Let the next step reuse what the last one freed, where the C library is glibc.

    Otherwise each activation of more than 32 MB goes back to the system when it is freed, and the
    next one comes as fresh pages, which the system fills with zeros one by one. Peaks are the same,
    but between them a process holds on to what it once needed.

    Returns:
        Whether it took effect.
    """
    mallopt = _function("mallopt")
    return mallopt is not None and all([mallopt(*setting) for setting in SETTINGS.items()])


def release_freed_memory() -> None:
    """Return to the system what a part of a run has used, before the next one needs memory.

    That one's largest blocks would not fit between what it has put into the space left before: of
    two stages of training, which hold 12 GB each, the second held 15.
    """
    gc.collect()  # a trainer and its model hold each other
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> Any:
    """Return a function of the C library; None where it is not glibc."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
