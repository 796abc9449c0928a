"""Multiple choice as benchmarks put it: options with letters below the question.

Items that are such a question hold among their facts `stem`, what is asked, `options`, their texts,
and `right`, the index of the correct one.
"""

from collections.abc import Sequence

from panovlm.evaluation.benchmarks.items import Item
from panovlm.metrics.choices import parse_choice
from panovlm.metrics.scores import Score, score_read

LETTERS = "ABCDEFGH"


def with_options(question: str, options: Sequence[str]) -> str:
    """Return a question with its options below it, each with its letter."""
    lettered = "\n".join(f"{LETTERS[place]}. {option}" for place, option in enumerate(options))
    return f"{question}\n{lettered}\nAnswer with the letter of the right option."


def score_choice(item: Item, answer: str) -> Score:
    """Score 1 if an answer names the correct option and 0 for another."""
    named = parse_choice(answer, item.facts["options"])
    return score_read(named, lambda option: option == item.facts["right"])
