"""Lines that each ask about pictures, answered in batches: of a file, or of a data set."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from panovlm.errors import PanoVLMError
from panovlm.inference.answers import SamplingParams
from panovlm.inference.assistant import Assistant, OpenedPanorama, Question
from panovlm.inference.batches import Row
from panovlm.inference.grounding import check_one_panorama, ground

BATCH_SIZE = 16
NUM_OPENED = 4
"""Panoramas kept open, for batches about the same one that follow one another."""
Outcome = dict[str, Any]
"""`answer`, `finish_reason` and maybe `grounding`; or `error` alone."""


@dataclass(frozen=True)
class Line:
    """One question about a picture or several.

    Attributes:
        fields: `image` (a path, or a list of paths) and `question`, and whatever else the line
            holds.
        error: Why it cannot be asked, if it cannot.
    """

    fields: Mapping[str, Any]
    error: str | None = None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Line":
        """Make a line of its fields, with an error where image or question is missing."""
        line = cls(fields)
        for name, texts in (("image", line.images), ("question", [fields.get("question")])):
            if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
                return cls(fields, f"found no text under {name!r}, expected image and question")
        return line

    @property
    def images(self) -> list[Any]:
        """The paths of its pictures, in their order."""
        image = self.fields.get("image")
        return image if isinstance(image, list) else [image]


class LineAnswerer:
    """Answers lines in batches; what it opened last stays open for the next batch.

    Args:
        assistant: Who answers.
        folder: Where relative paths of pictures begin.
        sampling: How answers shall be said.
        grounded: Whether `grounding` is told: the direction an answer names, else None.
    """

    def __init__(
        self, assistant: Assistant, folder: Path, sampling: SamplingParams, *, grounded: bool
    ) -> None:
        self._assistant, self._folder, self._sampling = assistant, folder, sampling
        self._grounded = grounded
        self._opened: OrderedDict[str, OpenedPanorama] = OrderedDict()

    def answer(self, lines: Sequence[Line]) -> list[Outcome]:
        """Answer lines in one batch; give what came of each, in their order."""
        # Questions about one picture are prepared together, so that it is opened once.
        places = sorted(range(len(lines)), key=lambda place: str(lines[place].fields.get("image")))
        prepared = {place: self._prepared(lines[place]) for place in places}
        self._assistant.finish([row for row in prepared.values() if isinstance(row, Row)])
        return [self._outcome(prepared[place]) for place in range(len(lines))]

    def _prepared(self, line: Line) -> Row | str:
        """Give a line's question with its prefix read, or the error that keeps it from that."""
        if line.error is not None:
            return line.error
        try:
            if self._grounded:
                check_one_panorama("grounded", len(line.images))
            panoramas = [self._open(image) for image in line.images]
            question = Question.about(panoramas, line.fields["question"], self._sampling)
            return self._assistant.row(question)
        except PanoVLMError as error:
            return str(error)

    def _open(self, image: str) -> OpenedPanorama:
        if image not in self._opened:
            self._opened[image] = self._assistant.open(self._folder / image)
        self._opened.move_to_end(image)
        while len(self._opened) > NUM_OPENED:
            self._opened.popitem(last=False)
        return self._opened[image]

    def _outcome(self, prepared: Row | str) -> Outcome:
        if isinstance(prepared, str):
            return {"error": prepared}
        answer = prepared.answer
        outcome: Outcome = {"answer": answer.text, "finish_reason": answer.finish_reason}
        if self._grounded:
            grounding = ground(answer.text)
            outcome["grounding"] = asdict(grounding) if grounding else None
        return outcome
