"""The benchmark of hostile clients tells what each side took."""

import json

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("llguidance")

import hostile


def test_the_report_tells_what_honest_clients_lost_and_what_hostile_ones_were_told(
    tmp_path, capsys
):
    out = tmp_path / "report.json"
    words = ["--json", out, "--size", "tiny", "--clients", "3", "--hostile", "5", "--width", "128"]
    assert hostile.main([*map(str, words), "--seconds", "2"]) == 0
    report = json.loads(out.read_text())
    assert report["p99_ratio"] > 0
    alone, beside = report["sides"].values()
    assert alone["lost"] == 0 and not alone["attacks"]
    assert report["lost"] == beside["lost"] == 0
    assert min(alone["requests"], beside["requests"]) >= 3
    replies = [name.rpartition(": ") for name in beside["attacks"]]
    assert {attack for attack, _, _ in replies} == set(hostile.ATTACKS)
    assert not any(status.startswith("5") for _, _, status in replies)
    assert {status for attack, _, status in replies if attack == "huge_text"} <= {"400", "429"}
    assert "lost beside hostile clients" in capsys.readouterr().out
