"""Steps of similar length: nothing is lost, padding is small, order is random and repeatable."""

from itertools import pairwise

import numpy as np
import pytest

from panovlm.training.sampler import STEPS_SORTED_TOGETHER, SequenceSampler

BATCH = 4
COUNT = BATCH * STEPS_SORTED_TOGETHER * 2


class Lengths:
    """Stands for a dataset: each example has a given length."""

    def __init__(self, lengths):
        self.lengths = lengths

    def examples(self, epoch):
        return np.arange(len(self.lengths))

    def estimated_tokens(self, index, epoch):
        return self.lengths[index]

    num_tokens = estimated_tokens


@pytest.fixture
def dataset():
    return Lengths([(37 * i) % 1000 for i in range(COUNT)])


def sampler(dataset, epochs=1, seed=0, budget=None):
    steps = epochs * -(-len(dataset.lengths) // BATCH)
    return SequenceSampler(dataset, BATCH, steps, seed, budget)


def order_of(sampler, epoch=0):
    return [key.indices[0] for key in sampler.epoch(epoch)]


def batches(dataset, epoch=0, seed=0):
    order = order_of(sampler(dataset, seed=seed), epoch)
    return [order[i : i + BATCH] for i in range(0, len(order), BATCH)]


def padding(dataset, batches):
    lengths = [[dataset.lengths[i] for i in batch] for batch in batches]
    return sum(max(each) * len(each) - sum(each) for each in lengths)


def test_every_example_comes_once(dataset):
    assert sorted(i for batch in batches(dataset) for i in batch) == list(range(COUNT))


def test_padding_is_small(dataset):
    plain = [list(range(i, min(i + BATCH, COUNT))) for i in range(0, COUNT, BATCH)]
    assert padding(dataset, batches(dataset)) < padding(dataset, plain) / 5


def test_the_order_is_of_seed_and_epoch_alone(dataset):
    first = batches(dataset)
    assert batches(dataset) == first
    assert batches(dataset, epoch=1) != first
    assert batches(dataset, seed=1) != first


@pytest.mark.parametrize("budget", [None, 2000])
def test_a_run_goes_from_epoch_to_epoch_without_a_gap(dataset, budget):
    run = sampler(dataset, epochs=3, budget=budget)
    found = list(run)
    assert len(found) == len(run)
    first, second = list(run.epoch(0)), list(run.epoch(1))
    assert found[: len(first) + len(second)] == first + second
    assert {key.epoch for key in found} == set(range(found[-1].epoch + 1))


def test_long_and_short_batches_come_in_no_order(dataset):
    means = [sum(dataset.lengths[i] for i in batch) / len(batch) for batch in batches(dataset)]
    rises = sum(after > before for before, after in pairwise(means))
    assert 0.3 * len(means) < rises < 0.7 * len(means)


def test_an_end_of_few_steps_is_sorted_with_those_before():
    """Alone, its few batches would hold all lengths, and be padded to the longest."""
    count = BATCH * (STEPS_SORTED_TOGETHER + STEPS_SORTED_TOGETHER // 2)
    together, apart = (
        Lengths([(37 * i) % number for i in range(number)]) for number in (count, count + BATCH)
    )
    found = {frozenset(batch) for batch in batches(together)}
    by_length = sorted(range(count), key=lambda i: together.lengths[i])
    assert found == {frozenset(by_length[i : i + BATCH]) for i in range(0, count, BATCH)}
    assert padding(apart, batches(apart)) > 1.5 * padding(together, batches(together))


@pytest.mark.parametrize("count", [1, BATCH, BATCH + 1])
def test_few_examples_are_all_given_and_the_last_step_completed(count):
    order = order_of(sampler(Lengths([5] * count)))
    assert set(order) == set(range(count))
    assert len(order) == -(-count // BATCH) * BATCH
