"""The teacher that needs no hub and no GPU: NanoDet-g, trained on COCO.

It overlooks small and unusual things: what it does not report may be there all the same. Signs are
read by RapidOCR on request (`signs.py`).
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
import torch

from panovlm.annotating.signs import READER, SIGN, prepare_reader, read_signs
from panovlm.annotating.teachers import PACKAGED, Detection, ViewResult
from panovlm.backbones.nanodet import COCO, DEVIATION, MEAN, PUBLISHED, nanodet_g
from panovlm.data.annotations import Teacher
from panovlm.geometry.boxes import ViewBox
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import Pixels
from panovlm.model.nanodet import NanoDetForObjectDetection, NanoDetOutput

MIN_SCORE = 0.3
"""From here on a detection speaks for what another view shows."""
INPUT_SIZE = 416
"""Pixels along a side of what the detector sees: those of its training."""
MAX_OVERLAP = 0.6
"""Boxes of a class with a larger intersection over union are one thing (its authors' setting)."""


@dataclass(frozen=True)
class PackagedTeacher:
    """Detects the 80 kinds of things of COCO, and on request signs.

    Attributes:
        min_score: Score from which on a detection in a view is returned.
        signs: Whether lines of text are read, as things with the label "sign".
    """

    min_score: float = MIN_SCORE
    signs: bool = False
    in_processes: bool = True

    @property
    def description(self) -> Teacher:
        """Its name, labels and settings."""
        settings: dict[str, Any] = {
            "model": f"nanodet-g of {PUBLISHED.package}@{PUBLISHED.version}",
            "licence": "Apache-2.0",
            "min_view_score": self.min_score,
        }
        if self.signs:
            settings["signs"] = READER
        labels = (*COCO, *([SIGN] if self.signs else []))
        return Teacher(name=PACKAGED, settings=settings, labels=labels)

    def prepare(self) -> None:
        """Download what is not in the cache folder yet.

        Raises:
            PanoVLMError: If a download or a package that signs need is missing.
        """
        nanodet_g()
        if self.signs:
            prepare_reader()

    def annotate(self, views: Pixels, layout: ViewLayout) -> list[ViewResult]:
        """Return what is in each of the views [V, S, S, 3]."""
        return [ViewResult(tuple(self._detect(view))) for view in views]

    def _detect(self, view: Pixels) -> list[Detection]:
        signs = read_signs(view) if self.signs else []
        return [*detect(_detector(), view, self.min_score), *signs]


@torch.inference_mode()
def detect(model: NanoDetForObjectDetection, view: Pixels, min_score: float) -> list[Detection]:
    """Run the detector on a view.

    Args:
        model: Trained on the classes of COCO.
        view: uint8 RGB [S, S, 3].
        min_score: Score from which on a detection is returned.
    """
    # Bilinear, as the detector's training resized.
    small = cv2.resize(view, (INPUT_SIZE, INPUT_SIZE), interpolation=cv2.INTER_LINEAR)
    pixels = (torch.from_numpy(small) - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    found = _chosen(model(pixels.permute(2, 0, 1)[None]), min_score)
    return [_detection(*each, len(view)) for each in found]


def _chosen(output: NanoDetOutput, min_score: float) -> list[tuple[int, float, list[float]]]:
    """Return the class, score and sides of what is left where boxes of a class overlap."""
    assert output.scores is not None and output.boxes is not None
    scores, boxes = output.scores[0].numpy(), output.boxes[0].numpy().clip(0, INPUT_SIZE)
    places, kinds = np.nonzero(scores >= min_score)
    sizes = boxes[places, 2:] - boxes[places, :2]
    rectangles = np.concatenate([boxes[places, :2], sizes], axis=1)
    kept = cv2.dnn.NMSBoxesBatched(
        rectangles.tolist(), scores[places, kinds].tolist(), kinds.tolist(), min_score, MAX_OVERLAP
    )
    return [
        (int(kinds[i]), float(scores[places[i], kinds[i]]), boxes[places[i]].tolist())
        for i in kept
        if sizes[i].min() > 0
    ]


def _detection(kind: int, score: float, sides: list[float], view_size: int) -> Detection:
    left, top, right, bottom = (side * view_size / INPUT_SIZE for side in sides)
    return Detection(COCO[kind], ViewBox(left, top, right - left, bottom - top), score)


@cache
def _detector() -> NanoDetForObjectDetection:
    """Load the detector; pictures go to processes of one thread each."""
    torch.set_num_threads(1)
    model: NanoDetForObjectDetection = NanoDetForObjectDetection.from_pretrained(nanodet_g())
    return model.eval()
