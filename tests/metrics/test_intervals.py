"""Intervals drawn by groups are as wide as the groups are few."""

import numpy as np
import pytest

from panovlm.metrics.intervals import mean_interval


def test_repeating_every_value_in_its_group_changes_nothing() -> None:
    values = list(np.random.default_rng(0).random(30))
    once = mean_interval(values, range(30))
    tenfold = mean_interval([v for v in values for _ in range(10)], [*np.arange(300) // 10])
    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high))
    alone = mean_interval([v for v in values for _ in range(10)], range(300))
    assert alone.high - alone.low < 0.5 * (tenfold.high - tenfold.low)


def test_groups_weigh_as_many_as_their_values() -> None:
    found = mean_interval([1.0] * 9 + [0.0], [0] * 9 + [1])
    assert (found.mean, found.low, found.high) == (0.9, 0.0, 1.0)
