"""Multiple choice as benchmarks put it: options with letters below the question.

Items that are such a question hold among their facts `stem`, what is asked, `options`, their texts,
and `right`, the place of the right one or None.
"""

import re
from collections.abc import Sequence

from panovlm.evaluation.benchmarks.items import Item
from panovlm.metrics.choices import parse_choice
from panovlm.metrics.scores import NO_REFERENCE, Score, score_read

LETTERS = "ABCDEFGH"
_LETTERED = re.compile(r"\(?[A-Ha-h][.):]\s+(?=\S)")


def with_options(question: str, options: Sequence[str]) -> str:
    """Put a question with its options below it, each with its letter."""
    lettered = "\n".join(f"{LETTERS[place]}. {option}" for place, option in enumerate(options))
    return f"{question}\n{lettered}\nAnswer with the letter of the right option."


def without_letter(option: str) -> str:
    """Give an option without the letter it may begin with, as in "A. left"."""
    return _LETTERED.sub("", option.strip(), count=1)


def place_of(right: str, options: Sequence[str]) -> int | None:
    """Find the option that a letter or a text names; None if it is none of them, or two."""
    letter, said = right.strip("().: ").upper(), right.strip().lower()
    if len(letter) == 1 and 0 <= (place := LETTERS.find(letter)) < len(options):
        return place
    plain = [option.strip().lower() for option in options]
    return plain.index(said) if plain.count(said) == 1 else None


def score_choice(item: Item, answer: str) -> Score:
    """Score 1 if an answer names the right option and 0 for another."""
    right = item.facts["right"]
    if right is None:
        return NO_REFERENCE
    return score_read(parse_choice(answer, item.facts["options"]), lambda said: said == right)
