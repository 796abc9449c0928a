"""Multiple choice: which option an answer names, read strictly; options in every order."""

import re
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import TypeVar

from panovlm.metrics.exact_match import normalised
from panovlm.metrics.scores import NO_REFERENCE, Score

Question = TypeVar("Question", bound=Hashable)

_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_THOUGHT = re.compile(r"<think>.*?</think>", re.IGNORECASE | re.DOTALL)
_MARKUP = re.compile(r"[*`$]|\\boxed|\\text|[{}]")
_LEAD = re.compile(
    r"\b(?:answer|option|choice)\s*(?:is\s*:?|:)\s*(?:(?:option|choice)\b)?", re.IGNORECASE
)
_LONE = re.compile(r"[(\[]?([A-Za-z])[)\]]?[.:,。]?")
_LEAD_IN = re.compile(
    r"(?:i\s+(?:think|believe|choose|would\s+say)\s+(?:that\s+)?)?"
    r"(?:(?:it|this|that)(?:\s+is|'s)\s+)?(?:(?:the\s+)?(?:option|choice|answer)\s+)?(?!a$)",
    re.IGNORECASE,
)
_REASON = r"because|since|as|is\s+(?:the\s+)?(?:correct|right|best|answer)"
_LETTER = re.compile(
    rf"\(?([A-Z])(?:[.:)]+|\s+[-–—](?=\s)|(?=\s+(?:{_REASON})\b)|(?=[,;]|$))\s*(.*)"
)
_ALTERNATIVE = re.compile(r"(?:,|,?\s*(?:or|and|/|&))\s*\(?[A-Z]\b")
_DRESS = " \t\n_\"'“”‘’"
"""What may stand around an answer and says nothing."""
_ARTICLE = re.compile(r"^(?:the|an|a)\s+", re.IGNORECASE)


def parse_choice(answer: str, options: Sequence[str]) -> int | None:
    """Read which option an answer names.

    What is inside `<answer>` counts alone where it is there, and what is inside `<think>` never.
    Read are what stands after "answer is" or "answer:", else the first and the last line: as a
    letter alone; as a letter with a mark behind it, before its own text or a reason; as the text of
    one option; each also behind "it is", "I think it's" or "option". Case of texts, articles before
    them, bold letters, quotes, outer space and a final stop do not matter; the article "a" is no
    option.

    Args:
        answer: What the model said.
        options: Texts of the options without their letters; the first is A.

    Returns:
        Index into `options`; None where no rule reads one, or two are named.
    """
    tagged = _TAGGED.findall(answer)
    text = _MARKUP.sub("", tagged[-1] if tagged else _THOUGHT.sub("", answer)).strip(_DRESS)
    _, *stated = _LEAD.split(text)
    lines = [line for line in text.splitlines() if line.strip()] or [""]
    parts = [each.strip().split("\n")[0] for each in stated] or [text, lines[0], lines[-1]]
    plain = [part.strip() for part in parts]
    named = {place for part in plain for place in _named(part, options)} or {
        place for part in plain for place in _named(_LEAD_IN.sub("", part, 1), options)
    }
    return named.pop() if len(named) == 1 else None


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


def _named(text: str, options: Sequence[str]) -> set[int]:
    """Return the options that a line names: none, one, or two where it contradicts itself."""
    same = {place for place, option in enumerate(options) if _plain(option) == _plain(text)}
    if same:
        return same if len(same) == 1 else set()
    if lone := _LONE.fullmatch(text):
        return _places(lone[1], options)
    letter = _LETTER.match(text)
    if not letter or _ALTERNATIVE.match(letter[2]):
        return set()
    others = {place for place, option in enumerate(options) if _plain(option) == _plain(letter[2])}
    return _places(letter[1], options) | others


def _plain(text: str) -> str:
    return _ARTICLE.sub("", normalised(text))


def _places(letter: str, options: Sequence[str]) -> set[int]:
    place = ord(letter.upper()) - ord("A")
    return {place} if place < len(options) else set()
