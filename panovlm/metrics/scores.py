"""A score, or the reason why there is none; means beside how much they rest on.

What could not be scored is never counted as zero silently: `Summary` has the mean over what was
scored, how much that was, and beside it the mean that counts unreadable answers as wrong, which is
what most published scorers do without a word.
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
        mean: Over what was scored; None if nothing was.
        mean_unreadable_wrong: The same with 0 for each answer that could not be read; what has no
            reference or was not judged stays out. None if nothing is left, or the scores are
            errors, of which 0 is the best.
        count: Scores and missing scores.
        scored: Scores.
        coverage: scored / count; 0 if there is nothing.
        missing: How many are missing for each reason.
    """

    mean: float | None
    mean_unreadable_wrong: float | None
    count: int
    scored: int
    coverage: float
    missing: dict[str, int]


def summarise(scores: Iterable[Score], *, are_errors: bool = False) -> Summary:
    """Compute the mean of scores, its coverage and why what is missing is missing.

    Args:
        scores: Any.
        are_errors: Whether less is better: then nothing counts as 0 that could not be read.
    """
    listed = list(scores)
    values = values_of(listed)
    reasons = [score.missing for score in listed if score.missing is not None]
    unreadable = reasons.count(Missing.UNREADABLE)
    return Summary(
        mean=float(np.mean(values)) if values else None,
        mean_unreadable_wrong=(
            float(np.sum(values)) / (len(values) + unreadable)
            if (values or unreadable) and not are_errors
            else None
        ),
        count=len(listed),
        scored=len(values),
        coverage=len(values) / len(listed) if listed else 0.0,
        missing={str(reason): reasons.count(reason) for reason in Missing if reason in reasons},
    )


def values_of(scores: Iterable[Score]) -> list[float]:
    """Return the values of what was scored."""
    return [score.value for score in scores if score.value is not None]


def summarise_by(scores: Sequence[Score], keys: Sequence[str | None]) -> dict[str, Summary]:
    """Summarise groups of scores by their keys; None leaves a score out."""
    pairs = list(zip(scores, keys, strict=True))
    return {
        name: summarise(score for score, key in pairs if key == name)
        for name in sorted({key for key in keys if key is not None})
    }


def score_read(parsed: T | None, score: Callable[[T], float]) -> Score:
    """Score what was read from an answer, which is unreadable where that is None."""
    return UNREADABLE if parsed is None else Score(float(score(parsed)))
