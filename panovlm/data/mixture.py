"""Mixtures: what an epoch has of several files of records, each with a weight and a cap."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from panovlm.data.records import Record
from panovlm.pictures.declaring import PictureFile

Item = TypeVar("Item")


@dataclass(frozen=True)
class MixturePart:
    """Records that share a weight.

    Attributes:
        records: Those of one file, or what is trained on of them.
        weight: How often each of their examples comes in an epoch: 2 is twice, 0.5 in every other.
    """

    records: Sequence[Record]
    weight: float = 1.0

    def without(self, pictures: Collection[PictureFile]) -> "MixturePart":
        """Return the part without the records of some pictures."""
        left_out = set(pictures)
        kept = [record for record in self.records if left_out.isdisjoint(record.pictures)]
        return replace(self, records=kept)


def capped(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """Sample at most `limit` items, the same for each seed; they keep their order."""
    if limit is None or len(items) <= limit:
        return list(items)
    chosen = np.random.default_rng((seed, limit)).choice(len(items), limit, replace=False)
    return [items[place] for place in sorted(chosen)]


class MixtureSchedule:
    """Which examples each epoch has; epochs are equally long.

    With a weight of 1 an example comes once in every epoch. Of a smaller one epochs take different
    examples, all equally often in the long run; of a larger one examples are repeated.

    Args:
        sizes: Number of examples of each part; parts follow one another.
        weights: Of the parts.
        seed: Of which examples come in which epoch.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], seed: int) -> None:
        pairs = zip(sizes, weights, strict=True)
        per_epoch = [max(round(size * weight), min(size, 1)) for size, weight in pairs]
        orders = [np.random.default_rng((seed, i)).permutation(n) for i, n in enumerate(sizes)]
        self.num_examples = sum(sizes)
        self.per_epoch = sum(per_epoch)
        self._ranks = np.concatenate(orders)
        self._sizes = np.repeat(sizes, sizes)
        self._steps = np.repeat(per_epoch, sizes)

    def examples(self, epoch: int) -> np.ndarray:
        """Return the examples of an epoch in the order of the parts.

        The k-th repetition of example i is i + k x the number of examples, from k = 0.
        """
        counts = self._seen(epoch + 1) - self._seen(epoch)
        repetitions = range(counts.max(initial=0))
        found = [np.flatnonzero(counts > k) + k * self.num_examples for k in repetitions]
        return np.concatenate(found or [np.empty(0, dtype=np.int64)])

    def _seen(self, epoch: int) -> np.ndarray:
        """Return how often each example comes before an epoch, in whole numbers, exactly."""
        return (self._steps * epoch + self._ranks) // self._sizes
