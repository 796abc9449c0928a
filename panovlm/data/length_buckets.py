"""Batches of panoramas whose texts are about as long, so that little is filled up."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from panovlm.data.datasets import PanoramaDataset

BATCHES_SORTED_TOGETHER = 32
"""More would pad less and make batches of one kind; fewer would pad more."""


class LengthBuckets(Sampler[int]):
    """Shuffles panoramas, then brings those of about one length together, some batches at a time.

    Which batch comes when stays random, and the order depends on the dataset's (seed, epoch) alone.

    Args:
        dataset: Knows how long its examples are.
        batch_size: Examples whose lengths shall be alike: those of one step, on all processes.
    """

    def __init__(self, dataset: PanoramaDataset, batch_size: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        """Give every index once."""
        rng = np.random.default_rng((self.dataset.seed, self.dataset.epoch))
        shuffled = rng.permutation(len(self.dataset))
        together = self.batch_size * BATCHES_SORTED_TOGETHER
        for start in range(0, len(shuffled), together):
            yield from map(int, self._bucketed(shuffled[start : start + together], rng))

    def _bucketed(self, indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Sort indices by length and shuffle the batches; one that is not full comes last."""
        lengths = [self.dataset.text_bytes(int(index)) for index in indices]
        ordered = indices[np.argsort(lengths, kind="stable")]
        num_full = len(ordered) // self.batch_size * self.batch_size
        # what does not fill a batch is drawn from all lengths, not always the longest
        rest = np.sort(rng.permutation(len(ordered))[: len(ordered) - num_full])
        full = np.delete(ordered, rest).reshape(-1, self.batch_size)
        return np.concatenate([rng.permutation(full).reshape(-1), ordered[rest]])
