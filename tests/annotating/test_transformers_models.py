"""Detectors of transformers: a tiny one with fixed labels runs, one with free labels is asked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    Owlv2Config,
    YolosConfig,
    YolosForObjectDetection,
    YolosImageProcessor,
)

from panovlm.annotating import transformers_models
from panovlm.annotating.transformers_models import TransformersTeacher
from panovlm.annotating.views import overlapping_views
from panovlm.errors import PanoVLMError

SIZE = 32
VIEWS = np.random.default_rng(1).integers(0, 255, (2, SIZE, SIZE, 3), dtype=np.uint8)
LAYOUT = overlapping_views(view_size=SIZE)


@pytest.fixture
def yolos(tmp_path: Path) -> str:
    torch.manual_seed(0)
    config = YolosConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=[SIZE, SIZE],
        patch_size=8,
        num_detection_tokens=5,
        id2label={0: "lamp", 1: "door"},
        label2id={"lamp": 0, "door": 1},
    )
    YolosForObjectDetection(config).save_pretrained(tmp_path)
    size = {"shortest_edge": SIZE, "longest_edge": SIZE}
    YolosImageProcessor(size=size).save_pretrained(tmp_path)
    return str(tmp_path)


def test_a_detector_with_fixed_labels_detects(yolos: str) -> None:
    teacher = TransformersTeacher(yolos, None, 0.01)
    teacher.prepare()
    assert teacher.description.labels == ("lamp", "door")
    results = teacher.annotate(VIEWS, LAYOUT)
    found = [each for result in results for each in result.detections]
    assert len(results) == 2 and found
    for each in found:
        assert each.label in ("lamp", "door") and 0 < each.score <= 1
        assert each.box.left >= 0 and each.box.left + each.box.width <= SIZE
    only = TransformersTeacher(yolos, ("door",), 0.01).annotate(VIEWS, LAYOUT)
    assert {each.label for result in only for each in result.detections} <= {"door"}


def test_labels_that_a_detector_does_not_have_are_refused(yolos: str) -> None:
    with pytest.raises(PanoVLMError, match=r"found the labels cat, expected .*lamp, door"):
        TransformersTeacher(yolos, ("cat", "door"), 0.3).prepare()


@pytest.fixture
def owl(tmp_path: Path) -> str:
    Owlv2Config().save_pretrained(tmp_path)
    return str(tmp_path)


def test_free_labels_are_asked_of_a_model_that_takes_them(
    owl: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def run(inputs: list[dict[str, Any]], threshold: float) -> list[list[dict[str, Any]]]:
        asked.extend((each["candidate_labels"], threshold) for each in inputs)
        box = {"xmin": -3, "ymin": 4, "xmax": 20, "ymax": 40}
        return [[{"label": "red door", "score": 0.6, "box": box}] for _ in inputs]

    monkeypatch.setattr(transformers_models, "_pipeline", lambda model: run)
    teacher = TransformersTeacher(owl, ("red door", "lamp"), 0.3)
    teacher.prepare()
    first, _ = teacher.annotate(VIEWS, LAYOUT)
    assert asked == [(["red door", "lamp"], 0.3)] * 2
    (door,) = first.detections
    sides = door.box.left, door.box.top, door.box.width, door.box.height
    assert (door.label, sides) == ("red door", (0, 4, 20, 28))
    assert teacher.description.labels == ("red door", "lamp")


def test_free_labels_have_to_be_given(owl: str) -> None:
    with pytest.raises(PanoVLMError, match="looks for what it is told; pass --labels"):
        TransformersTeacher(owl, None, 0.3).prepare()


def test_what_is_no_detector_or_no_model_is_refused(tmp_path: Path) -> None:
    CLIPVisionConfig().save_pretrained(tmp_path)
    with pytest.raises(PanoVLMError, match="which detects no objects"):
        TransformersTeacher(str(tmp_path), None, 0.3).prepare()
    with pytest.raises(PanoVLMError, match="found no model"):
        TransformersTeacher(str(tmp_path / "none"), None, 0.3).prepare()
