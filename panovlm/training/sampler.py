"""The order of the panoramas: the same on any number of processes, in steps of one size.

Those of one step have texts of about one length, so that little is filled up.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler

STEPS_SORTED_TOGETHER = 32
"""More would fill up less and make steps of one kind; fewer would fill up more."""


class Epochs(Protocol):
    """What the order needs of a dataset."""

    epoch: int

    def __len__(self) -> int: ...

    def text_bytes(self, index: int) -> int:
        """Say how long the text of an example is in this epoch."""


class WholeSteps(Sampler[int]):
    """Shuffles every epoch, brings texts of one length together, and completes the last step.

    Some steps' panoramas at a time are sorted by length; which step comes when stays random.
    Were the last step short, its size and with it the loss would depend on how many processes and
    accumulated batches share a step.

    Args:
        dataset: Gives the epoch, the number of panoramas and how long their texts are.
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
        order = np.resize(rng.permutation(len(self.dataset)), len(self))
        together = self.per_step * STEPS_SORTED_TOGETHER
        for start in range(0, len(order), together):
            some = order[start : start + together]
            lengths = [self.dataset.text_bytes(int(index)) for index in some]
            steps = some[np.argsort(lengths, kind="stable")].reshape(-1, self.per_step)
            yield from rng.permutation(steps).flatten().tolist()
