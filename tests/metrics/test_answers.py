"""Choices, numbers and VQA answers are read as the official rules say, or not at all."""

import json
from pathlib import Path

import pytest

from panovlm.metrics.choices import every_order_right, parse_choice
from panovlm.metrics.counts import count_exact, count_off_by_one, count_rmse, parse_count
from panovlm.metrics.scores import NO_REFERENCE, UNREADABLE, Score
from panovlm.metrics.vqa import normalise_answer, vqa_accuracy

GOLDEN = json.loads((Path(__file__).parent / "golden" / "vqa.json").read_text())
OPTIONS = ("They are behind.", "They are left.", "Three", "Four")


def test_answers_are_normalised_as_the_official_evaluation_does() -> None:
    for text, normalised in GOLDEN["normalised"]:
        assert normalise_answer(text) == normalised


def test_vqa_accuracy_is_the_official_mean_over_all_but_one() -> None:
    # Three of ten say so: each of them sees two others (2/3), the other seven see three (1).
    references = ["two"] * 3 + ["Three."] * 7
    assert vqa_accuracy("2", references).value == pytest.approx((3 * 2 / 3 + 7) / 10)
    assert vqa_accuracy("The 2!", references) == vqa_accuracy("2", references)
    assert vqa_accuracy("3", references).value == 1.0
    assert vqa_accuracy("dont", ["don't"] * 10).value == 1.0


def test_with_few_references_one_that_agrees_is_enough() -> None:
    assert vqa_accuracy("a chair", ["chair"]).value == 1.0
    assert vqa_accuracy("table", ["chair", "sofa"]).value == 0.0
    assert vqa_accuracy(" the ", ["chair"]) == UNREADABLE
    assert vqa_accuracy("chair", []) == NO_REFERENCE


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
        "The answer is A. No, the answer is B",
        "A. They are left.",
        "They",
        "A dog",
    ],
)
def test_a_choice_is_not_guessed(answer: str) -> None:
    assert parse_choice(answer, OPTIONS) is None


def test_every_order_must_be_right() -> None:
    right, wrong = Score(1.0), Score(0.0)
    scores = [right, right, right, wrong, right, UNREADABLE]
    groups = every_order_right(scores, ["a", "a", "b", "b", "c", "c"])
    assert {name: score.value for name, score in groups.items()} == {"a": 1.0, "b": 0.0, "c": 0.0}


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("3", 3),
        ("There are three chairs.", 3),
        ("1,200", 1200),
        ("none", 0),
        ("No chairs", 0),
        ("seventeen", 17),
        ("2.0", 2),
        ("3 chairs, three in all", 3),
        ("3 or 4", None),
        ("many", None),
        ("2.5", None),
        ("someone", None),
        ("", None),
    ],
)
def test_one_whole_number_is_read_or_none(answer: str, number: int | None) -> None:
    assert parse_count(answer) == number


def test_counts_are_scored_exactly_nearly_and_by_their_error() -> None:
    assert (count_exact("3", 4).value, count_off_by_one("3", 4).value) == (0.0, 1.0)
    assert count_off_by_one("2", 4).value == 0.0
    assert count_exact("many", 4) == UNREADABLE
    error, summary = count_rmse(["3", "5", "many"], [3, 1, 7])
    assert error == pytest.approx((16 / 2) ** 0.5)
    assert (summary.count, summary.scored) == (3, 2)
    assert count_rmse(["many"], [1])[0] is None
