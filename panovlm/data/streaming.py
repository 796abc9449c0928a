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

from panovlm.data.datasets import TOO_LONG_CURE, Draws
from panovlm.data.packing import PackedSequence, collate
from panovlm.data.records import Needs, Record
from panovlm.data.shards import Sample, Stream, records_of
from panovlm.data.sights import Eyes, Sight
from panovlm.errors import PanoVLMError

logger = logging.getLogger(__name__)

BUFFER_EXAMPLES, BUFFER_BYTES = 1000, 256_000_000
"""The most that one reader's buffer holds: whichever is reached first."""
MOST_FAULTY = 64
"""Faulty examples in a row that end a run: then the whole stream is wrong."""


class StreamExample(TypedDict):
    """One sequence of a batch; both are None where a resumed run passes over it."""

    sight: Sight | None
    conversations: PackedSequence | None
    skipped: int


PASSED_OVER: StreamExample = {"sight": None, "conversations": None, "skipped": 0}


@dataclass(frozen=True)
class Drawn:
    """A sample, and what its draws depend on: seed, pass, shard and its number there."""

    sample: Sample
    key: tuple[int, int, int, int]


class StreamDataset(IterableDataset[StreamExample]):
    """Examples without end.

    A faulty example gives its place to the next good one, and the batch counts it as skipped.

    Args:
        stream: The shards.
        eyes: See the pictures.
        draws: Draw conversations and turns.
        longest: Tokens the language model reads at most; longer conversations are faulty.
        seed: Of order and draws.
        batch_size: Examples in one batch of this rank.
        rank: Number of this rank and how many there are.
    """

    def __init__(
        self,
        stream: Stream,
        eyes: Eyes,
        draws: Draws,
        *,
        longest: int,
        seed: int,
        batch_size: int,
        rank: tuple[int, int] = (0, 1),
    ) -> None:
        self.stream = stream
        self.eyes = eyes
        self.draws = draws
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
        samples = (drawn for epoch in count() for drawn in self.one_pass(epoch, reader))
        for _ in islice(samples, passed):
            yield PASSED_OVER
        ahead: deque[Drawn] = deque()
        while True:
            yield self._first_good(ahead, samples)
            ahead.popleft()

    def one_pass(self, epoch: int, reader: tuple[int, int] = (0, 1)) -> Iterator[Drawn]:
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
        for drawn in shuffled(self._own_samples(epoch, own, number), rng):
            is_empty = False
            yield drawn
        if is_empty:
            raise PanoVLMError(
                f"found no example for reader {own + 1} of {number} (processes times workers), "
                f"expected at least one for each; add data, or lower workers"
            )

    def _own_samples(self, epoch: int, own: int, number: int) -> Iterator[Drawn]:
        shards = self.stream.shards
        order = np.random.default_rng((self.seed, epoch)).permutation(len(shards))
        whole = len(order) - len(order) % number
        for shard in order[own:whole:number]:
            yield from self._of_shard(int(shard), epoch)
        rest = (drawn for shard in order[whole:] for drawn in self._of_shard(int(shard), epoch))
        yield from islice(rest, own, None, number)

    def _of_shard(self, shard: int, epoch: int) -> Iterator[Drawn]:
        for place, sample in enumerate(self.stream.read(self.stream.shards[shard])):
            yield Drawn(sample, (self.seed, epoch, shard, place))

    def _first_good(self, ahead: deque[Drawn], samples: Iterator[Drawn]) -> StreamExample:
        """Give the next example, or the first good one after it, which keeps its own turn too."""
        skipped = 0
        for place in range(MOST_FAULTY):
            if place == len(ahead):
                ahead.append(next(samples))
            try:
                return {**self.example(ahead[place]), "skipped": skipped}
            except PanoVLMError as fault:
                last = fault
                if place == 0:
                    skipped = 1
                    logger.warning("skipped a faulty example: %s", fault)
        raise PanoVLMError(f"found {MOST_FAULTY} faulty examples in a row; the last: {last}")

    def example(self, drawn: Drawn) -> StreamExample:
        """Make an example.

        Raises:
            PanoVLMError: If it is faulty.
        """
        records = records_of(drawn.sample, Needs.of(self.draws.tokenizer.supervision))
        self._check_lengths(records, drawn.sample.place)
        if drawn.sample.picture is None:
            told = self.draws.told(records, drawn.key)
            return {"sight": None, "conversations": told, "skipped": 0}
        sight = self.eyes.look(drawn.sample.picture, drawn.sample.place)
        num_views = len(sight.states)
        turns = self.draws.turns(records, drawn.key, num_views)
        told = self.draws.told(records, drawn.key, turns, num_views)
        return {"sight": replace(sight, turns=turns), "conversations": told, "skipped": 0}

    def _check_lengths(self, records: Sequence[Record], place: str) -> None:
        if not Needs.of(self.draws.tokenizer.supervision).text:
            return
        excess = max(self.draws.tokenizer.excess(record, self.longest) for record in records)
        if excess > 0:
            raise PanoVLMError(
                f"{place}: {excess} tokens too many for {self.longest}; {TOO_LONG_CURE}"
            )


def shuffled(samples: Iterable[Drawn], rng: np.random.Generator) -> Iterator[Drawn]:
    """Mix samples through a buffer of bounded size."""
    held: list[Drawn] = []
    size = 0
    for drawn in samples:
        held.append(drawn)
        size += drawn.sample.num_bytes
        while len(held) > BUFFER_EXAMPLES or size > BUFFER_BYTES:
            size -= (given := _take(held, rng)).sample.num_bytes
            yield given
    while held:
        yield _take(held, rng)


def _take(held: list[Drawn], rng: np.random.Generator) -> Drawn:
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
        """Give `sights` and `skipped`, and, with text, what `packing.collate` gives."""
        sights = [e["sight"] for e in examples if e["sight"] is not None]
        packed = [e["conversations"] for e in examples if e["conversations"] is not None]
        batch = {"sights": sights, "skipped": sum(e["skipped"] for e in examples)}
        return batch | (collate(packed, self.pad_id) if packed else {})
