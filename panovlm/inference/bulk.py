"""Questions in bulk, in batches: of a file of JSON lines (resumable), or of a data set."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from panovlm.data.file_names import find_file
from panovlm.data.findings import Finding, FindingKind
from panovlm.data.lines import NotJsonError, declaration_in, json_lines, parse_json
from panovlm.errors import PanoVLMError
from panovlm.inference.answers import SamplingParams
from panovlm.inference.assistant import Assistant, Question
from panovlm.inference.batches import Row, generate
from panovlm.inference.grounding import check_one_panorama, grounding_facts
from panovlm.pictures.declaring import Declaration
from panovlm.runtime.files import check_output
from panovlm.runtime.progress import progress_bar

BATCH_SIZE = 16
NUM_OPENED = 4
"""Panoramas kept open, for consecutive batches about the same one."""
Outcome = dict[str, Any]
"""`answer`, `finish_reason` and maybe `grounding` and `regions`; or `error` alone."""


@dataclass(frozen=True)
class Line:
    """One question about a picture or several.

    Attributes:
        fields: `image` (a path, or a list of paths), `question`, maybe `declared` (what the
            pictures are), and all other fields.
        error: Why it cannot be asked, if it cannot.
    """

    fields: Mapping[str, Any]
    error: str | None = None

    @property
    def images(self) -> list[Any]:
        """The paths of its pictures, in their order."""
        image = self.fields.get("image")
        return image if isinstance(image, list) else [image]


class LineAnswerer:
    """Answers lines in batches; the last panoramas stay open for the next batch.

    Relative paths of pictures begin at `folder`; the other arguments are those of `answer_file`.
    """

    def __init__(
        self,
        assistant: Assistant,
        folder: Path,
        sampling: SamplingParams,
        *,
        grounded: bool,
        declared: Declaration | None = None,
    ) -> None:
        self._assistant, self._sampling, self._grounded = assistant, sampling, grounded
        self._declared = declared
        self._open = lru_cache(NUM_OPENED)(
            lambda image, declared: assistant.open(find_file(folder, image), declared)
        )

    def answer(self, lines: Sequence[Line]) -> list[Outcome]:
        """Answer lines in one batch; return their outcomes in their order."""
        # Questions about one picture are prepared together, so that it is opened once.
        places = sorted(range(len(lines)), key=lambda place: str(lines[place].fields.get("image")))
        prepared = {place: self._prepared(lines[place]) for place in places}
        rows = [row for row in prepared.values() if isinstance(row, Row)]
        generate(self._assistant.model, rows)
        return [self._outcome(lines[place], prepared[place]) for place in range(len(lines))]

    def _prepared(self, line: Line) -> Row | str:
        """Return a line's question with its prefix read, or the error."""
        if line.error is not None:
            return line.error
        for name, texts in (("image", line.images), ("question", [line.fields.get("question")])):
            if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
                return f"found no text under {name!r}, expected image and question"
        try:
            if self._grounded:
                check_one_panorama("grounded", len(line.images))
            declared = declaration_in(line.fields) or self._declared
            panoramas = [self._open(image, declared) for image in line.images]
            question = Question.about(panoramas, line.fields["question"], self._sampling)
            return self._assistant.row(question)
        except PanoVLMError as error:
            return str(error)

    def _outcome(self, line: Line, prepared: Row | str) -> Outcome:
        if isinstance(prepared, str):
            return {"error": prepared}
        answer = prepared.answer
        outcome: Outcome = {"answer": answer.text, "finish_reason": answer.finish_reason}
        if self._grounded:
            outcome |= grounding_facts(answer.text, line.fields["question"])
        return outcome


@dataclass(frozen=True)
class Completed:
    """Lines of a file answered now, with an error instead, and those whose answers were present."""

    num_answered: int
    num_errors: int
    num_present: int


def answer_file(
    assistant: Assistant,
    file: Path,
    out: Path,
    *,
    grounded: bool = False,
    sampling: SamplingParams,
    declared: Declaration | None = None,
) -> Completed:
    """Answer each line of a file; answers that `out` holds already are kept.

    Args:
        assistant: Answers.
        file: A JSON object a line, with `image` (a path from the file's folder, or a list
            of paths) and `question`.
        out: Each line gets its own with the same fields, `line`, and `answer` or `error`.
        grounded: Whether `grounding` is added, the direction an answer names, else null; and
            `regions`, the regions of the sphere that it is about.
        sampling: How answers are generated.
        declared: What the pictures are, of lines without `declared`.

    Raises:
        PanoVLMError: If the file cannot be read, or `out` holds answers to other questions.
    """
    lines = [_line(found) for found in json_lines(file)]
    if not lines:
        raise PanoVLMError(f"found no line in {file}, expected a JSON object a line")
    check_output(out, lambda present: True, [file])  # `_count_present` reads what is there
    num_present = _count_present(out, lines)
    answerer = LineAnswerer(assistant, file.parent, sampling, grounded=grounded, declared=declared)
    num_errors = 0
    with progress_bar("answering", len(lines)) as advance, out.open("a") as sink:
        advance(num_present)
        for start in range(num_present, len(lines), BATCH_SIZE):
            batch = lines[start : start + BATCH_SIZE]
            outcomes = answerer.answer(batch)
            for line, outcome in zip(batch, outcomes, strict=True):
                sink.write(json.dumps({**line.fields, **outcome}, ensure_ascii=False) + "\n")
            sink.flush()
            os.fsync(sink.fileno())
            num_errors += sum("error" in outcome for outcome in outcomes)
            advance(len(batch))
    return Completed(len(lines) - num_present - num_errors, num_errors, num_present)


def _line(found: tuple[int, Any] | Finding) -> Line:
    """Make a question of a line of a file; PanoVLMError where the file cannot be read."""
    if isinstance(found, Finding):
        if found.kind is FindingKind.FILE:
            raise PanoVLMError(str(found))
        return Line({"line": int(found.place.removeprefix("line "))}, found.found)
    number, fields = found
    if not isinstance(fields, dict):
        return Line({"line": number}, "found no JSON object, expected one a line")
    return Line({**fields, "line": number})


def _count_present(out: Path, lines: list[Line]) -> int:
    """Count the answers in a file; cut off a last one that a killed process left incomplete."""
    data = out.read_bytes() if out.exists() else b""
    *texts, torn = data.decode(errors="replace").split("\n")
    for number, text in enumerate(texts, start=1):
        if number > len(lines) or not _answers(text, lines[number - 1]):
            raise _other_answers(out, number)
    if torn:
        if len(texts) >= len(lines) or not _begins_answer(torn, lines[len(texts)]):
            raise _other_answers(out, len(texts) + 1)
        os.truncate(out, data.rfind(b"\n") + 1)
    return len(texts)


def _other_answers(out: Path, number: int) -> PanoVLMError:
    return PanoVLMError(
        f"found in {out}, line {number}, no answer to that line of these questions; name another "
        "--out, or move it away"
    )


def _begins_answer(torn: str, line: Line) -> bool:
    """Whether a line that a kill cut short is the beginning of an answer to a question."""
    fields = json.dumps(dict(line.fields), ensure_ascii=False).removesuffix("}")
    return torn.startswith(fields) or fields.startswith(torn.rstrip("\ufffd"))


def _answers(text: str, line: Line) -> bool:
    """Whether a line of answers has the fields of a question."""
    try:
        answered = parse_json(text)
    except NotJsonError:
        return False
    return isinstance(answered, dict) and line.fields.items() <= answered.items()
