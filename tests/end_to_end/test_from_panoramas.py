"""The page's four commands from a folder of panoramas to a tested model, on tiny parts."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from panovlm.annotating import packaged
from panovlm.annotating.teachers import Detection
from panovlm.data.annotations import read_annotations
from panovlm.geometry.boxes import ViewBox
from panovlm.training.sections import ModelSection

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tasks" / "from_panoramas.md"
COLOURS = {"car": (250, 0, 0), "dog": (0, 0, 250)}
PLACES_DEG = {"hall": 0, "street": 90, "roof": 180, "yard": -90, "lake": 40}
"""Where the car is in each place; the dog is to its right."""
DOG_DEG = 100
WIDTH = 360


def commands() -> list[str]:
    """The four commands of the page."""
    (block, *_) = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return block.splitlines()


def write_photo(file: Path, car_deg: float) -> None:
    """A grey panorama with a red and a blue square at the horizon."""
    pixels = np.full((WIDTH // 2, WIDTH, 3), 90, np.uint8)
    for yaw_deg, colour in ((car_deg, COLOURS["car"]), (car_deg + DOG_DEG, COLOURS["dog"])):
        columns = np.arange(-6, 7) + round((yaw_deg / 360 + 0.5) * WIDTH)
        pixels[84:97, columns % WIDTH] = colour
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def detect(network: None, view: np.ndarray, min_score: float) -> list[Detection]:
    """Find the squares of a view by their colour."""
    found = []
    for label, colour in COLOURS.items():
        rows, columns = np.nonzero((np.abs(view.astype(int) - colour) < 80).all(axis=-1))
        if len(rows) > 4:
            left, top = float(columns.min()), float(rows.min())
            width, height = np.ptp(columns) + 1.0, np.ptp(rows) + 1.0
            found.append(Detection(label, ViewBox(left, top, width, height), 0.9))
    return found


@pytest.fixture
def place(tmp_path: Path, model_section: ModelSection, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photographs, and the recipe of the page with a tiny model and few steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(packaged.PackagedTeacher, "prepare", lambda teacher: None)
    monkeypatch.setattr(packaged, "_detector", lambda: None)
    monkeypatch.setattr(packaged, "detect", detect)
    for name, car_deg in PLACES_DEG.items():
        write_photo(tmp_path / "photos" / name / "1.png", car_deg)
    (recipe,) = re.findall(r"recipes/\w+\.yaml", "\n".join(commands()))
    sections = yaml.safe_load((ROOT / recipe).read_text())["stages"]
    shared: dict[str, Any] = {"steps": 2, "batch_size": 2}
    tiny = {
        "output": yaml.safe_load((ROOT / recipe).read_text())["output"],
        "model": model_section.model_dump(mode="json"),
        "stages": {name: shared | {"data": each["data"]} for name, each in sections.items()},
    }
    (tmp_path / "recipes").mkdir()
    (tmp_path / recipe).write_text(yaml.safe_dump(tiny))
    return tmp_path


def test_four_commands_lead_from_pictures_to_a_tested_model(
    place: Path, run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    assert [command.split()[1] for command in commands()] == [
        "annotate",
        "questions",
        "train",
        "evaluate",
    ]
    smaller = {"annotate": ["--view-size", "160", "--workers", "1"], "evaluate": ["--limit", "8"]}
    smaller["questions"] = ["--composites", "4"]
    smaller["evaluate"] += ["--ablated", "1", "--yaw-rotated", "1"]
    for command in commands():
        _, name, *words = shlex.split(command)
        code, _, errors = run_cli(name, *words, *smaller.get(name, []))
        assert code == 0, f"{command}: {errors}"

    for annotation in read_annotations(place / "annotations.jsonl"):
        found = {sighting.label: sighting.yaw_deg for sighting in annotation.sightings}
        car_deg = PLACES_DEG[str(annotation.group)]
        assert found.keys() == COLOURS.keys()
        assert abs((found["car"] - car_deg + 180) % 360 - 180) < 2
    places = {}
    for split in ("train", "test"):
        lines = (place / "data" / "real" / f"{split}.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        places[split] = {record["source"] for record in records}
        asked = {record["messages"][0]["content"]: record["messages"][1] for record in records}
        assert {record["kind"] for record in records} >= {"direction", "existence", "what"}
        assert any("Where is the" in text or "In which direction" in text for text in asked)
    assert places["train"] | places["test"] == PLACES_DEG.keys()
    assert not places["train"] & places["test"] and places["test"]
    report = json.loads((place / "runs" / "real" / "report.json").read_text())
    assert report["score"]["count"] == 8
    assert {"blind", "single_view", "low_resolution"} == report["baselines"].keys()
    tested = {Path(row["image"]).parent.name for row in report["predictions"]}
    assert tested <= places["test"]
    assert (place / "annotations.html").is_file()
