"""The option that an answer names is read, or none is."""

import pytest

from panovlm.metrics.choices import every_order_right, parse_choice
from panovlm.metrics.scores import UNREADABLE, Score

OPTIONS = ("They are behind.", "They are left.", "Three", "Four")


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        ("B", 1),
        (" (b). ", 1),
        ("D.", 3),
        ("A. They are behind.", 0),
        ("They are left", 1),
        ("three.", 2),
        ("The answer is C", 2),
        ("<think>A or B?</think><answer>d</answer>", 3),
        ("Answer: (B)", 1),
        ("**B**", 1),
        ("The answer is **B**.", 1),
        ("\\boxed{B}", 1),
        ("B. They are left.\nThe chairs stand there.", 1),
        ("B: because of the door", 1),
        ("The answer is B because they are there", 1),
        ("The correct answer is option C.", 2),
        ("The answer is three.", 2),
        ("The answer is a three", 2),
        ("Let me see.\n\n(D)", 3),
        ("<think>A or B?</think>C", 2),
        ("A. They are behind.\nB. They are left.\nAnswer: B", 1),
        ("Option B", 1),
        ("I think it's B because of the door", 1),
        ("It is three.", 2),
        ("B - they are left", 1),
        ("B is correct.", 1),
        ("“B”", 1),
        ("__B__", 1),
    ],
)
def test_a_choice_is_read(answer: str, place: int) -> None:
    assert parse_choice(answer, OPTIONS) == place


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "E",
        "A or B",
        "A, B",
        "Both A and B",
        "The answer is A or B",
        "Option: B or C",
        "The answer is a dog",
        "The answer is not A.",
        "The answer is A. No, the answer is B",
        "A. They are left.",
        "They",
        "A dog",
        "It is a",
        "B is wrong",
        "I think it's A or B",
    ],
)
def test_a_choice_is_not_guessed(answer: str) -> None:
    assert parse_choice(answer, OPTIONS) is None


def test_every_order_must_be_right() -> None:
    right, wrong = Score(1.0), Score(0.0)
    scores = [right, right, right, wrong, right, UNREADABLE]
    groups = every_order_right(scores, ["a", "a", "b", "b", "c", "c"])
    assert {name: score.value for name, score in groups.items()} == {"a": 1.0, "b": 0.0, "c": 0.0}
