"""A card says what the run left on disk, and where it says nothing, nothing was kept."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from panovlm.errors import PanoVLMError
from panovlm.exporting.card import write_card

RESULT = {"stage": "finetune", "loss_first": 3.25, "loss_last": 0.75, "seconds": 60.0}
SCORE = {"mean": 0.8125, "count": 16, "interval": {"low": 0.7, "high": 0.9}}


@pytest.fixture
def run(tmp_path: Path, scenes_file: Path) -> Path:
    folder = tmp_path / "my-run"
    (folder / "finetune").mkdir(parents=True)
    config = {"architectures": ["PanoVLMForConditionalGeneration"]}
    (folder / "finetune" / "config.json").write_text(json.dumps(config))
    facts: dict[str, Any] = {
        "records": "0" * 64,
        "model": {
            "vision_encoder": "google/siglip2-base-patch16-224",
            "language_model": "/home/someone/models/secret-lm",
            "views": {"num_views": 8, "fov_deg": 90.0, "view_size": 224},
        },
        "section": {"data": str(scenes_file), "steps": 5},
        "seed": 3,
        "dtype": "auto",
        "result": {**RESULT, "peak_memory_mb": 900.0},
    }
    (folder / "finetune" / "stage.json").write_text(json.dumps(facts))
    return folder


def card_of(run: Path, **options: Any) -> tuple[dict[str, Any], str]:
    text = write_card(run, **{"licence": None} | options).read_text()
    _, block, body = text.split("---\n", 2)
    return yaml.safe_load(block), body


def test_the_block_names_what_the_hub_asks_for_and_no_licence_it_does_not_know(run: Path) -> None:
    block, body = card_of(run)
    assert block["base_model"] == ["google/siglip2-base-patch16-224"]
    assert (block["library_name"], block["pipeline_tag"]) == ("transformers", "image-text-to-text")
    assert "license" not in block and "No licence is stated" in body
    assert "model-index" not in block and "Not evaluated" in body
    assert card_of(run, licence="apache-2.0")[0]["license"] == "apache-2.0"


def test_stage_figures_are_those_of_the_run(run: Path) -> None:
    assert "| `finetune` | 3.25 | 0.75 | 0.5–1.5 | 60 | 900 |" in card_of(run)[1]


def test_figures_of_the_report_stand_in_table_and_block(run: Path) -> None:
    report = {
        "score": SCORE,
        "by_kind": {"direction": SCORE},
        "settings": {"data": "data/scenes/test.jsonl"},
    }
    (run / "report.json").write_text(json.dumps(report))
    block, body = card_of(run)
    assert block["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.8125
    assert "| **all** | 81.2 % | 70.0–90.0 | 16 |" in body


def test_folders_of_the_machine_are_not_told(run: Path, scenes_file: Path) -> None:
    block, body = card_of(run)
    assert "/home/someone" not in body + str(block)
    assert str(scenes_file.parent) not in body
    assert "`secret-lm` (a local folder)" in body


def test_data_that_changed_since_is_told(run: Path) -> None:
    assert "no longer there as it was trained on" in card_of(run)[1]


def test_files_of_a_mixture_are_each_named(run: Path, scenes_file: Path) -> None:
    file = run / "finetune" / "stage.json"
    facts = json.loads(file.read_text())
    facts["section"]["data"] = [{"path": str(scenes_file), "weight": 2}, {"path": "data/own.jsonl"}]
    facts["records"] = "1" * 64 + "," + "2" * 64
    file.write_text(json.dumps(facts))
    body = card_of(run)[1]
    both = f"`{scenes_file.name}`, `own.jsonl`, SHA-256 `{'1' * 64}`, `{'2' * 64}`"
    assert both in body
    assert "path: data/own.jsonl" in body and str(scenes_file.parent) not in body


def test_a_readme_written_by_hand_is_kept(run: Path) -> None:
    (run / "README.md").write_text("Mine.")
    with pytest.raises(PanoVLMError, match=r"README\.md: found a file that PanoVLM did not write"):
        card_of(run)
    assert (run / "README.md").read_text() == "Mine."
    (run / "README.md").unlink()
    card_of(run)
    assert card_of(run, licence="mit")[0]["license"] == "mit"  # its own card it replaces


def test_folders_and_reports_that_are_none_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(PanoVLMError, match="no answering model"):
        write_card(tmp_path, licence=None)
    (run / "report.json").write_text("[]")
    with pytest.raises(PanoVLMError, match=r"report\.json is no report"):
        card_of(run)
    (run / "finetune" / "stage.json").unlink()
    with pytest.raises(PanoVLMError, match="no finished stage"):
        card_of(run)
