"""Predictions and their scores: exact match, with intervals, by kind, direction and stratum.

A score is a mean over answers that were given; nothing is filled in, and counts stand beside it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from panovlm.data.records import Record
from panovlm.geometry.sphere import DIRECTIONS, direction_index
from panovlm.metrics.intervals import Interval, difference_interval, mean_interval
from panovlm.metrics.scores import Score
from panovlm.metrics.strata import pole_stratum, seam_stratum


@dataclass(frozen=True)
class Prediction:
    """One answer beside the right one.

    Attributes:
        record: The question, as in the data.
        answer: What the model said.
        turns: Steps the camera had turned right when it was asked.
    """

    record: Record
    answer: str
    turns: int = 0

    @property
    def expected(self) -> str:
        """The right answer as the picture was shown."""
        return self.record.yaw_rotated(self.turns).response

    @property
    def is_right(self) -> bool:
        """Exact match up to case, outer space and a final stop."""
        return normalised(self.answer) == normalised(self.expected)


def normalised(text: str) -> str:
    """Give a text without what exact match does not look at."""
    return text.strip().rstrip(".").strip().lower()


def score(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Score predictions by exact match.

    Returns:
        `overall`, `count`, `interval` (low, high), and `coverage`, the share of answers that are
        not empty (an empty one counts as wrong). `by_kind`, `count_by_kind`, `interval_by_kind`;
        the same three `_by_sector` (the direction asked about), `_by_seam_distance` and
        `_by_pole_distance` as far as these are known, and `by_kind_and_sector`. `seam` and
        `not_seam`, with counts and intervals, where objects on the seam and others are asked about.
    """
    result: dict[str, Any] = {
        "overall": accuracy(predictions),
        "count": len(predictions),
        "interval": interval(predictions),
        "coverage": sum(bool(p.answer) for p in predictions) / len(predictions),
    }
    for name, group_of in _GROUPS.items():
        result |= _grouped(predictions, name, group_of)
    return result | _kinds_and_sectors(predictions) | _seam_strata(predictions)


def accuracy(predictions: Sequence[Prediction]) -> float:
    """Give the share of right answers."""
    return sum(p.is_right for p in predictions) / len(predictions)


def interval(predictions: Sequence[Prediction], seed: int = 0) -> tuple[float, float]:
    """Give the 95 % interval of the share of right answers, drawn by whole panoramas."""
    return share_interval(
        [p.is_right for p in predictions], [str(p.record.image) for p in predictions], seed
    )


def share_interval(
    values: Sequence[bool], panoramas: Sequence[str], seed: int = 0
) -> tuple[float, float]:
    """Give the 95 % bootstrap interval of a share.

    Args:
        values: At least one.
        panoramas: Which one each value is about; all values of one are drawn together.
        seed: Of the draws.
    """
    found = mean_interval([float(value) for value in values], groups=panoramas, seed=seed)
    if found is None:
        raise ValueError("found no values to give an interval of")
    return found.low, found.high


def gain_over(others: Sequence[Prediction], ours: Sequence[Prediction]) -> Interval | None:
    """Give how much more often `ours` are right on the same questions, with its paired interval."""
    first, second = ([Score(float(p.is_right)) for p in each] for each in (others, ours))
    return difference_interval(first, second, groups=[str(p.record.image) for p in ours])


def _sector(prediction: Prediction) -> str | None:
    yaw_deg = prediction.record.yaw_deg
    return None if yaw_deg is None else DIRECTIONS[direction_index(yaw_deg)]


_GROUPS: dict[str, Callable[[Prediction], str | None]] = {
    "kind": lambda p: p.record.kind or "all",
    "sector": _sector,
    "seam_distance": lambda p: seam_stratum(p.record.yaw_deg),
    "pole_distance": lambda p: pole_stratum(p.record.pitch_deg),
}
"""What scores are grouped by; None leaves a prediction out."""


def _grouped(
    predictions: Sequence[Prediction], name: str, group_of: Callable[[Prediction], str | None]
) -> dict[str, Any]:
    groups: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        if (group := group_of(prediction)) is not None:
            groups.setdefault(group, []).append(prediction)
    if not groups:
        return {}
    ordered = {key: groups[key] for key in sorted(groups, key=rank)}
    return {
        f"by_{name}": {key: accuracy(group) for key, group in ordered.items()},
        f"count_by_{name}": {key: len(group) for key, group in ordered.items()},
        f"interval_by_{name}": {key: interval(group) for key, group in ordered.items()},
    }


def rank(name: str) -> tuple[int, str]:
    """Order strata by their distance, and all else by name."""
    stratum = re.match(r"(\d+)-\d+°$", name)
    return int(stratum[1]) if stratum else -1, name


def _kinds_and_sectors(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Score each kind that has directions by them."""
    kinds = sorted({p.record.kind or "all" for p in predictions if p.record.yaw_deg is not None})
    if len(kinds) < 2:
        return {}
    found = {
        kind: _grouped(
            [p for p in predictions if (p.record.kind or "all") == kind], "sector", _sector
        )
        for kind in kinds
    }
    return {"by_kind_and_sector": found}


def _seam_strata(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Compare questions about objects that cross the seam with those about all other objects."""
    about = [p for p in predictions if p.record.yaw_deg is not None]
    across = [p for p in about if p.record.crosses_seam]
    others = [p for p in about if not p.record.crosses_seam]
    if not across or not others:
        return {}
    return {
        "seam": accuracy(across),
        "not_seam": accuracy(others),
        "count_seam": len(across),
        "count_not_seam": len(others),
        "interval_seam": interval(across),
        "interval_not_seam": interval(others),
    }
