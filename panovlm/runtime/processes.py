"""Work in processes, each on one input after another."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Map(Protocol):
    """Whatever applies a function to items in order, as the built-in `map` does."""

    def __call__(
        self, function: Callable[[Item], Result], items: Iterable[Item], /
    ) -> Iterator[Result]:
        """Give the function's result for each item."""


@contextmanager
def mapping(workers: int, begin: Callable[[], None]) -> Iterator[Map]:
    """Give a `map` that works in so many processes; what is not begun is dropped on an error.

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
