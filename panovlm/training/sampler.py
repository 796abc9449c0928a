"""The order of the panoramas: the same on any number of processes, in steps of one size."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler


class Epochs(Protocol):
    """What the order needs of a dataset."""

    epoch: int

    def __len__(self) -> int: ...


class WholeSteps(Sampler[int]):
    """Shuffles every epoch, and completes its last step from its beginning.

    Were the last step short, its size and with it the loss would depend on how many processes and
    accumulated batches share a step.

    Args:
        dataset: Gives the length and the epoch.
        per_step: Panoramas in one optimiser step of all processes.
        seed: Of the order.
    """

    def __init__(self, dataset: Epochs, per_step: int, seed: int) -> None:
        self.dataset = dataset
        self.per_step = per_step
        self.seed = seed

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.per_step) * self.per_step

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.dataset.epoch))
        order = rng.permutation(len(self.dataset))
        yield from np.resize(order, len(self)).tolist()
