"""The views that carry an answer are found, and placed by where their object is."""

from pathlib import Path

import pytest

from panovlm.data.records import Message, Record
from panovlm.evaluation.scoring import Prediction
from panovlm.evaluation.view_ablation import changes, view_ablation
from panovlm.geometry.layouts import ViewLayout
from panovlm.inference.views_mattered import view_shares

RING = ViewLayout.ring(num_views=4, fov_deg=120.0, view_size=32)
TURNS = (Message(role="user", content="?"), Message(role="assistant", content="x"))


def prediction(yaw_deg: float | None, answer: str = "x") -> Prediction:
    return Prediction(Record(image=Path("p.png"), messages=TURNS, yaw_deg=yaw_deg), answer)


def test_only_other_answers_are_changes() -> None:
    whole = [prediction(0.0, "left"), prediction(0.0, "right")]
    without = [[prediction(0.0, "Left."), prediction(0.0, "back")]]
    assert changes(whole, without) == [[False], [True]]


def test_an_answer_is_shared_out_among_the_views_that_change_it() -> None:
    assert view_shares([True, False, True, False]) == [0.5, 0, 0.5, 0]
    assert view_shares([False] * 4) is None


@pytest.mark.parametrize("yaw_deg", [0.0, 80.0, 170.0, -179.0, -100.0])
def test_offsets_follow_the_object_all_around(yaw_deg: float) -> None:
    facing = round(yaw_deg / 90) % 4
    changed = [view == facing for view in range(4)]
    facts = view_ablation([prediction(yaw_deg)], [changed], RING)
    assert facts["changed_by_offset"] == {"-90°": 0.0, "+0°": 1.0, "+90°": 0.0, "+180°": 0.0}
    assert facts["share_by_offset"]["+0°"] == 1.0


def test_shares_sum_to_one_over_the_answers_that_change() -> None:
    whole = [prediction(0.0), prediction(90.0), prediction(None)]
    changed = [[True, True, False, False], [False] * 4, [True, False, False, False]]
    facts = view_ablation(whole, changed, RING)
    assert facts["changed_by_any"] == pytest.approx(2 / 3)
    assert facts["share_by_offset"]["+0°"] == facts["share_by_offset"]["+90°"] == 0.5
    assert sum(facts["share_by_offset"].values()) == 1.0
