"""Runs: every picture gets its line, whatever is killed, unreadable or run again."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panovlm.annotating import run
from panovlm.annotating.merging import Acceptance
from panovlm.annotating.picture import Setup
from panovlm.annotating.ray_data import annotate_batch
from panovlm.annotating.sources import find_pictures
from panovlm.annotating.teachers import Detection, ViewResult
from panovlm.annotating.views import overlapping_views
from panovlm.data.annotations import Annotation, Teacher, read_annotations
from panovlm.errors import PanoVLMError
from panovlm.geometry.boxes import ViewBox
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import Pixels
from panovlm.pictures.declaring import Declaration

LAYOUT = overlapping_views(num_views=4, view_size=16)
ANY = Acceptance(0.0, 1)


@dataclass(frozen=True)
class BrightnessTeacher:
    """Sees a lamp in the middle of each view that is bright, and fails where it is told to."""

    threshold: float = 100.0
    failing: str = "none"
    in_processes: bool = True

    @property
    def description(self) -> Teacher:
        return Teacher(name="lamps", settings={"threshold": self.threshold}, labels=("lamp",))

    def prepare(self) -> None:
        if self.failing == "set-up":
            raise PanoVLMError("found no lamp; buy one")

    def annotate(self, views: Pixels, layout: ViewLayout) -> list[ViewResult]:
        if self.failing == "all":
            return [ViewResult(findings=("it is dark",), failed=True)] * len(views)
        results = [self._one(view) for view in views]
        if self.failing == "first":
            results[0] = ViewResult(findings=("no annotation, because it is dark",), failed=True)
        return results

    def _one(self, view: Pixels) -> ViewResult:
        is_bright = view.mean() > self.threshold
        lamp = Detection("lamp", ViewBox(6.0, 6.0, 4.0, 4.0), 0.9)
        return ViewResult((lamp,) if is_bright else (), f"light {view.mean():.0f}")


def setup_of(**teacher: Any) -> Setup:
    return Setup(BrightnessTeacher(**teacher), LAYOUT, ANY)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two places of two pictures each, one beside them, a hidden one, and a text."""
    rng = np.random.default_rng(3)
    names = ["kitchen/1.png", "kitchen/2.png", "attic/1.png", "attic/2.png", "9.png", ".no/0.png"]
    for name in names:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (16, 32, 3), dtype=np.uint8)).save(path)
    (tmp_path / "photos" / "notes.txt").write_text("none")
    return tmp_path / "photos"


def test_each_picture_has_a_line_with_its_digest_teacher_and_place(photos: Path) -> None:
    out = photos.parent / "notes" / "annotations.jsonl"
    outcome = run.annotate(photos, out, setup_of(), workers=1)
    annotations = read_annotations(out)
    assert (outcome.num_written, len(annotations)) == (5, 5)
    assert [each.group for each in annotations] == [None, *["attic"] * 2, *["kitchen"] * 2]
    first = annotations[0]
    assert first.digest == hashlib.sha256((photos / "9.png").read_bytes()).hexdigest()
    assert first.image.resolve() == (photos / "9.png").resolve()
    assert first.teacher.name == "lamps" and first.teacher.labels == ("lamp",)
    settings = first.teacher.settings
    assert (settings["threshold"], settings["min_views"]) == (100.0, 1)
    assert settings["views"].startswith("20 views of 16 px: 4 of 100° at 0°, 4 of 100° at 45°")
    assert first.sightings and first.sightings[0].label == "lamp"
    assert len(first.captions) == LAYOUT.num_views


@pytest.mark.parametrize("keep", [0, 1, 40, 1500, -1, -30])
def test_a_killed_run_goes_on_to_the_same_bytes(photos: Path, keep: int) -> None:
    out = photos.parent / "annotations.jsonl"
    run.annotate(photos, out, setup_of(), workers=1)
    whole = out.read_bytes()
    out.write_bytes(whole[:keep])
    outcome = run.annotate(photos, out, setup_of(), workers=1)
    assert out.read_bytes() == whole
    assert outcome.num_present == whole[:keep].count(b"\n")
    assert outcome.num_written + outcome.num_present == 5


def test_the_number_of_workers_changes_nothing(photos: Path) -> None:
    one, two = photos.parent / "one.jsonl", photos.parent / "two.jsonl"
    run.annotate(photos, one, setup_of(), workers=1)
    run.annotate(photos, two, setup_of(), workers=2)
    assert one.read_bytes() == two.read_bytes()


def test_other_settings_are_refused_with_what_differs(photos: Path) -> None:
    out = photos.parent / "annotations.jsonl"
    run.annotate(photos, out, setup_of(), workers=1)
    whole = out.read_bytes()
    with pytest.raises(PanoVLMError, match=r"line 1: .*threshold 100.0 \(now 90.0\); expected"):
        run.annotate(photos, out, setup_of(threshold=90.0), workers=1)
    fewer = Setup(BrightnessTeacher(), LAYOUT, Acceptance(0.0, 2))
    with pytest.raises(PanoVLMError, match=r"min_views 1 \(now 2\)"):
        run.annotate(photos, out, fewer, workers=1)
    assert out.read_bytes() == whole


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"image": "a.png", "messages": []}\n', "expected an annotation"),
        ('{"accuracy": 0.5}', "found a file that no annotations begin"),
        ('{"image":"a.png"}\nmy notes', "found a file that no annotations begin"),
    ],
)
def test_a_file_of_something_else_is_refused_and_stays(
    photos: Path, text: str, message: str
) -> None:
    out = photos.parent / "other.jsonl"
    out.write_text(text)
    with pytest.raises(PanoVLMError, match=message):
        run.annotate(photos, out, setup_of(), workers=1)
    assert out.read_text() == text


def test_pictures_that_cannot_be_read_are_named_and_the_others_annotated(photos: Path) -> None:
    (photos / "attic" / "1.png").write_bytes(b"no picture")
    out = photos.parent / "annotations.jsonl"
    outcome = run.annotate(photos, out, setup_of(), workers=1)
    (error,) = outcome.errors
    assert outcome.num_written == 4
    assert "attic/1.png" in error and "expected a whole" in error


def test_a_view_without_annotation_is_a_finding_with_its_place(photos: Path) -> None:
    out = photos.parent / "annotations.jsonl"
    outcome = run.annotate(photos, out, setup_of(failing="first"), workers=1)
    assert (outcome.num_written, outcome.num_findings) == (5, 5)
    finding = "view at yaw 0°, pitch 0°: no annotation, because it is dark"
    assert {each.findings for each in read_annotations(out)} == {(finding,)}
    again = run.annotate(photos, out, setup_of(failing="first"), workers=1)
    assert (again.num_written, again.num_present, again.num_findings) == (0, 5, 5)


def test_a_teacher_that_fails_altogether_stops_the_run_and_writes_nothing(photos: Path) -> None:
    out = photos.parent / "annotations.jsonl"
    with pytest.raises(PanoVLMError, match=r"failed on all 20 views.*3 pictures in a row.*again"):
        run.annotate(photos, out, setup_of(failing="all"), workers=1)
    assert out.read_bytes() == b""
    with pytest.raises(PanoVLMError, match="found no lamp"):
        run.annotate(photos, out, setup_of(failing="set-up"), workers=1)


def test_one_picture_is_annotated_alone(photos: Path) -> None:
    out = photos.parent / "annotations.jsonl"
    assert run.annotate(photos / "9.png", out, setup_of()).num_written == 1


def test_lines_name_pictures_and_places(photos: Path) -> None:
    lines = [{"image": "photos/9.png", "group": "hut"}, {"image": "photos/attic/1.png", "text": 1}]
    file = photos.parent / "records.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in [*lines, lines[0]]))
    found = find_pictures(file, photos.parent / "out" / "annotations.jsonl")
    names = [(picture.name, picture.group) for picture in found]
    assert names == [("../photos/9.png", "hut"), ("../photos/attic/1.png", None)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1]", "line 1: found no path under 'image'"),
        ('{"image": "https://a.org/b.png"}', "line 1: found no path under 'image'"),
        ('{"image": "a.png", "group": 3}', "line 1: found 3 under 'group', expected a text"),
        (
            '{"image": "a.png", "declared": {"hfov_deg": 90}}',
            "line 1: declared: .*without a projection",
        ),
        ('{"image": "a.png", "declared": 3}', "line 1: declared: "),
        ("{", "not JSON"),
        ("", "found no pictures, expected files that end in"),
    ],
)
def test_lines_that_name_no_picture_are_refused(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text(line)
    with pytest.raises(PanoVLMError, match=message):
        find_pictures(file, tmp_path / "out.jsonl")


def test_what_is_declared_of_a_strip_is_read_kept_and_the_same_when_run_again(photos: Path) -> None:
    strip, out = photos / "strip.png", photos.parent / "annotations.jsonl"
    Image.fromarray(np.full((40, 192, 3), 200, np.uint8)).save(strip)
    declared = Declaration(projection="cylindrical", hfov_deg=180.0)
    (refused,) = run.annotate(strip, photos.parent / "as_it_is.jsonl", setup_of()).errors
    assert "projection" in refused
    run.annotate(strip, out, setup_of(), declared=declared)
    (annotation,) = read_annotations(out)
    assert annotation.declared == declared
    assert all(abs(each.yaw_deg) < 110 for each in annotation.sightings)
    assert run.annotate(strip, out, setup_of(), declared=declared).num_present == 1
    with pytest.raises(PanoVLMError, match="expected the same; name another --out"):
        run.annotate(strip, out, setup_of())
    lines = photos.parent / "lines.jsonl"
    lines.write_text(json.dumps({"image": "photos/strip.png", "declared": declared.said}) + "\n")
    assert run.annotate(lines, out, setup_of()).num_present == 1


def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PanoVLMError, match="found no such file or folder"):
        find_pictures(tmp_path / "none", tmp_path / "out.jsonl")


def test_a_batch_of_a_data_set_is_annotated_row_by_row(photos: Path) -> None:
    (photos / "attic" / "2.png").write_bytes(b"no picture")
    names = np.array(["9.png", "attic/2.png", "kitchen/1.png"])
    batch = {"image": names, "group": np.array([None, "attic", "kitchen"]), "id": np.arange(3)}
    done = annotate_batch(batch, setup_of(), photos)
    assert done["id"].tolist() == [0, 1, 2]
    assert [bool(error) for error in done["error"]] == [False, True, False]
    assert done["annotation"][1] == ""
    last = Annotation.model_validate_json(done["annotation"][2])
    assert (str(last.image), last.group) == ("kitchen/1.png", "kitchen")
    with pytest.raises(PanoVLMError, match="found the columns path without image"):
        annotate_batch({"path": names}, setup_of())
