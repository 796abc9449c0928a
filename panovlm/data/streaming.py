"""Training on streams: an endless order of examples that depends on seed, ranks and workers alone.

One pass gives every example once. The shards of a pass come in a random order and are shared among
all readers (the data loader's processes of all ranks); of those left over each reader takes every
n-th example. A buffer of bounded size mixes what a reader reads. Passes follow one another without
a gap, so that every step is whole.
"""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any, TypedDict

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from panovlm.data.datasets import TOO_LONG_FIX, RecordSampler
from panovlm.data.packing import PackedSequence, collate
from panovlm.data.records import Needs, Record
from panovlm.data.samples import Sample, records_of
from panovlm.data.shards import Stream
from panovlm.data.stream_features import StreamEncoder, ViewFeatures
from panovlm.errors import PanoVLMError

logger = logging.getLogger(__name__)

BUFFER_EXAMPLES, BUFFER_BYTES = 1000, 256_000_000
"""The most that one reader's buffer holds: whichever is reached first."""
MOST_INVALID = 64
"""Invalid examples in a row that end a run: then the whole stream is wrong."""


class StreamExample(TypedDict):
    """One sequence of a batch; both are None where a resumed run passes over it."""

    features: ViewFeatures | None
    conversations: PackedSequence | None
    skipped: int


PASSED_OVER: StreamExample = {"features": None, "conversations": None, "skipped": 0}


@dataclass(frozen=True)
class SampledExample:
    """A sample, and what its draws depend on: seed, pass, shard and its number there."""

    sample: Sample
    key: tuple[int, int, int, int]


class StreamDataset(IterableDataset[StreamExample]):
    """Examples without end.

    An invalid example gives its place to the next good one, and the batch counts it as skipped.

    Args:
        stream: The shards.
        encoder: Prepares the pictures.
        sampler: Draw conversations and turns.
        longest: Tokens the language model reads at most; longer conversations are invalid.
        seed: Of order and draws.
        batch_size: Examples in one batch of this rank.
        rank: Number of this rank and how many there are.
    """

    def __init__(
        self,
        stream: Stream,
        encoder: StreamEncoder,
        sampler: RecordSampler,
        *,
        longest: int,
        seed: int,
        batch_size: int,
        rank: tuple[int, int] = (0, 1),
    ) -> None:
        self.stream = stream
        self.encoder = encoder
        self.sampler = sampler
        self.longest = longest
        self.seed = seed
        self.batch_size = batch_size
        self.rank = rank
        self.batches_done = 0

    def __iter__(self) -> Iterator[StreamExample]:
        worker = get_worker_info()
        own, number = (worker.id, worker.num_workers) if worker else (0, 1)
        reader = (self.rank[0] * number + own, self.rank[1] * number)
        # The data loader takes batch after batch from one worker after another.
        passed = len(range(own, self.batches_done, number)) * self.batch_size
        samples = (sampled for epoch in count() for sampled in self.one_pass(epoch, reader))
        for _ in islice(samples, passed):
            yield PASSED_OVER
        ahead: deque[SampledExample] = deque()
        while True:
            yield self._first_good(ahead, samples)
            ahead.popleft()

    def one_pass(self, epoch: int, reader: tuple[int, int] = (0, 1)) -> Iterator[SampledExample]:
        """Give a reader's part of one pass in its order.

        Args:
            epoch: Number of the pass.
            reader: Its number, and how many there are.

        Raises:
            PanoVLMError: If nothing is left for it.
        """
        own, number = reader
        rng = np.random.default_rng((self.seed, epoch, own, 2))
        is_empty = True
        for sampled in shuffled(self._own_samples(epoch, own, number), rng):
            is_empty = False
            yield sampled
        if is_empty:
            raise PanoVLMError(
                f"found no example for reader {own + 1} of {number} (processes times workers), "
                f"expected at least one for each; add data, or lower workers"
            )

    def _own_samples(self, epoch: int, own: int, number: int) -> Iterator[SampledExample]:
        shards = self.stream.shards
        order = np.random.default_rng((self.seed, epoch)).permutation(len(shards))
        whole = len(order) - len(order) % number
        for shard in order[own:whole:number]:
            yield from self._of_shard(int(shard), epoch)
        rest = (sampled for shard in order[whole:] for sampled in self._of_shard(int(shard), epoch))
        yield from islice(rest, own, None, number)

    def _of_shard(self, shard: int, epoch: int) -> Iterator[SampledExample]:
        for place, sample in enumerate(self.stream.read(self.stream.shards[shard])):
            yield SampledExample(sample, (self.seed, epoch, shard, place))

    def _first_good(
        self, ahead: deque[SampledExample], samples: Iterator[SampledExample]
    ) -> StreamExample:
        """Give the next example, or the first good one after it, which keeps its own turn too."""
        skipped = 0
        for place in range(MOST_INVALID):
            if place == len(ahead):
                ahead.append(next(samples))
            try:
                return {**self.example(ahead[place]), "skipped": skipped}
            except PanoVLMError as error:
                last = error
                if place == 0:
                    skipped = 1
                    logger.warning("skipped an invalid example: %s", error)
        raise PanoVLMError(f"found {MOST_INVALID} invalid examples in a row; the last: {last}")

    def example(self, sampled: SampledExample) -> StreamExample:
        """Make an example.

        Raises:
            PanoVLMError: If it is invalid.
        """
        records = records_of(sampled.sample, Needs.of(self.sampler.tokenizer.supervision))
        self._check_lengths(records, sampled.sample.place)
        if sampled.sample.picture is None:
            packed = self.sampler.packed(records, sampled.key)
            return {"features": None, "conversations": packed, "skipped": 0}
        features = self.encoder.prepare(sampled.sample.picture, sampled.sample.place)
        num_views = len(features.states)
        num_strides = self.sampler.num_strides(records, sampled.key, num_views)
        packed = self.sampler.packed(records, sampled.key, num_strides, num_views)
        return {
            "features": replace(features, num_strides=num_strides),
            "conversations": packed,
            "skipped": 0,
        }

    def _check_lengths(self, records: Sequence[Record], place: str) -> None:
        if not Needs.of(self.sampler.tokenizer.supervision).text:
            return
        excess = max(self.sampler.tokenizer.excess(record, self.longest) for record in records)
        if excess > 0:
            raise PanoVLMError(
                f"{place}: {excess} tokens too many for {self.longest}; {TOO_LONG_FIX}"
            )


def shuffled(
    samples: Iterable[SampledExample], rng: np.random.Generator
) -> Iterator[SampledExample]:
    """Mix samples through a buffer of bounded size."""
    held: list[SampledExample] = []
    size = 0
    for sampled in samples:
        held.append(sampled)
        size += sampled.sample.num_bytes
        while len(held) > BUFFER_EXAMPLES or size > BUFFER_BYTES:
            size -= (given := _take(held, rng)).sample.num_bytes
            yield given
    while held:
        yield _take(held, rng)


def _take(held: list[SampledExample], rng: np.random.Generator) -> SampledExample:
    place = int(rng.integers(len(held)))
    held[place], held[-1] = held[-1], held[place]
    return held.pop()


class StreamCollator:
    """Puts the examples of a batch together; the training process finishes their pictures.

    Args:
        pad_id: Token id to fill short sequences with.
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, examples: Sequence[StreamExample]) -> dict[str, Any]:
        """Give `features` and `skipped`, and, with text, what `packing.collate` gives."""
        features = [e["features"] for e in examples if e["features"] is not None]
        packed = [e["conversations"] for e in examples if e["conversations"] is not None]
        batch = {"features": features, "skipped": sum(e["skipped"] for e in examples)}
        return batch | (collate(packed, self.pad_id) if packed else {})
