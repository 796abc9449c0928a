"""Parallel work in processes."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Protocol, TypeVar

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
    """
    if workers <= 1:
        yield map
        return
    # Forking a process that runs threads, as torch and OpenCV do, can hang; spawning cannot.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=begin)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)
