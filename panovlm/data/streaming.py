"""Training on streams: an endless order of examples that depends on seed, ranks and workers alone.

One pass contains every example once. The shards of a pass come in a random order and are shared
among all readers (the data loader's processes of all ranks); of the shards left over each reader
takes every n-th example. A buffer of bounded size shuffles what a reader reads. Passes follow one
another without a gap, so that every step is whole. Of several streams, each example is of one that
is chosen at random, by their weights.
"""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from itertools import chain, count, islice
from typing import Any, TypedDict

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from panovlm.data.augmentation import ColourJitter
from panovlm.data.conversations import RecordSampler
from panovlm.data.datasets import TOO_LONG_FIX
from panovlm.data.packing import PackedSequence, collate
from panovlm.data.records import Needs
from panovlm.data.samples import Sample, records_of
from panovlm.data.shards import Stream
from panovlm.data.stream_features import StreamEncoder, ViewFeatures
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import Declaration

logger = logging.getLogger(__name__)

BUFFER_EXAMPLES, BUFFER_BYTES = 1000, 256_000_000
"""The most that one reader's buffer holds: whichever is reached first."""
MOST_INVALID = 64
"""So many invalid examples in a row end a run: the whole stream must be wrong."""


class StreamExample(TypedDict):
    """One sequence of a batch; a resumed run passes over those that are None throughout."""

    features: ViewFeatures | None
    conversations: PackedSequence | None
    skipped: int


PASSED_OVER: StreamExample = {"features": None, "conversations": None, "skipped": 0}


@dataclass(frozen=True)
class StreamPart:
    """One of the streams of a mixture.

    Attributes:
        stream: The shards.
        weight: Its share of the examples beside the others' weights, more than 0.
        declared: What its pictures are, of records that do not declare it.
    """

    stream: Stream
    weight: float = 1.0
    declared: Declaration | None = None


@dataclass(frozen=True)
class SampledExample:
    """A sample with the key of its random choices: seed, pass, shard and its number there."""

    sample: Sample
    key: tuple[int, int, int, int]
    declared: Declaration | None = None


@dataclass(eq=False, repr=False)
class StreamDataset(IterableDataset[StreamExample]):
    """Examples without end.

    An invalid example is replaced by the next valid one, and the batch counts it as skipped.

    Attributes:
        parts: The streams.
        encoder: Prepares the pictures.
        sampler: Chooses conversations and yaw rotations.
        seed: Of the order and all random choices.
        batch_size: Examples in one batch of this rank.
        rank: Number of this rank and how many there are.
        jitter: Changes the colours of views, where nothing is cached.
        batches_done: Batches of a resumed run, which are passed over.
    """

    parts: Sequence[StreamPart]
    encoder: StreamEncoder
    sampler: RecordSampler
    _: KW_ONLY
    seed: int
    batch_size: int
    rank: tuple[int, int] = (0, 1)
    jitter: ColourJitter | None = None
    batches_done: int = 0

    def __iter__(self) -> Iterator[StreamExample]:
        worker = get_worker_info()
        own, number = (worker.id, worker.num_workers) if worker else (0, 1)
        reader = (self.rank[0] * number + own, self.rank[1] * number)
        # The data loader takes batch after batch from one worker after another.
        passed = len(range(own, self.batches_done, number)) * self.batch_size
        samples = self._mixed(reader)
        for _ in islice(samples, passed):
            yield PASSED_OVER
        ahead: deque[SampledExample] = deque()
        while True:
            yield self._first_valid(ahead, samples)
            ahead.popleft()

    def _mixed(self, reader: tuple[int, int]) -> Iterator[SampledExample]:
        """Yield a reader's samples, of each stream its share, pass after pass."""
        passes = [self._passes(reader, number) for number in range(len(self.parts))]
        weights = np.array([part.weight for part in self.parts])
        rng = np.random.default_rng((self.seed, reader[0]))
        while True:
            yield next(passes[int(rng.choice(len(passes), p=weights / weights.sum()))])

    def _passes(self, reader: tuple[int, int], number: int) -> Iterator[SampledExample]:
        for epoch in count():
            yield from self.one_pass(epoch, reader, number)

    def one_pass(
        self, epoch: int, reader: tuple[int, int] = (0, 1), number: int = 0
    ) -> Iterator[SampledExample]:
        """Yield the part of a pass that a reader (its number, and how many there are) reads.

        Args:
            epoch: Number of the pass.
            reader: Who reads.
            number: Of the stream.

        Raises:
            PanoVLMError: If nothing is left for it.
        """
        own, readers = reader
        shards = self.parts[number].stream.shards
        order = np.random.default_rng((self.seed, epoch, number)).permutation(len(shards)).tolist()
        whole = len(order) - len(order) % readers
        rest = islice(self._read(number, order[whole:], epoch), own, None, readers)
        samples = chain(self._read(number, order[own:whole:readers], epoch), rest)
        is_empty = True
        for sampled in shuffled(
            samples, np.random.default_rng((self.seed, epoch, own, 2 + number))
        ):
            is_empty = False
            yield sampled
        if is_empty:
            raise PanoVLMError(
                f"found no example for reader {own + 1} of {readers} (processes times workers), "
                f"expected at least one for each; add data, or lower workers"
            )

    def _read(self, number: int, shards: Iterable[int], epoch: int) -> Iterator[SampledExample]:
        part = self.parts[number]
        first = sum(len(before.stream.shards) for before in self.parts[:number])
        for shard in shards:
            for place, sample in enumerate(part.stream.read(part.stream.shards[shard])):
                key = (self.seed, epoch, first + shard, place)
                yield SampledExample(sample, key, part.declared)

    def _first_valid(
        self, ahead: deque[SampledExample], samples: Iterator[SampledExample]
    ) -> StreamExample:
        """Return the next example, or the first valid one after it, which also comes on its own."""
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
        """Return an example.

        Raises:
            PanoVLMError: If it is invalid.
        """
        sample, sampler = sampled.sample, self.sampler
        needs = Needs.of(sampler.supervision)
        records = records_of(sample, needs, sampled.declared)
        if needs.text:
            excess = max(sampler.tokenizer.excess(record) for record in records)
            if excess > 0:
                found = f"{excess} tokens too many for {sampler.tokenizer.longest}"
                raise PanoVLMError(f"{sample.place}: {found}; {TOO_LONG_FIX}")
        num_strides, packed = sampler.packed(records, sampled.key)
        if sample.picture is None:
            return {"features": None, "conversations": packed, "skipped": 0}
        features = self.encoder.prepare(sample.picture, sample.place, records[0].declared)
        if self.jitter is not None:
            rng = np.random.default_rng((*sampled.key, 3))
            features = replace(features, states=self.jitter(features.states, rng))
        features = replace(features, num_strides=num_strides)
        return {"features": features, "conversations": packed, "skipped": 0}


def shuffled(
    samples: Iterable[SampledExample], rng: np.random.Generator
) -> Iterator[SampledExample]:
    """Shuffle samples through a buffer of bounded size."""
    held: list[SampledExample] = []
    size = 0
    for sampled in samples:
        held.append(sampled)
        size += sampled.sample.num_bytes
        while len(held) > BUFFER_EXAMPLES or size > BUFFER_BYTES:
            taken = _take(held, rng)
            size -= taken.sample.num_bytes
            yield taken
    while held:
        yield _take(held, rng)


def _take(held: list[SampledExample], rng: np.random.Generator) -> SampledExample:
    place = int(rng.integers(len(held)))
    held[place], held[-1] = held[-1], held[place]
    return held.pop()


@dataclass(frozen=True)
class StreamCollator:
    """Puts the examples of a batch together; the training process encodes their pictures.

    Attributes:
        pad_id: Token id to fill short sequences with.
    """

    pad_id: int

    def __call__(self, examples: Sequence[StreamExample]) -> dict[str, Any]:
        """Return `features` and `skipped`, and, with text, the result of `packing.collate`."""
        features = [e["features"] for e in examples if e["features"] is not None]
        packed = [e["conversations"] for e in examples if e["conversations"] is not None]
        batch = {"features": features, "skipped": sum(e["skipped"] for e in examples)}
        return batch | (collate(packed, self.pad_id) if packed else {})
