"""Mixtures: each file's examples come as often as its weight says, and epochs are equally long."""

from collections import Counter

import numpy as np
import pytest

from panovlm.data.mixture import MixtureSchedule, capped


def counts(schedule, epochs):
    found = Counter()
    for epoch in epochs:
        found.update((schedule.examples(epoch) % schedule.num_examples).tolist())
    return found


def test_with_weights_of_1_every_epoch_is_all_examples_in_order():
    schedule = MixtureSchedule([5, 0, 3], [1.0, 1.0, 1.0], seed=4)
    for epoch in (0, 1, 99):
        assert schedule.examples(epoch).tolist() == list(range(8))
    assert schedule.per_epoch == 8


@pytest.mark.parametrize("weight", [0.01, 0.3, 0.5, 1.0, 1.7, 3.0])
def test_epochs_are_equally_long(weight):
    schedule = MixtureSchedule([7, 40], [weight, 1.0], seed=0)
    lengths = {len(schedule.examples(epoch)) for epoch in range(30)}
    assert lengths == {schedule.per_epoch} == {max(round(7 * weight), 1) + 40}


def test_all_examples_of_a_file_come_equally_often():
    schedule = MixtureSchedule([10, 10, 10], [0.5, 1.0, 2.5], seed=1)
    found = counts(schedule, range(8))
    assert [found[i] for i in range(30)] == [4] * 10 + [8] * 10 + [20] * 10


def test_a_small_weight_takes_other_examples_in_the_next_epoch():
    schedule = MixtureSchedule([10], [0.5], seed=2)
    first, second = (set(schedule.examples(epoch).tolist()) for epoch in (0, 1))
    assert len(first) == len(second) == 5
    assert first | second == set(range(10))


def test_repetitions_of_an_example_have_indices_of_their_own():
    schedule = MixtureSchedule([2, 3], [2.0, 1.0], seed=0)
    assert schedule.examples(0).tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_which_examples_come_depends_on_the_seed_alone():
    def drawn(seed):
        return MixtureSchedule([100], [0.3], seed).examples(0).tolist()

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_limit_samples_by_the_seed_and_keeps_the_order():
    kept = capped(range(100), 10, seed=0)
    assert kept == sorted(set(kept))
    assert len(kept) == 10
    assert kept == capped(range(100), 10, seed=0) != capped(range(100), 10, seed=1)
    assert kept != list(range(10))


def test_a_limit_of_more_than_there_is_keeps_everything():
    assert capped([1, 2], 3, seed=0) == capped([1, 2], None, seed=0) == [1, 2]


def test_an_empty_mixture_has_no_examples():
    assert MixtureSchedule([0], [1.0], seed=0).examples(0).dtype == np.int64
