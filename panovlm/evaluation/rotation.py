"""Rotation consistency: is an answer correct on every yaw-rotated picture, and always the same?

Both are asked apart. A model may be wrong in the same way whichever way the camera looks, or
correct in one direction only. To compare answers, their direction words are rotated back: what is
"left" once the camera has turned right by 90° was "front" before.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

from panovlm.evaluation.benchmarks.items import Benchmark, summary_over_panoramas
from panovlm.evaluation.scoring import Prediction, summary_of
from panovlm.geometry.sphere import DIRECTIONS
from panovlm.metrics.choices import every_order_right
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


def rotation(benchmark: Benchmark, questions: Sequence[Rotated]) -> dict[str, Any]:
    """Sum up the answers to some questions under every yaw rotation.

    Args:
        benchmark: Of the questions.
        questions: At least one, each with as many rotations.

    Returns:
        `score`, of the answers on rotated pictures, the unrotated left out; `by_rotation`, the same
        by the degrees the camera turned right, from 0; `right_every`, in which a question counts 1
        if it has the full score under every rotation (not of errors, which are never quite 0).
        Where a correct answer, rotated back, is the same under all rotations (not so for "What is
        to my left?"), an answer can be compared with itself: `consistent` is the share of these
        questions whose answers all agree, correct or not, `agreement` the share of agreeing pairs
        of rotations.
    """
    columns = [*zip(*questions, strict=True)]
    facts = {
        "score": summary_of(benchmark, [p for column in columns[1:] for p in column]),
        "by_rotation": {
            f"{360 * place / len(columns):g}°": summary_of(benchmark, column)
            for place, column in enumerate(columns)
        },
    }
    if not benchmark.unit.less_is_better:
        facts["right_every"] = _right_every(questions)
    return facts | _agreement([each for each in questions if _is_comparable(each)])


def consistent_answers(rotated: Rotated) -> list[str] | None:
    """Return answers rotated back, or None if they are not meant to be the same."""
    return _back([p.answer for p in rotated]) if _is_comparable(rotated) else None


def _right_every(questions: Sequence[Rotated]) -> dict[str, Any]:
    asked = [(place, p) for place, question in enumerate(questions) for p in question]
    every = every_order_right([p.score for _, p in asked], [place for place, _ in asked])
    items = [questions[place][0].item for place in every]
    return summary_over_panoramas(items, [*every.values()])


def _agreement(questions: Sequence[Rotated]) -> dict[str, Any]:
    if not questions:
        return {}
    answers = [_back([p.answer for p in rotated]) for rotated in questions]
    panoramas = [rotated[0].panorama for rotated in questions]
    pairs = [[a == b for a, b in combinations(each, 2)] for each in answers]
    consistent = share_interval([len({*each}) == 1 for each in answers], panoramas)
    return {
        "consistent": asdict(consistent),
        "agreement": sum(map(sum, pairs)) / sum(map(len, pairs)),
    }


def _is_comparable(rotated: Rotated) -> bool:
    """Whether rotations are by whole 45°, and the correct answers, rotated back, all the same."""
    if len(DIRECTIONS) % len(rotated) or not all(p.item.references for p in rotated):
        return False
    return len({*_back([p.item.references[0] for p in rotated])}) == 1


def _back(texts: Sequence[str]) -> list[str]:
    """Rotate back the answers under every yaw rotation, which are by whole 45°."""
    step = len(DIRECTIONS) // len(texts)
    return [rotated_back(text, step * place) for place, text in enumerate(texts)]
