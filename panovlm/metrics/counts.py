"""Counting: numbers in answers, and how far they are from the right ones."""

import re
from collections.abc import Sequence

import numpy as np

from panovlm.metrics.scores import UNREADABLE, Score, Summary, score_read, summarise

_COUNTING = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
NUMBER_WORDS = {word: number for number, word in enumerate(_COUNTING.split())}
"""English words of whole numbers."""

_NOTHING = {"no": 0, "none": 0, "nothing": 0}
_DIGITS_WITH_COMMAS = re.compile(r"\d{1,3}(?:,\d{3})+\b|\d+(?:\.\d+)?")


def parse_count(answer: str) -> int | None:
    """Read the one whole number of an answer, in digits or English words up to twenty.

    Returns:
        None if there is none, or if there are two different ones. "no" and "none" are 0 where
        there is no other number.
    """
    text = answer.lower()
    digits = [float(number.replace(",", "")) for number in _DIGITS_WITH_COMMAS.findall(text)]
    words = re.findall(r"[a-z]+", text)
    numbers = {*digits, *(float(NUMBER_WORDS[word]) for word in words if word in NUMBER_WORDS)}
    if not numbers and any(word in _NOTHING for word in words):
        return 0
    number = numbers.pop() if len(numbers) == 1 else None
    return int(number) if number is not None and number.is_integer() else None


def count_exact(answer: str, right: int) -> Score:
    """Score 1 for the right number and 0 for another."""
    return score_read(parse_count(answer), lambda said: said == right)


def count_off_by_one(answer: str, right: int) -> Score:
    """Score 1 for the right number and its neighbours, 0 for another."""
    return score_read(parse_count(answer), lambda said: abs(said - right) <= 1)


def count_rmse(answers: Sequence[str], right: Sequence[int]) -> tuple[float | None, Summary]:
    """Give the root mean squared error over the answers that name a number.

    Returns:
        The error in things counted, None if no answer could be read; and the summary of the
        squared errors, which says how many could.
    """
    said = [parse_count(answer) for answer in answers]
    squared = [
        UNREADABLE if number is None else Score(float((number - known) ** 2))
        for number, known in zip(said, right, strict=True)
    ]
    summary = summarise(squared)
    return (None if summary.mean is None else float(np.sqrt(summary.mean))), summary
