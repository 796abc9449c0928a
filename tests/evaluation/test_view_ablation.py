"""The views that carry an answer are found, and placed by where their object is."""

from pathlib import Path

import pytest

from panovlm.evaluation.benchmarks.items import Item
from panovlm.evaluation.view_ablation import changed_by_view, view_ablation
from panovlm.geometry.layouts import ViewLayout
from panovlm.inference.views_mattered import view_shares

RING = ViewLayout.ring(num_views=4, fov_deg=120.0, view_size=32)


def item(yaw_deg: float | None) -> Item:
    return Item("1", Path("p.png"), "?", ("x",), "k", yaw_deg)


def test_only_other_answers_are_changes() -> None:
    assert changed_by_view("left", ["Left.", "back"]) == [False, True]


def test_an_answer_is_shared_out_among_the_views_that_change_it() -> None:
    assert view_shares([True, False, True, False]) == [0.5, 0, 0.5, 0]
    assert view_shares([False] * 4) is None


@pytest.mark.parametrize("yaw_deg", [0.0, 80.0, 170.0, -179.0, -100.0])
def test_offsets_follow_the_object_all_around(yaw_deg: float) -> None:
    facing = round(yaw_deg / 90) % 4
    changed = [view == facing for view in range(4)]
    facts = view_ablation([item(yaw_deg)], [changed], RING)
    assert facts["changed_by_offset"] == {"-90°": 0.0, "+0°": 1.0, "+90°": 0.0, "+180°": 0.0}
    assert facts["share_by_offset"]["+0°"] == 1.0


def test_shares_sum_to_one_over_the_answers_that_change() -> None:
    items = [item(0.0), item(90.0), item(None)]
    changed = [[True, True, False, False], [False] * 4, [True, False, False, False]]
    facts = view_ablation(items, changed, RING)
    assert facts["changed_by_any"] == pytest.approx(2 / 3)
    assert facts["share_by_offset"]["+0°"] == facts["share_by_offset"]["+90°"] == 0.5
    assert sum(facts["share_by_offset"].values()) == 1.0
