"""The order of the sequences of a run: the same on any number of processes, in equal steps."""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from itertools import chain, count, islice

import numpy as np
from torch.utils.data import Sampler

from panovlm.data.datasets import PanoramaDataset, SequenceKey

STEPS_SORTED_TOGETHER = 32
"""More would need less padding and make steps alike; fewer would need more padding."""
EXAMPLES_PACKED_TOGETHER = 1024
"""More would hardly fill sequences better; fewer would leave more room in them."""


class SequenceSampler(Sampler[SequenceKey]):
    """Shuffles epoch after epoch, and puts texts of similar length into a step or a sequence.

    Without a budget an example is a sequence. Some steps' at a time are sorted by length, so that
    batches need little padding; which step comes when stays random. The last step of an epoch is
    completed with its first examples: were it short, its size and with it the loss would depend on
    how many processes and accumulated batches share a step. With a budget, examples are packed, and
    an epoch's last step goes on into the next one.

    Args:
        dataset: The examples.
        per_step: Sequences in one optimiser step of all processes.
        num_steps: Of the whole run.
        seed: Of the order.
        budget: Tokens of one sequence at most, for several examples; None takes one for each.
    """

    def __init__(
        self,
        dataset: PanoramaDataset,
        per_step: int,
        num_steps: int,
        seed: int,
        budget: int | None = None,
    ) -> None:
        self.dataset = dataset
        self.per_step = per_step
        self.num_steps = num_steps
        self.seed = seed
        self.budget = budget

    def __len__(self) -> int:
        return self.per_step * self.num_steps

    def __iter__(self) -> Iterator[SequenceKey]:
        return islice(chain.from_iterable(map(self.epoch, count())), len(self))

    def epoch(self, epoch: int) -> Iterator[SequenceKey]:
        """Yield the sequences of one epoch; only text is read."""
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(self.dataset.examples(epoch))
        if self.budget is not None:
            yield from self._packed(order, epoch, rng, self.budget)
            return
        order = np.resize(order, -(-len(order) // self.per_step) * self.per_step)
        for window in _windows(order, self.per_step * STEPS_SORTED_TOGETHER):
            lengths = [self.dataset.estimated_tokens(index, epoch) for index in window.tolist()]
            steps = window[np.argsort(lengths, kind="stable")].reshape(-1, self.per_step)
            for index in rng.permutation(steps).flatten().tolist():
                yield SequenceKey(epoch, (index,))

    def _packed(
        self, order: np.ndarray, epoch: int, rng: np.random.Generator, budget: int
    ) -> Iterator[SequenceKey]:
        """Yield steps of sequences that are about equally full; which step comes when is random."""
        left: list[int] = []  # what does not make a whole step is packed again with the next
        bins: list[list[int]] = []
        for window in _windows(order, EXAMPLES_PACKED_TOGETHER):
            indices = [*left, *window.tolist()]
            lengths = [self.dataset.num_tokens(index, epoch) for index in indices]
            bins = [[indices[i] for i in each] for each in fill_bins(lengths, budget)]
            num_steps = len(bins) // self.per_step
            for step in rng.permutation(num_steps).tolist():
                for each in bins[step * self.per_step : (step + 1) * self.per_step]:
                    yield SequenceKey(epoch, tuple(each))
            bins = bins[num_steps * self.per_step :]
            left = [index for each in bins for index in each]
        yield from (SequenceKey(epoch, tuple(each)) for each in bins)


def _windows(order: np.ndarray, size: int) -> list[np.ndarray]:
    """Split an order into parts of a size; an end of less than half of it joins the part before."""
    return np.split(order, range(size, len(order) - size // 2, size))


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
