"""Several processes in one run, as `torchrun` or `accelerate launch` start them: each is a rank.

The first rank alone writes and speaks. What one rank finds wrong ends all of them, with one message
and without waiting for one another.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState

from panovlm.errors import PanoVLMError
from panovlm.runtime.progress import console

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE = timedelta(hours=2)
"""How long ranks wait for one another, as while another one encodes its share or writes."""
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
"""What a collective says on the ranks that wait for one that has ended."""


class RaisedElsewhereError(PanoVLMError):
    """The end of a rank where another one says why."""


def join() -> None:
    """Meet the other ranks, where there are any; all but the first are silent from now on."""
    PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    console.quiet = not is_first()


def number() -> int:
    """Give the number of ranks, 1 without a launcher."""
    return dist.get_world_size() if dist.is_initialized() else 1


def own() -> int:
    """Give the rank of this process, 0 without a launcher."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Say whether this process is the one that writes and speaks."""
    return own() == 0


def share(items: Sequence[Item]) -> Sequence[Item]:
    """Give this rank's part of work that all ranks know."""
    return items[own() :: number()]


def gathered(item: Item) -> list[Item]:
    """Give what every rank holds, in their order."""
    if number() == 1:
        return [item]
    items: list[Any] = [None] * number()
    dist.all_gather_object(items, item)
    return items


@contextmanager
def synchronized() -> Iterator[None]:
    """Do a part of the work that fails on all ranks or on none; ranks do not meet inside it.

    Raises:
        Exception: What this rank raised, if it is the first that raised anything.
        RaisedElsewhereError: On the other ranks.
    """
    raised: Exception | None = None
    try:
        yield
    except Exception as error:  # whatever it is, the others must not wait for this rank
        raised = error
    failed = [rank for rank, has in enumerate(gathered(raised is not None)) if has]
    if raised is not None and failed[0] == own():
        raise raised
    if failed:
        raise RaisedElsewhereError(f"rank {failed[0]} failed")


def from_first(work: Callable[[], Result]) -> Result:
    """Let the first rank do something that the others wait for, and give its result to all."""
    result: Result | None = None
    with synchronized():
        if is_first():
            result = work()
    given: list[Any] = [result]
    if number() > 1:
        dist.broadcast_object_list(given, src=0)
    return given[0]


def all_true_across_ranks(flag: torch.Tensor) -> bool:
    """Say whether a bool scalar is true on every rank."""
    if number() > 1:
        flag = flag.int()
        dist.all_reduce(flag, dist.ReduceOp.MIN)
    return bool(flag)


@contextmanager
def ends_with_the_others() -> Iterator[None]:
    """End quietly where a collective fails because another rank has ended and said why."""
    try:
        yield
    except RuntimeError as error:
        if number() > 1 and any(sign in str(error) for sign in LOST):
            raise RaisedElsewhereError(f"another rank ended: {error}") from error
        raise


def raise_on_all_ranks(message: str) -> PanoVLMError:
    """Return the exception for an error that every rank finds by itself; the first one says it."""
    return PanoVLMError(message) if is_first() else RaisedElsewhereError(message)


def part_of_batch(batch_size: int) -> int:
    """Give how many panoramas of a batch this rank takes.

    Raises:
        PanoVLMError: If the ranks cannot share a batch evenly.
    """
    if batch_size % number():
        raise PanoVLMError(
            f"found batch_size = {batch_size}, expected a multiple of {number()}, the number of "
            f"processes that share it; change batch_size or the number of processes"
        )
    return batch_size // number()
