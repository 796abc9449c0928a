"""The training benchmark measures what it says, on models small enough for a test."""

import json

import pytest

import training
import training_sides
from panovlm.stages import STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_measured_in_every_way(stage, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training, "run_in_process", training_sides.measure)
    page = tmp_path / "page.md"
    page.write_text("<!-- training: written by the script -->\n<!-- training: end -->\n")
    out = tmp_path / "report.json"
    words = ["--json", out, "--docs", page, "--size", "tiny", "--steps", "2", "--threads", "1"]
    assert training.main([*map(str, words), "--batch-size", "1", "--only", stage]) == 0
    report = json.loads(out.read_text())
    ways = report["stages"][stage]
    assert list(ways) == list(training.WAYS)
    assert all(way["step_seconds"] > 0 and way["peak_mb"] > 0 for way in ways.values())
    assert "ours, default, warm: times as fast" in page.read_text()
    assert tuple(STAGES) == training.STAGES


def test_figures_are_set_against_those_wanted():
    slow = {"step_seconds": 8.0, "peak_mb": 900.0}
    fast = {"step_seconds": 2.0, "peak_mb": 300.0}
    ways = dict.fromkeys(training.WAYS, fast) | {"reference": slow}
    rows = training.criteria({"resampler": ways})
    verdicts = {row["claim"]: row["met"] for row in rows}
    assert verdicts["ours, equal tokens, warm: times as fast"]
    assert not verdicts["ours, default, warm: times as fast"]
    assert verdicts["ours, default, warm: share of memory"]


@pytest.mark.parametrize("tokens", training_sides.GRIDS)
def test_both_sides_say_as_many_tokens_as_their_configuration(tokens):
    config = training_sides.panovlm_config({"size": "tiny", "tokens": tokens})
    side = training_sides.GRIDS[tokens]
    assert config.num_image_tokens == (training_sides.RING_VIEWS + 1) * side * side
