"""Honest clients lose nothing beside hostile ones, and the benchmark tells what each side took."""

import json

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("llguidance")

import hostile


def test_nothing_of_honest_clients_is_lost_beside_hostile_ones(tmp_path, capsys):
    out = tmp_path / "report.json"
    words = ["--json", out, "--size", "tiny", "--clients", "3", "--hostile", "5", "--width", "128"]
    assert hostile.main([*map(str, words), "--seconds", "2"]) == 0
    report = json.loads(out.read_text())
    assert report["lost"] == 0
    assert report["p99_ratio"] > 0
    alone, beside = report["sides"].values()
    assert not alone["attacks"]
    assert min(alone["requests"], beside["requests"]) >= 3
    replies = {name.rpartition(": ")[0]: name.rpartition(": ")[2] for name in beside["attacks"]}
    assert set(replies) == set(hostile.ATTACKS)
    assert not any(status.startswith("5") for status in replies.values())
    assert replies["huge_text"] == "400"
    assert "lost beside hostile clients" in capsys.readouterr().out
