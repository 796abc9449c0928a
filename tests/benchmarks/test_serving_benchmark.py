"""The benchmark of the server measures what it says, on a model small enough for a test."""

import json

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

import serving


def test_both_servers_are_measured_and_nothing_is_lost(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- serving: written by the script -->\n<!-- serving: end -->\n")
    out = tmp_path / "report.json"
    words = ["--json", out, "--docs", page, "--size", "tiny", "--clients", "3", "--width", "128"]
    assert serving.main([*map(str, words), "--seconds", "0.5", "--repeats", "1"]) == 0
    report = json.loads(out.read_text())
    assert list(report["sides"]) == list(serving.SIDES)
    for side in report["sides"].values():
        assert side["requests"] >= 3
        assert side["lost"] == 0
        assert 0 < side["p50_s"] <= side["p99_s"]
        assert min([*side["memory_mb"].values(), *side["first_token"].values()]) > 0
    assert "answers a second, ÷ one at a time" in page.read_text()


def test_figures_are_set_against_those_wanted():
    side = {
        "answers_per_s": 2.0,
        "lost": 0,
        "memory_mb": {"start": 50.0, "first_half": 100.0, "second_half": 120.0, "end": 50.0},
        "first_token": {"first": 1.0, "second": 0.1},
    }
    rows = serving.criteria({serving.OURS: side | {"answers_per_s": 9.5}, serving.ALONE: side})
    assert [row["met"] for row in rows] == [True, True, False, True]
