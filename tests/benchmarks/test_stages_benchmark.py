"""The comparison of a run's stages: each that answers is evaluated, on listings and questions."""

import json
from pathlib import Path

import pytest

import stages

MARKERS = "<!-- stages: written by the script -->\n<!-- stages: end -->\n"


@pytest.fixture
def arguments(saved_model: Path, scenes_file: Path, tmp_path: Path) -> list[str]:
    run, page, listings = tmp_path / "run", tmp_path / "page.md", tmp_path / "listings.jsonl"
    run.mkdir()
    saved_model.rename(run / "finetune")
    page.write_text(MARKERS)
    record = json.loads(scenes_file.read_text().splitlines()[0])
    record["image"] = str(scenes_file.parent / record["image"])
    record["messages"][-1]["content"] = "front: red cube 3 m\nright: nothing"
    del record["rolled_responses"]
    listings.write_text(json.dumps(record) + "\n")
    files = ["--data", str(scenes_file), "--listings", str(listings), "--docs", str(page)]
    return [str(run), *files, "--limit", "3", "--limit-listings", "2", "--yaw-rotated", "1"]


def test_each_stage_that_answers_has_a_row(arguments: list[str], tmp_path: Path) -> None:
    assert stages.main(arguments) == 0
    page = (tmp_path / "page.md").read_text()
    assert "| `finetune` |" in page
    assert "| `resampler` |" not in page
    header, row = (
        line.split("|") for line in page.splitlines() if line.count("|") > 4 and "--" not in line
    )
    assert len(header) == len(row) == len(stages.HEADER) + 2
    written = {path.name for path in (tmp_path / "run").glob("*.json")}
    assert written == {"finetune_listings.json", "finetune_questions.json"}


def test_a_folder_without_stages_is_refused(tmp_path: Path, capsys) -> None:
    files = ["--data", "a.jsonl", "--listings", "b.jsonl"]
    assert stages.main([str(tmp_path), *files]) == 2
    assert "train it first" in capsys.readouterr().err
