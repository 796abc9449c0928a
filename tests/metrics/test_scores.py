"""What cannot be read counts as wrong, beside how much could be; intervals cover what they say."""

import numpy as np
import pytest

from panovlm.errors import PanoVLMError
from panovlm.metrics.intervals import difference_interval, mean_interval
from panovlm.metrics.scores import (
    NO_REFERENCE,
    NOT_JUDGED,
    UNREADABLE,
    Missing,
    Score,
    summarise,
    summarise_by,
)


def test_an_unreadable_answer_is_wrong_and_what_has_no_reference_is_left_out() -> None:
    summary = summarise([Score(1.0), Score(0.5), UNREADABLE, NO_REFERENCE])
    assert summary.mean == 0.5
    assert summary.mean_readable == 0.75
    assert (summary.count, summary.scored, summary.coverage) == (4, 2, 0.5)
    assert summary.missing == {Missing.UNREADABLE: 1, Missing.NO_REFERENCE: 1}


def test_there_is_no_mean_of_nothing() -> None:
    assert summarise([]).mean is None
    assert summarise([UNREADABLE]).mean == 0.0
    assert summarise([UNREADABLE]).mean_readable is None
    assert summarise([NOT_JUDGED]).mean is None


def test_errors_that_could_not_be_read_are_the_worst_of_errors() -> None:
    summary = summarise([Score(30.0), UNREADABLE], worst=180.0)
    assert (summary.mean, summary.mean_readable, summary.coverage) == (105.0, 30.0, 0.5)


def test_a_score_has_a_value_or_a_reason() -> None:
    with pytest.raises(ValueError, match="a value or a reason"):
        Score(None)
    with pytest.raises(ValueError, match="a value or a reason"):
        Score(1.0, Missing.UNREADABLE)


def test_groups_are_summarised_apart_and_none_is_no_group() -> None:
    groups = summarise_by([Score(1.0), UNREADABLE, Score(0.0)], ["b", "b", None])
    assert list(groups) == ["b"]
    assert (groups["b"].mean, groups["b"].count) == (0.5, 2)


def test_an_interval_is_the_same_for_the_same_seed_and_narrows_with_more_values() -> None:
    values = list(np.random.default_rng(0).normal(size=400))
    wide, narrow = mean_interval(values[:25], range(25)), mean_interval(values, range(400))
    assert wide and narrow
    assert narrow == mean_interval(values, range(400))
    assert narrow.low < narrow.mean < narrow.high
    assert narrow.high - narrow.low < wide.high - wide.low
    assert narrow.high - narrow.low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert mean_interval([], []) is None


def test_paired_intervals_see_a_small_difference_that_unpaired_ones_hide() -> None:
    rng = np.random.default_rng(1)
    first = [Score(float(value)) for value in rng.normal(size=200)]
    second = [Score((score.value or 0) + 0.05) for score in first]
    difference = difference_interval(first, second, range(200))
    assert difference
    assert (difference.low, difference.high) == pytest.approx((0.05, 0.05))


def test_a_pair_with_a_missing_score_is_left_out() -> None:
    difference = difference_interval([Score(0.0), UNREADABLE], [Score(1.0)] * 2, "ab")
    assert difference
    assert difference.count == 1
    assert difference_interval([UNREADABLE], [Score(1.0)], "a") is None
    with pytest.raises(PanoVLMError, match="1 and 2 scores"):
        difference_interval([Score(1.0)], [Score(1.0), Score(1.0)], "a")
