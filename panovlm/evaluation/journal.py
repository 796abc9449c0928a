"""Answers kept on disk, so that a killed evaluation goes on where it was.

A file of lines beside the report: first what the evaluation is, then the answers of one group of
questions each. Groups do not depend on what is there already, so an evaluation that goes on runs
the very batches it would have run, and ends with the same report.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from panovlm.runtime.files import write_own
from panovlm.training import ranks

_BEGINNING = b'{"facts": {'


class Journal:
    """Answers of an evaluation that has not ended.

    Args:
        path: The file. One of another evaluation is replaced, but nothing else; None keeps nothing.
        facts: Everything the answers rest on, as plain data.

    Raises:
        PanoVLMError: If something else is at the path.
    """

    def __init__(self, path: Path | None = None, facts: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self._kept: dict[tuple[str, int], dict[str, Any]] = {}
        if path is None:
            return
        lines = _whole_lines(path)
        if lines and lines[0] == {"facts": facts}:
            self._kept = {(line["part"], line["group"]): line for line in lines[1:]}
        path.parent.mkdir(parents=True, exist_ok=True)
        held = [{"facts": facts}, *self._kept.values()]
        text = "".join(map(_as_line, held))  # without the line that a kill tore
        write_own(path, lambda partial: partial.write_text(text, encoding="utf-8"), is_journal)

    @property
    def num_kept(self) -> int:
        """Answers that were there before."""
        return sum(len(line["answers"]) for line in self._kept.values())

    def find(self, part: str, group: int) -> tuple[list[str], dict[str, Any]] | None:
        """Return the answers of a group of questions, and what was kept beside them, if any was."""
        line = self._kept.get((part, group))
        return (line["answers"], line.get("beside", {})) if line else None

    def keep(self, part: str, group: int, answers: Sequence[str], **beside: Any) -> None:
        """Append the answers of a group of questions, and wait until they are on the disk.

        The first rank does; the others keep nothing.

        Args:
            part: Of the evaluation.
            group: Number of the group in it.
            answers: To its questions.
            **beside: What else is known of them.
        """
        if self.path is None or not ranks.is_first():
            return
        line = {"part": part, "group": group, "answers": list(answers)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_as_line(line | ({"beside": beside} if beside else {})))
            file.flush()
            os.fsync(file.fileno())

    def end(self) -> None:
        """Remove the file: the report has it all."""
        if self.path:
            self.path.unlink(missing_ok=True)


def is_journal(path: Path) -> bool:
    """Return whether an evaluation began a file."""
    with path.open("rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING


def _as_line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """Read the lines before the first that is no whole JSON object."""
    lines: list[dict[str, Any]] = []
    if path.is_file():
        for text in path.read_bytes().split(b"\n"):
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
    return lines
