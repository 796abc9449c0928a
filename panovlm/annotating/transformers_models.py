"""Teachers of `transformers`: its pipelines for object detection, with fixed or free labels."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import transformers
from PIL import Image
from transformers import AutoConfig, PreTrainedConfig, pipeline
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES,
    MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES,
)

from panovlm.annotating.teachers import Detection, ViewResult
from panovlm.data.annotations import Teacher
from panovlm.errors import PanoVLMError
from panovlm.geometry.boxes import ViewBox
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import Pixels

BATCH_SIZE = 4


@dataclass(frozen=True)
class TransformersTeacher:
    """Detects things with a model of the hub or of a folder.

    Attributes:
        model: Its id or folder.
        labels: What to look for, which models with free labels need; of fixed labels those that
            count, None for all.
        min_score: Score from which on a detection in a view is returned.
    """

    model: str
    labels: tuple[str, ...] | None
    min_score: float
    in_processes: bool = True

    @property
    def description(self) -> Teacher:
        """Its name, labels and settings."""
        settings = {
            "model": self.model,
            "revision": getattr(_config(self.model), "_commit_hash", None),
            "transformers": transformers.__version__,
            "min_view_score": self.min_score,
        }
        labels = self.labels or _own_labels(self.model)
        return Teacher(name=f"transformers:{self.model}", settings=settings, labels=labels)

    def prepare(self) -> None:
        """Download the model, and check that it detects and knows the labels.

        Raises:
            PanoVLMError: If it cannot be loaded, detects nothing or does not know a label.
        """
        if _is_zero_shot(self.model):
            if not self.labels:
                raise PanoVLMError(
                    f"found no labels for {self.model}, which looks for what it is told; pass "
                    "--labels, as in --labels door,window"
                )
        elif unknown := sorted({*(self.labels or ())} - {*_own_labels(self.model)}):
            raise PanoVLMError(
                f"found the labels {', '.join(unknown)}, expected some of {self.model}'s own: "
                f"{', '.join(_own_labels(self.model))}; change --labels"
            )
        _pipeline(self.model)

    def annotate(self, views: Pixels, layout: ViewLayout) -> list[ViewResult]:
        """Return what is in each of the views [V, S, S, 3]."""
        pictures = [Image.fromarray(view) for view in views]
        run = _pipeline(self.model)
        if _is_zero_shot(self.model):
            labels = [*(self.labels or ())]
            asked = [{"image": each, "candidate_labels": labels} for each in pictures]
            found = run(asked, threshold=self.min_score)
        else:
            found = run(pictures, threshold=self.min_score, batch_size=BATCH_SIZE)
        return [ViewResult(tuple(self._detections(each, len(views[0])))) for each in found]

    def _detections(self, found: list[dict[str, Any]], view_size: int) -> list[Detection]:
        detections = []
        for each in found:
            sides = (each["box"][side] for side in ("xmin", "ymin", "xmax", "ymax"))
            left, top, right, bottom = (min(max(float(s), 0.0), view_size) for s in sides)
            wanted = self.labels is None or each["label"] in self.labels
            if wanted and right > left and bottom > top:
                box = ViewBox(left, top, right - left, bottom - top)
                detections.append(Detection(each["label"], box, float(each["score"])))
        return detections


@cache
def _config(model: str) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise PanoVLMError(
            f"found no model {model}: {reason}; pass the id of a detector on the hub, or its "
            "folder, as --teacher transformers:MODEL"
        ) from error


def _is_zero_shot(model: str) -> bool:
    """Whether a model looks for free labels; a PanoVLMError if it is no detector."""
    kind = _config(model).model_type
    if kind in MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES:
        return True
    if kind not in MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES:
        raise PanoVLMError(
            f"found {model}, of the type {kind}, which detects no objects; expected a model for "
            "object detection, as DETR, YOLOS or OWLv2; change --teacher"
        )
    return False


def _own_labels(model: str) -> tuple[str, ...]:
    """Return the labels of a model with fixed ones."""
    return tuple(dict.fromkeys(_config(model).id2label.values()))


@cache
def _pipeline(model: str) -> Any:
    task = "zero-shot-object-detection" if _is_zero_shot(model) else "object-detection"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return pipeline(task, model=model, device=device)
    except (OSError, ValueError, ImportError) as error:
        raise PanoVLMError(
            f"cannot load {model}: {str(error).splitlines()[0]}; check --teacher"
        ) from error
