"""Steps of similar length: nothing is lost, padding is small, order is random and repeatable."""

from itertools import pairwise

import numpy as np
import pytest

from panovlm.training.sampler import STEPS_SORTED_TOGETHER, WholeStepSampler

BATCH = 4
COUNT = BATCH * STEPS_SORTED_TOGETHER * 2


class Lengths:
    """Stands for a dataset: each example has a given length."""

    seed = 0

    def __init__(self, lengths):
        self.lengths = lengths
        self.epoch = 0

    def __len__(self):
        return len(self.lengths)

    def examples(self):
        return np.arange(len(self))

    def text_bytes(self, index):
        return self.lengths[index]


@pytest.fixture
def dataset():
    return Lengths([(37 * i) % 1000 for i in range(COUNT)])


def batches(dataset):
    order = list(WholeStepSampler(dataset, BATCH, dataset.seed))
    return [order[i : i + BATCH] for i in range(0, len(order), BATCH)]


def padding(dataset, batches):
    lengths = [[dataset.lengths[i] for i in batch] for batch in batches]
    return sum(max(each) * len(each) - sum(each) for each in lengths)


def test_every_example_comes_once(dataset):
    assert sorted(i for batch in batches(dataset) for i in batch) == list(range(COUNT))
    assert len(WholeStepSampler(dataset, BATCH, dataset.seed)) == COUNT


def test_padding_is_small(dataset):
    plain = [list(range(i, min(i + BATCH, COUNT))) for i in range(0, COUNT, BATCH)]
    assert padding(dataset, batches(dataset)) < padding(dataset, plain) / 5


def test_the_order_is_of_seed_and_epoch_alone(dataset):
    first = batches(dataset)
    assert batches(dataset) == first
    dataset.epoch = 1
    assert batches(dataset) != first
    dataset.epoch, dataset.seed = 0, 1
    assert batches(dataset) != first


def test_long_and_short_batches_come_in_no_order(dataset):
    means = [sum(dataset.lengths[i] for i in batch) / len(batch) for batch in batches(dataset)]
    rises = sum(after > before for before, after in pairwise(means))
    assert 0.3 * len(means) < rises < 0.7 * len(means)


@pytest.mark.parametrize("count", [1, BATCH, BATCH + 1])
def test_few_examples_are_all_given_and_the_last_step_completed(count):
    order = list(WholeStepSampler(Lengths([5] * count), BATCH, 0))
    assert set(order) == set(range(count))
    assert len(order) == -(-count // BATCH) * BATCH
