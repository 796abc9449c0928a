"""Bootstrap intervals: how far a mean, or the difference of two, would move on other questions.

Source:
    Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13: the percentile
    interval. It covers the choice of questions, not the seed of training.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import Floats
from panovlm.metrics.scores import Score

MIN_GROUPS = 5
"""Of fewer panoramas there is no interval: two right of two are no certainty."""
RESAMPLES = 2000
PERCENTILES = (2.5, 97.5)
"""The ends of a 95 % interval."""
_BATCH_VALUES = 4_000_000
"""Sampled at once, so that memory stays small."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % percentile bootstrap interval.

    Attributes:
        mean: Over the values themselves.
        low: Lower end; None where there are fewer than `MIN_GROUPS` groups.
        high: Upper end; None where there is no lower one.
        count: Values, or pairs of them.
    """

    mean: float
    low: float | None
    high: float | None
    count: int

    @property
    def limits(self) -> tuple[float, float] | None:
        """Both ends, if there are any."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def mean_interval(
    values: Sequence[float], groups: Sequence[Hashable], seed: int = 0
) -> Interval | None:
    """Compute the mean of values with its interval.

    Args:
        values: Scores of questions.
        groups: Of each value, as the panorama it is about: whole groups are resampled, since
            questions of one group succeed or fail together.
        seed: The same seed gives the same interval.

    Returns:
        None if there are no values.
    """
    if not values:
        return None
    given = np.asarray(values, dtype=float)
    places: dict[Hashable, int] = {}
    index = [places.setdefault(group, len(places)) for group in groups]
    if len(places) < MIN_GROUPS:
        return Interval(float(given.mean()), None, None, len(given))
    sums: Floats = np.bincount(index, given).astype(np.float64)
    means = _resampled_means(sums, np.bincount(index).astype(np.float64), seed)
    low, high = np.percentile(means, PERCENTILES)
    return Interval(float(given.mean()), float(low), float(high), len(given))


def share_interval(values: Sequence[bool], groups: Sequence[Hashable], seed: int = 0) -> Interval:
    """Compute the share of true values, of which there is at least one value, with its interval."""
    found = mean_interval([float(value) for value in values], groups, seed)
    if found is None:
        raise ValueError("found no values, expected some to compute the share of")
    return found


def difference_interval(
    first: Sequence[Score], second: Sequence[Score], groups: Sequence[Hashable]
) -> Interval | None:
    """Compute the mean of `second` - `first` on the same questions, with its paired interval.

    Args:
        first: Scores of one run.
        second: Scores of another on the same questions in the same order.
        groups: Of each question, as in `mean_interval`.

    Returns:
        None if no question was scored in both; questions missing in one are left out.

    Raises:
        PanoVLMError: If the runs do not have equally many questions.
    """
    if len(first) != len(second):
        raise PanoVLMError(
            f"found {len(first)} and {len(second)} scores, expected those of the same questions; "
            "compare runs on one file"
        )
    differences = {
        place: b.value - a.value
        for place, (a, b) in enumerate(zip(first, second, strict=True))
        if a.value is not None and b.value is not None
    }
    return mean_interval([*differences.values()], [groups[place] for place in differences])


def _resampled_means(sums: Floats, counts: Floats, seed: int) -> Floats:
    """Compute the mean over the values of each resample of groups, [resamples]."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _BATCH_VALUES // len(sums))
    means = []
    for start in range(0, RESAMPLES, at_once):
        shape = (min(at_once, RESAMPLES - start), len(sums))
        resampled = rng.integers(0, len(sums), shape)
        means.append(sums[resampled].sum(axis=1) / counts[resampled].sum(axis=1))
    return np.concatenate(means)
