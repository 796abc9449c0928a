"""The table about real panoramas: each figure is what its name says, and every side is asked."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

import real
from real import MEASURES, AnsweredQuestion

MARKERS = "<!-- real: written by the script -->\n<!-- real: end -->\n"
LISTING = "front: car\nright: nothing\nback: car, dog"


def asked(kind: str, *truths: tuple[str, float | None], answers: Sequence[str]) -> dict:
    """The row of some questions of a kind, each about a panorama of its own."""
    questions = [
        AnsweredQuestion(str(number), kind, expected, yaw_deg, dict.fromkeys(real.SIDES, answer))
        for number, ((expected, yaw_deg), answer) in enumerate(zip(truths, answers, strict=True))
    ]
    return real._measured(questions, kind)


def mean_of(row: dict, side: str = "model") -> float:
    return row["scores"][side]["mean"]


def test_where_counts_directions_within_45_degrees() -> None:
    truths = [("front", 10.0), ("right", 100.0), ("left", -90.0), ("back", 180.0)]
    row = asked("direction", *truths, answers=["front", "back", "front-left", "no idea"])
    assert mean_of(row) == 0.5
    assert mean_of(row, "best constant") == 0.5  # two of them lie within a quarter


def test_existence_weighs_yes_and_no_alike() -> None:
    truths = [("yes", None)] * 3 + [("no", None)]
    row = asked("existence", *truths, answers=["yes", "Yes.", "yes", "yes"])
    assert mean_of(row) == mean_of(row, "best constant") == 0.5
    assert mean_of(asked("existence", *truths, answers=["yes", "no", "no", "no"])) == pytest.approx(
        (1 / 3 + 1) / 2
    )


def test_listings_are_scored_by_their_labels_and_a_constant_listing_too() -> None:
    right = asked("listing", (LISTING, None), (LISTING, None), answers=[LISTING, LISTING])
    assert mean_of(right) == mean_of(right, "best constant") == 1.0
    assert "back: car, dog" in right["constant"] or "back: dog, car" in right["constant"]
    half = asked("listing", (LISTING, None), answers=["front: car, bus\nback: cat"])
    assert mean_of(half) == pytest.approx(2 / 6)


def test_hotspots_that_nobody_can_read_count_as_guesses() -> None:
    truths = [("", 0.0), ("", 90.0)]
    row = asked(real.HOTSPOT, *truths, answers=["front", "sure"])
    assert mean_of(row) == 45.0
    assert mean_of(row, "best constant") == 45.0
    assert MEASURES[real.HOTSPOT].unit.name == row["unit"] == "degrees"


def test_everything_is_asked_of_every_side_and_stands_in_one_table(
    saved_model: Path, scenes_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = scenes_file.parent / "0.png"
    listings, hotspots, page = (tmp_path / name for name in ("l.jsonl", "h.jsonl", "page.md"))
    record = json.loads(scenes_file.read_text().splitlines()[0]) | {"kind": "listing"}
    record["image"], record["messages"][-1]["content"] = str(picture), LISTING
    del record["rolled_responses"]
    listings.write_text(json.dumps(record) + "\n")
    hotspots.write_text(json.dumps({"image": "0.png", "question": "Is this: A?", "yaw_deg": 9}))
    page.write_text(MARKERS)
    out = tmp_path / "reports"
    (tmp_path / "pictures").mkdir()
    shutil.copy(picture, tmp_path / "pictures")
    labels = tmp_path / "labels.jsonl"
    labels.write_text(json.dumps({"image": "0.png", "label": "hall", "options": ["hall", "roof"]}))
    files = ["--data", scenes_file, "--listings", listings, "--hotspots", hotspots]
    more = ["--images", scenes_file.parent, "--wording", "Where is the {name}?", "--docs", page]
    more += ["--benchmark", "labels", labels, tmp_path / "pictures", "--out", out]
    assert real.main([str(each) for each in (saved_model, *files, *more)]) == 0
    said = capsys.readouterr().out
    table = [line.split("|") for line in page.read_text().splitlines() if line.startswith("|")]
    assert {len(row) for row in table} == {len(real.HEADER) + 2}
    names = [row[1].strip() for row in table]
    assert {MEASURES["listing"].name, MEASURES[real.HOTSPOT].name} <= {*names}
    assert any(name.startswith("labels:") for name in names) and "| 1 / 1 |" in said
    rows = json.loads((out / "real.json").read_text())
    assert all({*real.SIDES} <= row["scores"].keys() for row in rows)
    reworded = json.loads((out / "hotspots_reworded.jsonl").read_text())
    assert reworded["question"] == "Where is the A?"


def test_unknown_benchmarks_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert real.main(["small", "--out", str(tmp_path), "--benchmark", "vqa", "a", "b"]) == 2
    assert "expected one of quic-360" in capsys.readouterr().err
