"""Parallel work in processes."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Protocol, TypeVar

from panovlm.errors import PanoVLMError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Map(Protocol):
    """A function that applies another one to items in order, as the built-in `map` does."""

    def __call__(
        self, function: Callable[[Item], Result], items: Iterable[Item], /
    ) -> Iterator[Result]:
        """Return the function's result for each item."""


@contextmanager
def mapping(workers: int, begin: Callable[[], None]) -> Iterator[Map]:
    """Yield a `map` that works in processes; after an error, waiting items are dropped.

    Args:
        workers: Number of processes; 1 or fewer work in this one.
        begin: Called first in each new process.

    Raises:
        PanoVLMError: If a process ends by itself.
    """
    if workers <= 1:
        yield map
        return
    # Forking a process that runs threads, as torch and OpenCV do, can hang; spawning cannot.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=partial(_begin, begin))
    try:
        yield pool.map
    except BrokenExecutor as error:
        raise PanoVLMError(
            f"found a process that ended early, perhaps for want of memory: {error}; pass a number "
            f"below {workers} as --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(begin: Callable[[], None]) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    begin()


def _end_with_parent() -> None:
    """End this process when the first one is gone: killed, it cannot tell the others to stop."""
    if parent := parent_process():
        parent.join()
        os._exit(1)
