"""Being correct under every yaw rotation and always giving the same answer are two things."""

from pathlib import Path
from typing import Any

import pytest
from record_predictions import predict

from panovlm.data.records import Message, Record
from panovlm.evaluation.benchmarks.records import RECORDS
from panovlm.evaluation.rotation import consistent_answers, rotated_back, rotation
from panovlm.evaluation.scoring import Prediction
from panovlm.geometry.sphere import DIRECTIONS


def rotated(correct: list[str], answers: list[str]) -> list[Prediction]:
    messages = (Message(role="user", content="?"), Message(role="assistant", content=correct[0]))
    record = Record(image=Path("p.png"), messages=messages, rolled_responses=tuple(correct))
    step_deg = 360 / len(answers)
    return [predict(record, answer, step_deg * i) for i, answer in enumerate(answers)]


def shares(facts: dict[str, Any]) -> tuple[float, float]:
    """How many are correct under every rotation, and how many consistent."""
    return facts["right_every"]["mean"], facts["consistent"]["mean"]


# An object to the front is to the left once the camera has turned right by 90 degrees.
TRUE = [DIRECTIONS[-i % 8] for i in range(8)]
SHIFTED = [DIRECTIONS[(1 - i) % 8] for i in range(8)]


def test_answers_are_rotated_back_by_their_direction_words_alone() -> None:
    assert rotated_back("left", 2) == "front"
    assert rotated_back("Front-left to back: red cone.", 1) == "front to back-left: red cone"
    assert rotated_back("backwards, leftover", 3) == "backwards, leftover"
    assert [rotated_back(word, i) for i, word in enumerate(TRUE)] == ["front"] * 8


def test_a_model_that_is_correct_under_every_rotation_is_consistent() -> None:
    facts = rotation(RECORDS, [rotated(TRUE, TRUE)])
    assert shares(facts) == (1.0, 1.0)
    assert [each["mean"] for each in facts["by_rotation"].values()] == [1.0] * 8


def test_a_model_may_be_consistent_and_wrong() -> None:
    facts = rotation(RECORDS, [rotated(TRUE, SHIFTED)])
    assert (*shares(facts), facts["agreement"]) == (0.0, 1.0, 1.0)


def test_one_wrong_rotation_breaks_both() -> None:
    facts = rotation(RECORDS, [rotated(TRUE, [*TRUE[:7], "back"]), rotated(TRUE, TRUE)])
    assert shares(facts) == (0.5, 0.5)
    # 7 rotations agree in 21 pairs of 28.
    assert facts["agreement"] == pytest.approx((21 + 28) / 56)
    assert facts["by_rotation"]["0°"]["mean"] == 1.0
    assert facts["by_rotation"]["315°"]["mean"] == 0.5
    assert facts["score"]["mean"] == pytest.approx(13 / 14)  # the unrotated left out


def test_questions_about_a_place_are_not_compared_with_themselves() -> None:
    what = rotated(["cone", "nothing", "cube", "nothing"], ["cone", "nothing", "cube", "nothing"])
    assert consistent_answers(what) is None
    facts = rotation(RECORDS, [what])
    assert facts["right_every"]["mean"] == 1.0
    assert "consistent" not in facts


def test_rotations_between_the_eight_directions_are_not_compared() -> None:
    three = rotated(["yes"] * 3, ["yes"] * 3)
    assert consistent_answers(three) is None
