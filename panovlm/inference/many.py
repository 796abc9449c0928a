"""Many questions from a file of JSON lines: batches, resumable, a line out for each line in."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panovlm.data.findings import Finding, FindingKind
from panovlm.data.lines import NotJsonError, json_lines, parse_json
from panovlm.errors import PanoVLMError
from panovlm.inference.answers import SamplingParams
from panovlm.inference.assistant import Assistant
from panovlm.inference.lines import BATCH_SIZE, Line, LineAnswerer
from panovlm.runtime.progress import progress_bar


@dataclass(frozen=True)
class Completed:
    """What came of a file of questions.

    Attributes:
        num_answered: Lines answered now.
        num_errors: Lines that got an error instead of an answer now.
        num_present: Lines whose answers were there already.
    """

    num_answered: int
    num_errors: int
    num_present: int


def answer_file(
    assistant: Assistant, file: Path, out: Path, *, grounded: bool = False, sampling: SamplingParams
) -> Completed:
    """Answer each line of a file; what `out` holds already is kept and not asked again.

    Args:
        assistant: Who answers.
        file: A JSON object a line, with `image` (a path from the file's folder, or a list
            of paths) and `question`.
        out: Each line gets its own with the same fields, `line`, and `answer` or `error`.
        grounded: Whether `grounding` is added: the direction an answer names, else null.
        sampling: How answers shall be said.

    Raises:
        PanoVLMError: If the file cannot be read, or `out` holds answers to other questions.
    """
    lines = _read(file)
    present = _present(out, lines)
    answerer = LineAnswerer(assistant, file.parent, sampling, grounded=grounded)
    num_errors = 0
    with progress_bar("answering", len(lines)) as advance, out.open("a") as sink:
        advance(present)
        for start in range(present, len(lines), BATCH_SIZE):
            batch = lines[start : start + BATCH_SIZE]
            outcomes = answerer.answer(batch)
            for line, outcome in zip(batch, outcomes, strict=True):
                written = {**line.fields, **outcome}
                sink.write(json.dumps(written, ensure_ascii=False) + "\n")
            sink.flush()
            os.fsync(sink.fileno())
            num_errors += sum("error" in outcome for outcome in outcomes)
            advance(len(batch))
    return Completed(len(lines) - present - num_errors, num_errors, present)


def _read(file: Path) -> list[Line]:
    lines = []
    for found in json_lines(file):
        if isinstance(found, Finding) and found.kind is FindingKind.FILE:
            raise PanoVLMError(str(found))
        lines.append(_parsed(found))
    if not lines:
        raise PanoVLMError(f"found no line in {file}, expected a JSON object a line")
    return lines


def _parsed(found: tuple[int, Any] | Finding) -> Line:
    if isinstance(found, Finding):
        return Line({"line": int(found.place.removeprefix("line "))}, found.found)
    number, fields = found
    if not isinstance(fields, dict):
        return Line({"line": number}, "found no JSON object, expected one a line")
    return Line.of({**fields, "line": number})


def _present(out: Path, lines: list[Line]) -> int:
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


def _answers(text: str, asked: Mapping[str, Any]) -> bool:
    try:
        held = parse_json(text)
    except NotJsonError:
        return False
    return isinstance(held, dict) and all(held.get(k) == v for k, v in asked.items())
