"""Several processes in one run, as `torchrun` or `accelerate launch` start them: each is a rank.

The first rank alone writes and prints. An error on one rank ends all of them, with one message and
without waiting for one another.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from panovlm.errors import PanoVLMError
from panovlm.runtime.progress import console

Item = TypeVar("Item")
Result = TypeVar("Result")

TIMEOUT = timedelta(hours=2)
"""How long ranks wait for one another, as while another one encodes its shard or writes."""
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
"""Messages of a collective on the ranks that wait for one that has ended."""


class RaisedElsewhereError(PanoVLMError):
    """The end of a rank where another one reports the error."""


def initialize() -> None:
    """Connect to the other ranks, if any; all but the first print nothing from now on."""
    PartialState(cpu=not torch.cuda.is_available(), timeout=TIMEOUT)
    console.quiet = not is_first()


def check_devices() -> None:
    """Check that this process sees one accelerator, or has ranks beside it for the others.

    Raises:
        PanoVLMError: If the library would train copies of the model side by side in one process,
            whose batches are larger and whose statistics are of parts.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count > 1 and world_size() == 1:
        raise PanoVLMError(
            f"found {count} GPUs and one process, expected a process for each; start `torchrun "
            f"--nproc-per-node {count} -m panovlm train RECIPE`, or show it one GPU: "
            f"CUDA_VISIBLE_DEVICES=0"
        )


def finalize() -> None:
    """Disconnect from the other ranks once all are done: one that loses them as it ends crashes."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def world_size() -> int:
    """Return the number of ranks, 1 without a launcher."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_world_size() -> int:
    """Return the number of ranks on this machine, as the launcher says; 1 without one."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def rank() -> int:
    """Return the rank of this process, 0 without a launcher."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Return whether this process is the one that writes and prints."""
    return rank() == 0


def shard(items: Sequence[Item]) -> Sequence[Item]:
    """Return this rank's part of a list that all ranks have."""
    return items[rank() :: world_size()]


def all_gather(item: Item) -> list[Item]:
    """Return the items of all ranks, by rank."""
    items: list[Item] = gather_object([item])
    return items


@contextmanager
def synchronized() -> Iterator[None]:
    """Run a block that fails on all ranks or on none; it must not communicate itself.

    Raises:
        Exception: What this rank raised, if it is the first that raised anything.
        RaisedElsewhereError: On the other ranks.
    """
    raised: Exception | None = None
    try:
        yield
    except Exception as error:  # whatever it is, the others must not wait for this rank
        raised = error
    failed = [index for index, has in enumerate(all_gather(raised is not None)) if has]
    if raised is not None and failed[0] == rank():
        raise raised
    if failed:
        raise RaisedElsewhereError(f"rank {failed[0]} failed")


def run_on_first(work: Callable[[], Result]) -> Result:
    """Run a function on the first rank alone, and return its result on all of them."""
    results: list[Result | None] = [None]
    with synchronized():
        if is_first():
            results = [work()]
    result: Result = broadcast_object_list(results)[0]
    return result


class PendingMax:
    """The elementwise largest values of all ranks, asked for now and read later.

    Reading in the next step waits for nothing that this one has not long done.
    """

    def __init__(self, own: Sequence[int], device: torch.device) -> None:
        self.is_shared = world_size() > 1
        self._values = torch.tensor(own, device=device if self.is_shared else "cpu")
        if self.is_shared:
            self._work = dist.all_reduce(self._values, dist.ReduceOp.MAX, async_op=True)

    @property
    def values(self) -> list[int]:
        """The values; all ranks must read them."""
        if self.is_shared:
            self._work.wait()
        values: list[int] = self._values.tolist()
        return values


def sum_across_ranks(values: torch.Tensor) -> torch.Tensor:
    """Return the elementwise sums of all ranks."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


@contextmanager
def quiet_after_others() -> Iterator[None]:
    """End quietly where a collective fails because another rank has ended with a message."""
    try:
        yield
    except RuntimeError as error:
        if world_size() > 1 and any(sign in str(error) for sign in LOST):
            raise RaisedElsewhereError(f"another rank ended: {error}") from error
        raise


def raise_on_all_ranks(message: str) -> PanoVLMError:
    """Return the exception for an error that every rank finds by itself; the first reports it."""
    return PanoVLMError(message) if is_first() else RaisedElsewhereError(message)


def batch_size_per_rank(batch_size: int) -> int:
    """Return how many panoramas of a batch each rank takes.

    Raises:
        PanoVLMError: If the ranks cannot share a batch evenly.
    """
    if batch_size % world_size():
        raise PanoVLMError(
            f"found batch_size = {batch_size}, expected a multiple of {world_size()}, the number "
            f"of processes that share it; change batch_size or the number of processes"
        )
    return batch_size // world_size()
