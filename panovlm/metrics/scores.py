"""A score, or the reason why there is none; means beside how much they rest on.

An answer that cannot be read, refuses or is missing counts as wrong, as in most published scorers:
with the worst score there is. `Summary` has that mean, how many answers could be read, and the
mean over these alone.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Missing(StrEnum):
    """Why there is no score."""

    UNREADABLE = "the answer could not be read"
    NO_REFERENCE = "there is no right answer to compare with"
    NOT_JUDGED = "no judge was asked, or it failed"
    WITHOUT_WEIGHT = "no word of its references tells its picture from the others, or it is alone"


@dataclass(frozen=True)
class Score:
    """A score, or why there is none.

    Attributes:
        value: Usually in [0, 1]; None if it could not be scored.
        missing: The reason, exactly where there is no value.
    """

    value: float | None
    missing: Missing | None = None

    def __post_init__(self) -> None:
        if (self.value is None) != (self.missing is not None):
            raise ValueError(f"a score has a value or a reason why not, found {self}")


UNREADABLE = Score(None, Missing.UNREADABLE)
NO_REFERENCE = Score(None, Missing.NO_REFERENCE)
NOT_JUDGED = Score(None, Missing.NOT_JUDGED)
WITHOUT_WEIGHT = Score(None, Missing.WITHOUT_WEIGHT)


@dataclass(frozen=True)
class Summary:
    """The mean of scores and what it rests on.

    Attributes:
        mean: With the worst score for each answer that could not be read; what has no reference
            or was not judged stays out. None if nothing is left.
        mean_readable: Over the answers that could be read alone; None if there are none.
        count: Scores and missing scores.
        scored: Scores.
        coverage: scored / count; 0 if there is nothing.
        missing: How many are missing for each reason.
    """

    mean: float | None
    mean_readable: float | None
    count: int
    scored: int
    coverage: float
    missing: dict[str, int]


def summarise(scores: Iterable[Score], *, worst: float = 0.0) -> Summary:
    """Compute the mean of scores, its coverage and why what is missing is missing.

    Args:
        scores: Any.
        worst: What an answer that could not be read counts as.
    """
    listed = list(scores)
    values = values_of(listed)
    reasons = [score.missing for score in listed if score.missing is not None]
    return Summary(
        mean=_mean(values_of(counted(listed, worst))),
        mean_readable=_mean(values),
        count=len(listed),
        scored=len(values),
        coverage=len(values) / len(listed) if listed else 0.0,
        missing={str(reason): reasons.count(reason) for reason in Missing if reason in reasons},
    )


def counted(scores: Iterable[Score], worst: float = 0.0) -> list[Score]:
    """Return scores with the worst one in place of those of answers that could not be read."""
    return [Score(worst) if score == UNREADABLE else score for score in scores]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def values_of(scores: Iterable[Score]) -> list[float]:
    """Return the values of what was scored."""
    return [score.value for score in scores if score.value is not None]


def summarise_by(scores: Sequence[Score], keys: Sequence[str | None]) -> dict[str, Summary]:
    """Summarise groups of scores by their keys, 0 the worst; None leaves a score out."""
    pairs = list(zip(scores, keys, strict=True))
    return {
        name: summarise(score for score, key in pairs if key == name)
        for name in sorted({key for key in keys if key is not None})
    }


def score_read(parsed: T | None, score: Callable[[T], float]) -> Score:
    """Score what was read from an answer, which is unreadable where that is None."""
    return UNREADABLE if parsed is None else Score(float(score(parsed)))
