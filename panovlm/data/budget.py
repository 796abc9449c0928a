"""Packing of different examples into sequences of about equally many tokens."""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
from torch.utils.data import Dataset

from panovlm.data.datasets import Example, PanoramaDataset
from panovlm.data.packing import join

EXAMPLES_PACKED_TOGETHER = 1024
"""More would hardly fill sequences better; fewer would leave more room in them."""


@dataclass(frozen=True)
class Bin:
    """Examples of one sequence: their indices in an epoch."""

    epoch: int
    indices: tuple[int, ...]


def fill_bins(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Put items into bins: the longest first, each into the fullest bin that has room for it.

    Args:
        lengths: Of the items.
        budget: Most that a bin holds; a longer item gets a bin of its own.

    Returns:
        The places of the items in each bin.
    """
    bins: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # what each bin has left, and its number; sorted
    for item in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        place = bisect_left(rooms, (lengths[item], -1))
        if place == len(rooms):
            bins.append([item])
            insort(rooms, (max(budget - lengths[item], 0), len(bins) - 1))
            continue
        room, number = rooms.pop(place)
        bins[number].append(item)
        insort(rooms, (room - lengths[item], number))
    return bins


class BudgetDataset(Dataset[Example]):
    """Sequences of several examples each, of a dataset of panoramas.

    Args:
        examples: The dataset.
        budget: Tokens of one sequence, at most; a longer example is a sequence of its own.
    """

    def __init__(self, examples: PanoramaDataset, budget: int) -> None:
        self.examples = examples
        self.budget = budget

    def __getitem__(self, index: Bin) -> Example:
        found = [self.examples.example(place, index.epoch) for place in index.indices]
        texts = [each["conversations"] for each in found if each["conversations"] is not None]
        views = [view for each in found for view in each["views"]]
        return {"views": views, "conversations": join(texts)}

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: a sequence names its own epoch."""

    def bins(self, epoch: int, seed: int) -> Iterator[Bin]:
        """Yield the sequences of an epoch in random order; only text is read."""
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(self.examples.schedule.examples(epoch)).tolist()
        for start in range(0, len(order), EXAMPLES_PACKED_TOGETHER):
            window = order[start : start + EXAMPLES_PACKED_TOGETHER]
            packed = fill_bins([self._length(index, epoch) for index in window], self.budget)
            for number in rng.permutation(len(packed)):
                yield Bin(epoch, tuple(window[place] for place in packed[number]))

    def all_bins(self, number: int, seed: int) -> Iterator[Bin]:
        """Yield so many sequences, epoch after epoch without a gap."""
        return islice((each for epoch in count() for each in self.bins(epoch, seed)), number)

    def _length(self, index: int, epoch: int) -> int:
        packed = self.examples.conversations(index, epoch)
        return len(packed.ids) if packed else 0
