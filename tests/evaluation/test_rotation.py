"""Being right under every turn and staying with one's answer are two things."""

from pathlib import Path

import pytest

from panovlm.data.records import Message, Record
from panovlm.evaluation.rotation import consistent_answers, rotation, turned_back
from panovlm.evaluation.scoring import Prediction
from panovlm.geometry.sphere import DIRECTIONS


def turned(rolled: list[str], said: list[str]) -> list[Prediction]:
    turns = (Message(role="user", content="?"), Message(role="assistant", content=rolled[0]))
    record = Record(image=Path("p.png"), messages=turns, rolled_responses=tuple(rolled))
    step = len(rolled) // len(said)
    return [Prediction(record, answer, step * i) for i, answer in enumerate(said)]


# An object to the front is to the left once the camera has turned right by 90 degrees.
TRUE = [DIRECTIONS[-i % 8] for i in range(8)]
SHIFTED = [DIRECTIONS[(1 - i) % 8] for i in range(8)]


def test_answers_are_turned_back_by_their_direction_words_alone() -> None:
    assert turned_back("left", 2) == "front"
    assert turned_back("Front-left to back: red cone.", 1) == "front to back-left: red cone"
    assert turned_back("backwards, leftover", 3) == "backwards, leftover"
    assert [turned_back(word, i) for i, word in enumerate(TRUE)] == ["front"] * 8


def test_a_model_that_is_right_under_every_turn_is_consistent() -> None:
    facts = rotation([turned(TRUE, TRUE)])
    assert (facts["rolls"], facts["right_every"], facts["consistent"]) == (8, 1.0, 1.0)
    assert facts["by_turn"]["315°"] == 1.0


def test_a_model_may_be_consistent_and_wrong() -> None:
    facts = rotation([turned(TRUE, SHIFTED)])
    assert (facts["right_every"], facts["consistent"], facts["agreement"]) == (0.0, 1.0, 1.0)


def test_one_wrong_turn_breaks_both() -> None:
    facts = rotation([turned(TRUE, [*TRUE[:7], "back"]), turned(TRUE, TRUE)])
    assert (facts["right_every"], facts["consistent"]) == (0.5, 0.5)
    assert facts["agreement"] == pytest.approx((21 + 28) / 56)  # 7 turns agree in 21 pairs of 28
    assert facts["by_turn"]["0°"] == 1.0
    assert facts["by_turn"]["315°"] == 0.5


def test_questions_about_a_place_are_not_compared_with_themselves() -> None:
    what = turned(["cone", "nothing", "cube", "nothing"], ["cone", "nothing", "cube", "nothing"])
    assert consistent_answers(what) is None
    facts = rotation([what])
    assert facts["right_every"] == 1.0
    assert "consistent" not in facts


def test_turns_between_the_eight_directions_are_not_compared() -> None:
    three = turned(["yes"] * 3, ["yes"] * 3)
    assert consistent_answers(three) is None
