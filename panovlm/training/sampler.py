"""The order of the panoramas: the same on any number of processes, in steps of equal size.

The panoramas of a step have texts of similar length, so that batches need little padding.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler

from panovlm.data.budget import Bin, BudgetDataset

STEPS_SORTED_TOGETHER = 32
"""More would need less padding and make steps alike; fewer would need more padding."""


class EpochDataset(Protocol):
    """What the sampler needs of a dataset."""

    epoch: int

    def __len__(self) -> int:
        """Return the number of examples in an epoch."""

    def examples(self) -> np.ndarray:
        """Return the indices of this epoch's examples."""

    def text_bytes(self, index: int) -> int:
        """Return how long the text of an example is in this epoch."""


class WholeStepSampler(Sampler[int]):
    """Shuffles every epoch, puts texts of similar length in a step, and completes the last step.

    Some steps' panoramas at a time are sorted by length; which step comes when stays random.
    Were the last step short, its size and with it the loss would depend on how many processes and
    accumulated batches share a step.

    Args:
        dataset: With the epoch, its panoramas and the lengths of their texts.
        per_step: Panoramas in one optimiser step of all processes.
        seed: Of the order.
    """

    def __init__(self, dataset: EpochDataset, per_step: int, seed: int) -> None:
        self.dataset = dataset
        self.per_step = per_step
        self.seed = seed

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.per_step) * self.per_step

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.dataset.epoch))
        order = np.resize(rng.permutation(self.dataset.examples()), len(self))
        size = self.per_step * STEPS_SORTED_TOGETHER
        for start in range(0, len(order), size):
            group = order[start : start + size]
            lengths = [self.dataset.text_bytes(int(index)) for index in group]
            steps = group[np.argsort(lengths, kind="stable")].reshape(-1, self.per_step)
            yield from rng.permutation(steps).flatten().tolist()


class BudgetSampler(Sampler[Bin]):
    """The packed sequences of a whole run, epoch after epoch without a gap.

    Args:
        dataset: Packs examples into sequences.
        number: Sequences of the run, on all processes.
        seed: Of the order.
    """

    def __init__(self, dataset: BudgetDataset, number: int, seed: int) -> None:
        self.dataset = dataset
        self.number = number
        self.seed = seed

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[Bin]:
        return self.dataset.all_bins(self.number, self.seed)
