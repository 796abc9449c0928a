"""Many questions from a file of JSON lines: batches, resumable, a line out for each line in."""

import json
import os
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from panovlm.answering.answers import Wishes
from panovlm.answering.assistant import Assistant, OpenedPanorama, Question
from panovlm.answering.batches import Row
from panovlm.answering.grounding import ground
from panovlm.answering.prompts import about_panorama
from panovlm.data.findings import Finding, Kind
from panovlm.data.lines import NotJsonError, json_lines, parse_json
from panovlm.model.errors import PanoVLMError
from panovlm.progress import progress_bar

BATCH_SIZE = 16
NUM_OPENED = 4
"""Panoramas kept open, for lines about the same one that follow one another."""


@dataclass(frozen=True)
class Done:
    """What came of a file of questions.

    Attributes:
        num_answered: Lines answered now.
        num_faults: Lines that got a fault instead of an answer now.
        num_present: Lines whose answers were there already.
    """

    num_answered: int
    num_faults: int
    num_present: int


@dataclass
class _Line:
    """A line of questions and what comes of it."""

    fields: dict[str, Any]
    row: Row | None = None
    fault: str | None = None


def answer_file(
    assistant: Assistant, file: Path, out: Path, *, grounded: bool = False, wishes: Wishes
) -> Done:
    """Answer each line of a file; what `out` holds already is kept and not asked again.

    Args:
        assistant: Who answers.
        file: A JSON object a line, with `image` (a path from the file's folder) and `question`.
        out: Each line gets its own with the same fields, `line`, and `answer` or `fault`.
        grounded: Whether `grounding` is added: the direction an answer names, else null.
        wishes: How answers shall be said.

    Raises:
        PanoVLMError: If the file cannot be read, or `out` holds answers to other questions.
    """
    lines = _read(file)
    present = _present(out, lines)
    opened: OrderedDict[str, OpenedPanorama] = OrderedDict()
    num_faults = 0
    with progress_bar("answering", len(lines)) as advance, out.open("a") as sink:
        advance(present)
        for start in range(present, len(lines), BATCH_SIZE):
            batch = lines[start : start + BATCH_SIZE]
            for line in batch:
                _prepare(assistant, file.parent, line, wishes, opened)
            assistant.finish([line.row for line in batch if line.row])
            for line in batch:
                sink.write(json.dumps(_written(line, grounded), ensure_ascii=False) + "\n")
            sink.flush()
            os.fsync(sink.fileno())
            num_faults += sum(line.fault is not None for line in batch)
            advance(len(batch))
    return Done(len(lines) - present - num_faults, num_faults, present)


def _read(file: Path) -> list[_Line]:
    lines = []
    for found in json_lines(file):
        if isinstance(found, Finding) and found.kind is Kind.FILE:
            raise PanoVLMError(str(found))
        lines.append(_parsed(found))
    if not lines:
        raise PanoVLMError(f"found no line in {file}, expected a JSON object a line")
    return lines


def _parsed(found: tuple[int, Any] | Finding) -> _Line:
    if isinstance(found, Finding):
        return _Line({"line": int(found.place.removeprefix("line "))}, fault=found.found)
    number, fields = found
    if not isinstance(fields, dict):
        return _Line({"line": number}, fault="found no JSON object, expected one a line")
    fault = None
    for name in ("image", "question"):
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            fault = f"found no text under {name!r}, expected image and question"
    return _Line({**fields, "line": number}, fault=fault)


def _prepare(
    assistant: Assistant,
    folder: Path,
    line: _Line,
    wishes: Wishes,
    opened: OrderedDict[str, OpenedPanorama],
) -> None:
    """Open a line's panorama and read its prefix; a fault stays with the line."""
    if line.fault:
        return
    image = line.fields["image"]
    try:
        if image not in opened:
            opened[image] = assistant.open(folder / image)
        opened.move_to_end(image)
        question = Question(about_panorama(line.fields["question"]), opened[image], wishes)
        line.row = assistant.row(question)
    except PanoVLMError as fault:
        line.fault = str(fault)
    while len(opened) > NUM_OPENED:
        opened.popitem(last=False)


def _written(line: _Line, grounded: bool) -> dict[str, Any]:
    if line.row is None:
        return {**line.fields, "fault": line.fault}
    text = line.row.answer.text
    written = {**line.fields, "answer": text, "finish_reason": line.row.answer.finish_reason}
    if grounded:
        grounding = ground(text)
        written["grounding"] = asdict(grounding) if grounding else None
    return written


def _present(out: Path, lines: list[_Line]) -> int:
    """Count the answers that are there; cut off a last one that a killed process left torn.

    Raises:
        PanoVLMError: If they answer other questions than these.
    """
    if not out.exists():
        return 0
    data = out.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    count = 0
    for count, text in enumerate(whole.decode(errors="replace").split("\n")[:-1], start=1):
        if count > len(lines) or not _answers(text, lines[count - 1].fields):
            raise PanoVLMError(
                f"found in {out}, line {count}, no answer to that line of these questions; name "
                "another --out, or remove it"
            )
    if len(whole) < len(data):
        os.truncate(out, len(whole))
    return count


def _answers(text: str, asked: dict[str, Any]) -> bool:
    try:
        held = parse_json(text)
    except NotJsonError:
        return False
    return isinstance(held, dict) and all(held.get(k) == v for k, v in asked.items())
