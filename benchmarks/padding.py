"""Padding: how much of what a language model computes in training is not text.

    python benchmarks/padding.py --docs docs/lab/training_speed.md

Lengths are sampled as those of LLaVA's mixed sets are: panoramas with a few answers each, some long
descriptions, and long texts without a picture. No model runs. All sides see the same examples.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from panovlm.data.packing import padded_length
from panovlm.training.sampler import SequenceSampler
from reporting import Table, markdown, print_tables, put_between_markers

EXAMPLES = 20_000
IMAGE_TOKENS = 8 * 49 + 30  # of one panorama, with its direction words
BATCH = 16
BUDGETS = (2048, 4096, 8192)
LONGEST = 2048


def sampled_lengths(count: int, seed: int = 0) -> np.ndarray:
    """Sample the tokens of examples: 94 % with a picture and 60 to 900 tokens of text, 6 % without
    one and up to `LONGEST`.
    """
    rng = np.random.default_rng(seed)
    with_picture = IMAGE_TOKENS + np.exp(rng.normal(5.1, 0.8, count))
    without = np.exp(rng.normal(6.6, 0.7, count))
    lengths = np.where(rng.random(count) < 0.06, without, with_picture)
    return lengths.round().clip(8, LONGEST).astype(int)


@dataclass
class Lengths:
    """A data set of which the lengths alone are known."""

    lengths: np.ndarray

    def examples(self, epoch: int) -> np.ndarray:
        """Return the indices of all examples."""
        return np.arange(len(self.lengths))

    def estimated_tokens(self, index: int, epoch: int) -> int:
        """Return the length of an example."""
        return int(self.lengths[index])

    num_tokens = estimated_tokens


def batch_padding(batches: Iterator[Sequence[int]]) -> float:
    """Return the share of padding in batches, each as long as its longest sequence needs."""
    computed = useful = 0
    for lengths in batches:
        computed += padded_length(max(lengths)) * len(lengths)
        useful += sum(lengths)
    return 1 - useful / computed


def in_batches(lengths: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Yield so many sequences at a time."""
    return (lengths[start : start + size] for start in range(0, len(lengths), size))


def sequence_lengths(lengths: np.ndarray, per_step: int, budget: int | None) -> list[int]:
    """Return the lengths of an epoch's sequences in the order of training."""
    epoch = SequenceSampler(Lengths(lengths), per_step, 0, 0, budget).epoch(0)
    return [int(lengths[[*key.indices]].sum()) for key in epoch]


def padding_table(count: int) -> Table:
    """Return the share of padding of every way to make batches."""
    lengths = sampled_lengths(count)
    at_random = [int(length) for length in lengths]
    similar = sequence_lengths(lengths, BATCH, None)
    ways = {
        f"{BATCH} examples at random": in_batches(at_random, BATCH),
        f"{BATCH} of similar length (the default)": in_batches(similar, BATCH),
    }
    for budget in BUDGETS:
        size = BATCH * 512 // budget
        name = f"{size} of `tokens_per_sequence: {budget}`"
        ways[name] = in_batches(sequence_lengths(lengths, size, budget), size)
    shares = [[name, f"{batch_padding(batches):.1%}"] for name, batches in ways.items()]
    return [["sequences of a batch", "share of padding"], *shares]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, and write its table to a page if one is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--docs", type=Path, help="Page with the markers of `padding`.")
    options = parser.parse_args(arguments)
    table = padding_table(options.examples)
    print_tables(f"{options.examples:,} examples", [("padding", table)])
    if options.docs is not None:
        put_between_markers(options.docs, "padding", markdown(table))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
