"""A teacher behind an endpoint that speaks OpenAI's protocol and sees: one request for each view.

What it does wrong in a view becomes a finding there; the rest of its answer counts.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from panovlm.annotating.teachers import Detection, ViewResult
from panovlm.data.annotations import Teacher
from panovlm.geometry.boxes import ViewBox
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import Pixels
from panovlm.pictures.messages import image_part, text_part
from panovlm.runtime.endpoints import Endpoint, EndpointError, object_schema

REQUESTS_AT_ONCE = 8
MAX_TOKENS = 2048
SCALE = 1000
"""Boxes are asked for in thousandths of the picture."""
PROMPT = (
    "List every distinct object that you see in this picture. For each: a label (a short English "
    "noun, in lower case), its tight bounding box as left, top, right and bottom, in thousandths "
    "of the picture's width and height from its upper left corner, a score from 0 to 1 of how sure "
    "you are, and the text that can be read on it, or null. Then a caption: one sentence about the "
    "whole picture. Answer with JSON alone."
)
ONLY = " List nothing but these kinds of objects, under these labels: {labels}."


class _Object(BaseModel):
    """An object as the endpoint describes it."""

    label: str
    left: float
    top: float
    right: float
    bottom: float
    score: float | None = None
    text: str | None = None


@dataclass(frozen=True)
class EndpointTeacher:
    """Asks an endpoint about each view.

    Attributes:
        endpoint: Where, which model, and how patiently.
        labels: The only kinds it may report; None for any.
        at_once: Requests at a time.
    """

    endpoint: Endpoint
    labels: tuple[str, ...] | None = None
    at_once: int = REQUESTS_AT_ONCE
    in_processes: bool = False

    @property
    def description(self) -> Teacher:
        """Its name, labels and settings."""
        digest = hashlib.sha256(self._prompt.encode()).hexdigest()
        settings = {"model": self.endpoint.model, "temperature": 0, "prompt_sha256": digest}
        return Teacher(name=f"openai:{self.endpoint.model}", settings=settings, labels=self.labels)

    def prepare(self) -> None:
        """Nothing is downloaded."""

    def annotate(self, views: Pixels, layout: ViewLayout) -> list[ViewResult]:
        """Return what is in each of the views [V, S, S, 3]; failures are findings."""
        with ThreadPoolExecutor(self.at_once) as pool:
            return [*pool.map(self._annotate_one, views)]

    @property
    def _prompt(self) -> str:
        return PROMPT + (ONLY.format(labels=", ".join(self.labels)) if self.labels else "")

    def _annotate_one(self, view: Pixels) -> ViewResult:
        try:
            answer = self._ask(view)
        except EndpointError as error:
            return ViewResult(findings=(f"no annotation, because {error}",), failed=True)
        read = [self._read(entry, len(view)) for entry in answer["objects"]]
        detections = tuple(each for each in read if isinstance(each, Detection))
        findings = tuple(each for each in read if isinstance(each, str))
        caption = answer.get("caption")
        caption = caption.strip() if isinstance(caption, str) else ""
        return ViewResult(detections, caption or None, findings)

    def _ask(self, view: Pixels) -> dict[str, Any]:
        """Ask about a view until there is an answer with a list of objects."""
        messages = [{"role": "user", "content": [image_part(view), text_part(self._prompt)]}]

        def once() -> dict[str, Any]:
            answer = self.endpoint.ask(messages, "view", self._schema, MAX_TOKENS)
            if not isinstance(answer.get("objects"), list):
                raise EndpointError("the answer has no list under 'objects'")
            return answer

        return self.endpoint.patiently(once)

    @property
    def _schema(self) -> dict[str, Any]:
        """The fields of an answer."""
        label = {"type": "string", **({"enum": [*self.labels]} if self.labels else {})}
        sides = {side: {"type": "integer"} for side in ("left", "top", "right", "bottom")}
        score, text = {"type": "number"}, {"type": ["string", "null"]}
        entry = object_schema({"label": label, **sides, "score": score, "text": text})
        return {"objects": {"type": "array", "items": entry}, "caption": {"type": "string"}}

    def _read(self, entry: Any, view_size: int) -> Detection | str:
        """Return an object that the endpoint reports, or the finding about it."""
        try:
            read = _Object.model_validate(entry)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the object"
            return f"left out an object: found {where}: {first['msg']}"
        label = " ".join(read.label.split()).lower()
        known = {each.lower(): each for each in self.labels or (label,)}
        if not label or label not in known:
            return f"left out {read.label!r}: found no label of --labels"
        sides = read.left, read.top, read.right, read.bottom
        if not (0 <= read.left < read.right <= SCALE and 0 <= read.top < read.bottom <= SCALE):
            box = ", ".join(f"{side:g}" for side in sides)
            return f"left out {label!r}: found the box ({box}), expected sides from 0 to {SCALE}"
        score = 1.0 if read.score is None else read.score
        if not 0 < score <= 1:
            return f"left out {label!r}: found the score {score:g}, expected 0 to 1"
        left, top, right, bottom = (side / SCALE * view_size for side in sides)
        text = " ".join((read.text or "").split())
        box_of_view = ViewBox(left, top, right - left, bottom - top)
        return Detection(known[label], box_of_view, score, text or None)
