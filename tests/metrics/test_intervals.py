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
    found = mean_interval([1.0] * 16 + [0.0] * 4, [0] * 16 + [1, 2, 3, 4])
    assert found.mean == 0.8
    assert found.low == 0.0 and found.high > 0.9


@pytest.mark.parametrize(("panoramas", "has_one"), [(1, False), (4, False), (5, True)])
def test_few_panoramas_claim_no_certainty(panoramas: int, has_one: bool) -> None:
    found = mean_interval([1.0] * 20, [i % panoramas for i in range(20)])
    assert found.mean == 1.0
    assert (found.limits is not None) == has_one
