"""Parallel work in processes."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
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
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=begin)
    try:
        yield pool.map
    except BrokenExecutor as error:
        raise PanoVLMError(
            f"found a process that ended early, perhaps for want of memory: {error}; pass a number "
            f"below {workers} as --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
