"""Rotation consistency: is an answer right on every turned picture, and does it stay the same?

Both are asked apart. A model may be wrong in the same way whichever way the camera looks, or right
in one direction only.

Source:
    Answers are turned back by their direction words: what is "left" once the camera has turned
    right by 90° was "front" before.
"""

import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from panovlm.evaluation.scoring import Prediction, accuracy, interval, normalised, share_interval
from panovlm.geometry.sphere import DIRECTIONS

_WORD = re.compile(
    r"(?<![\w-])(?:" + "|".join(sorted(DIRECTIONS, key=len, reverse=True)) + r")(?![\w-])"
)

Turned = Sequence[Prediction]
"""The answers to one question under every turn, the first of them unturned."""


def turned_back(text: str, eighths: int) -> str:
    """Give an answer with its direction words as they were before the camera turned.

    Args:
        text: What was said after the camera had turned right.
        eighths: By how many times 45°.
    """

    def back(found: re.Match[str]) -> str:
        return DIRECTIONS[(DIRECTIONS.index(found[0]) + eighths) % len(DIRECTIONS)]

    return _WORD.sub(back, normalised(text))


def rotation(questions: Sequence[Turned]) -> dict[str, Any]:
    """Sum up the answers under all turns.

    Args:
        questions: At least one, each with as many turns.

    Returns:
        `rolls`, `count`; `by_turn`, the share right for each turn in degrees; `right_every`, the
        share of questions answered right under every turn, with its `interval_right_every`.
        Where a right answer, turned back, is the same under all turns (not so for "What is to my
        left?"), an answer can be compared with itself: `consistent` is the share of these questions
        whose answers all agree, right or wrong, `agreement` the share of agreeing pairs of turns,
        `consistent_count` their number.
    """
    num_turns = len(questions[0])
    by_turn = list(zip(*questions, strict=True))
    every = [all(p.is_right for p in turned) for turned in questions]
    return {
        "rolls": num_turns,
        "count": len(questions),
        "by_turn": {f"{360 * t / num_turns:g}°": accuracy(ps) for t, ps in enumerate(by_turn)},
        "interval_by_turn": {
            f"{360 * t / num_turns:g}°": interval(ps) for t, ps in enumerate(by_turn)
        },
        "right_every": sum(every) / len(every),
        "interval_right_every": share_interval(every, _panoramas(questions)),
    } | _agreement([turned for turned in questions if _compares(turned)])


def consistent_answers(turned: Turned) -> list[str] | None:
    """Give answers turned back, or None if they are not meant to be the same."""
    return [_back(p, p.answer) for p in turned] if _compares(turned) else None


def _agreement(questions: Sequence[Turned]) -> dict[str, Any]:
    if not questions:
        return {}
    said = [[_back(p, p.answer) for p in turned] for turned in questions]
    alike = [len(set(answers)) == 1 for answers in said]
    pairs = [a == b for answers in said for a, b in combinations(answers, 2)]
    return {
        "consistent": sum(alike) / len(alike),
        "interval_consistent": share_interval(alike, _panoramas(questions)),
        "agreement": sum(pairs) / len(pairs),
        "consistent_count": len(alike),
    }


def _compares(turned: Turned) -> bool:
    """Whether the right answers, turned back, are all the same."""
    if any(_eighths(p) is None for p in turned):
        return False
    return len({_back(p, p.expected) for p in turned}) == 1


def _back(prediction: Prediction, text: str) -> str:
    return turned_back(text, _eighths(prediction) or 0)


def _eighths(prediction: Prediction) -> int | None:
    """Give the turn in steps of 45°; None if it is no whole number of them."""
    steps, rest = divmod(8 * prediction.turns, len(prediction.record.rolled_responses or (1,)))
    return None if rest else steps


def _panoramas(questions: Sequence[Turned]) -> list[str]:
    return [str(turned[0].record.image) for turned in questions]
