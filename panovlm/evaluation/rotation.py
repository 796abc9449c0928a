"""Rotation consistency: is an answer correct on every yaw-rotated picture, and always the same?

Both are asked apart. A model may be wrong in the same way whichever way the camera looks, or
correct in one direction only. To compare answers, their direction words are rotated back: what is
"left" once the camera has turned right by 90° was "front" before.
"""

import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from panovlm.evaluation.scoring import Prediction, accuracy
from panovlm.geometry.sphere import DIRECTIONS
from panovlm.metrics.exact_match import normalised
from panovlm.metrics.intervals import share_interval

_WORD = re.compile(
    r"(?<![\w-])(?:" + "|".join(sorted(DIRECTIONS, key=len, reverse=True)) + r")(?![\w-])"
)

Rotated = Sequence[Prediction]
"""The answers to one question under every yaw rotation, the first of them unrotated."""


def rotated_back(text: str, eighths: int) -> str:
    """Return an answer with its direction words as they were before the camera turned.

    Args:
        text: The answer after the camera had turned right.
        eighths: By how many times 45°.
    """

    def back(found: re.Match[str]) -> str:
        return DIRECTIONS[(DIRECTIONS.index(found[0]) + eighths) % len(DIRECTIONS)]

    return _WORD.sub(back, normalised(text))


def rotation(questions: Sequence[Rotated]) -> dict[str, Any]:
    """Sum up the answers under all yaw rotations.

    Args:
        questions: At least one, each with as many rotations.

    Returns:
        `rotations`, `count`; `by_rotation`, the accuracy for each rotation in degrees, and
        `interval_by_rotation`; `right_every`, the share of questions answered correctly under every
        rotation, with its `interval_right_every`. Where a correct answer, rotated back, is the same
        under all rotations (not so for "What is to my left?"), an answer can be compared with
        itself: `consistent` is the share of these questions whose answers all agree, correct or
        not, with its `interval_consistent`, `agreement` the share of agreeing pairs of rotations,
        `consistent_count` their number.
    """
    columns = list(zip(*questions, strict=True))
    by_rotation = {f"{360 * i / len(columns):g}°": accuracy(ps) for i, ps in enumerate(columns)}
    right_every = share_interval(
        [all(p.is_right for p in rotated) for rotated in questions],
        [rotated[0].panorama for rotated in questions],
    )
    return {
        "rotations": len(columns),
        "count": len(questions),
        "by_rotation": {name: found.mean for name, found in by_rotation.items()},
        "interval_by_rotation": {name: found.limits for name, found in by_rotation.items()},
        "right_every": right_every.mean,
        "interval_right_every": right_every.limits,
    } | _agreement([rotated for rotated in questions if _is_comparable(rotated)])


def consistent_answers(rotated: Rotated) -> list[str] | None:
    """Return answers rotated back, or None if they are not meant to be the same."""
    return _back([p.answer for p in rotated]) if _is_comparable(rotated) else None


def _agreement(questions: Sequence[Rotated]) -> dict[str, Any]:
    if not questions:
        return {}
    answers = [_back([p.answer for p in rotated]) for rotated in questions]
    pairs = [a == b for each in answers for a, b in combinations(each, 2)]
    consistent = share_interval(
        [len(set(each)) == 1 for each in answers], [rotated[0].panorama for rotated in questions]
    )
    return {
        "consistent": consistent.mean,
        "interval_consistent": consistent.limits,
        "agreement": sum(pairs) / len(pairs),
        "consistent_count": consistent.count,
    }


def _is_comparable(rotated: Rotated) -> bool:
    """Whether rotations are by whole 45°, and the correct answers, rotated back, all the same."""
    return len(DIRECTIONS) % len(rotated) == 0 and len({*_back([p.expected for p in rotated])}) == 1


def _back(texts: Sequence[str]) -> list[str]:
    """Rotate back the answers under every yaw rotation, which are by whole 45°."""
    step = len(DIRECTIONS) // len(texts)
    return [rotated_back(text, step * place) for place, text in enumerate(texts)]
