"""A whole evaluation: every answer is in the report, and a killed one ends with the same report."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from panovlm.errors import PanoVLMError
from panovlm.evaluation.asking import EvaluationOptions
from panovlm.evaluation.run import evaluate
from panovlm.inference.answerer import Answerer

OPTIONS = EvaluationOptions("all", num_yaw_rotated=2, num_ablated=2, seeds=2)
OF_THE_START = ("seconds_evaluation", "seconds_total", "peak_memory_mb")


def figures(out: Path) -> dict[str, Any]:
    report = json.loads(out.read_text())
    return {key: value for key, value in report.items() if key not in OF_THE_START}


def test_the_report_holds_every_answer_with_all_that_was_asked(
    saved_model: Path, scenes_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "report.json"
    report = evaluate(saved_model, scenes_file, out, options=OPTIONS)
    rows = json.loads(out.read_text())["predictions"]
    assert len(rows) == report["score"]["count"] == len(scenes_file.read_text().splitlines())
    assert report["score"]["mean"] == sum(row["score"] or 0.0 for row in rows) / len(rows)
    assert report["score"]["interval"]["low"] is None  # of three panoramas
    assert set(report["baselines"]) == set(report["better_than"]) == set(rows[0]["baselines"])
    assert set(report["baselines"]) == {"blind", "single_view", "low_resolution"}
    rotated = [row for row in rows if "yaw_rotated" in row]
    assert len(rotated) == report["yaw_rotated"]["right_every"]["count"]
    assert all(len(row["yaw_rotated"]) == 4 for row in rotated)
    assert all(row["yaw_rotated"][0]["answer"] == row["answer"] for row in rotated)
    ablated = [row for row in rows if "changed_by_view" in row]
    assert len(ablated) == report["view_ablation"]["count"]
    assert [each["seed"] for each in report["seeds"]] == [0, 1]
    assert [path.name for path in sorted(out.parent.iterdir())] == ["report.html", "report.json"]


@pytest.mark.parametrize("calls", [1, 3, 6])
def test_a_killed_evaluation_goes_on_and_ends_with_the_same_report(
    saved_model: Path,
    scenes_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    calls: int,
) -> None:
    whole, out = tmp_path / "whole.json", tmp_path / "killed.json"
    evaluate(saved_model, scenes_file, whole, options=OPTIONS)
    original, asked = Answerer.__call__, []

    def dies(self, prompts, progress):
        asked.append(len(prompts))
        if len(asked) > calls:
            raise KeyboardInterrupt
        return original(self, prompts, progress)

    monkeypatch.setattr(Answerer, "__call__", dies)
    with pytest.raises(KeyboardInterrupt):
        evaluate(saved_model, scenes_file, out, options=OPTIONS)
    assert not out.exists()
    monkeypatch.setattr(Answerer, "__call__", original)
    evaluate(saved_model, scenes_file, out, options=OPTIONS)
    assert figures(out) == figures(whole)


def test_seeds_change_what_is_sampled_and_no_answer(
    saved_model: Path, scenes_file: Path, tmp_path: Path
) -> None:
    one = evaluate(saved_model, scenes_file, tmp_path / "1.json", options=replace(OPTIONS, seeds=1))
    two = evaluate(saved_model, scenes_file, tmp_path / "2.json", options=OPTIONS)
    assert one["score"] == two["score"]
    assert one["seeds"] == two["seeds"][:1]
    assert (one["yaw_rotated"]["score"]["count"], two["yaw_rotated"]["score"]["count"]) == (6, 12)


def test_unknown_baselines_are_named(saved_model: Path, scenes_file: Path, tmp_path: Path) -> None:
    with pytest.raises(PanoVLMError, match="found --baselines some, expected none, blind, all"):
        evaluate(saved_model, scenes_file, tmp_path / "r.json", options=EvaluationOptions("some"))
