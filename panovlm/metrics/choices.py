"""Multiple choice: which option an answer names, read strictly; options in every order."""

import re
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import TypeVar

from panovlm.metrics.exact_match import normalised
from panovlm.metrics.scores import NO_REFERENCE, Score

Question = TypeVar("Question", bound=Hashable)

_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_STATED = re.compile(
    r"(?:answer|option|choice)\s*(?:is\s*:?|:)\s*\(?([A-Z])\)?(?![A-Za-z])", re.IGNORECASE
)
_LONE = re.compile(r"\(?([A-Za-z])\)?[.:]?")
_LABELLED = re.compile(r"\(?([A-Z])(?:[.:)]\s*|\)\s*)(\S.*)", re.DOTALL)


def parse_choice(answer: str, options: Sequence[str]) -> int | None:
    """Read which option an answer names.

    What is inside `<answer>` counts alone where it is there. Then, in this order: a letter and
    nothing else; a letter before the text of its option; a letter after "answer is"; the text of
    one option and nothing else. Case, outer space and a final stop do not matter.

    Args:
        answer: What was said.
        options: Texts of the options without their letters; the first is A.

    Returns:
        Index into `options`; None where no rule reads one, or the rules contradict themselves.
    """
    tagged = _TAGGED.findall(answer)
    said = (tagged[-1] if tagged else answer).strip()
    if lone := _LONE.fullmatch(said):
        return _index(lone[1], len(options))
    if labelled := _LABELLED.fullmatch(said):
        named = _index(labelled[1], len(options))
        if named is not None and normalised(labelled[2]) == normalised(options[named]):
            return named
    stated = {letter.upper() for letter in _STATED.findall(said)}
    if stated:
        return _index(stated.pop(), len(options)) if len(stated) == 1 else None
    same = [place for place, option in enumerate(options) if normalised(option) == normalised(said)]
    return same[0] if len(same) == 1 else None


def every_order_right(
    scores: Sequence[Score], questions: Sequence[Question]
) -> dict[Question, Score]:
    """Score each question 1 only if it was answered correctly every time it was asked.

    Args:
        scores: 1 or 0 for each time it was asked; an unreadable answer is not a correct one.
        questions: Which question each score belongs to.

    Source:
        "Circular evaluation": MMBench, Liu et al., ECCV 2024.
    """
    asked: dict[Question, list[Score]] = defaultdict(list)
    for score, question in zip(scores, questions, strict=True):
        if score != NO_REFERENCE:
            asked[question].append(score)
    return {
        question: Score(float(all(score.value == 1.0 for score in each)))
        for question, each in asked.items()
    }


def _index(letter: str, num_options: int) -> int | None:
    place = ord(letter.upper()) - ord("A")
    return place if place < num_options else None
