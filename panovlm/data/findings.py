"""Findings: errors and warnings about a data set, their places and their fixes."""

import reprlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 200


class FindingKind(StrEnum):
    """What a finding is about."""

    FILE = "file"
    JSON = "JSON"
    FIELD = "field"
    MARK = "image mark"
    TEXT = "supervised text"
    URL = "URL"
    MISSING = "missing picture"
    PICTURE = "picture"
    LENGTH = "length"
    LEAK = "leak"
    FORMAT = "other format"
    XMP = "XMP ignored"
    DOUBT = "doubtful picture"
    MISPLACED = "misplaced mark"
    COPY = "copied picture"
    REPEAT = "repeated question"
    CONFLICT = "several answers"
    BLIND = "answered blind"


WARNINGS = frozenset(
    {
        FindingKind.FORMAT,
        FindingKind.XMP,
        FindingKind.DOUBT,
        FindingKind.MISPLACED,
        FindingKind.COPY,
        FindingKind.REPEAT,
        FindingKind.CONFLICT,
        FindingKind.BLIND,
    }
)
"""Kinds that training accepts; all others are errors."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be.

    Attributes:
        kind: What it is about.
        found: What was found.
        fix: What to do about it; empty where `found` includes it.
        file: The data file; None where several share it.
        place: Where in the file, as in "line 3"; empty for all of it.
        field: The record's field.
    """

    kind: FindingKind
    found: str
    fix: str = ""
    file: Path | None = None
    place: str = ""
    field: str | None = None

    @property
    def is_error(self) -> bool:
        """Whether training would refuse the data, or a test would be invalid."""
        return self.kind not in WARNINGS

    @property
    def in_file(self) -> str:
        """The finding in one line, without the file's name."""
        text = f"{self.found}; {self.fix}" if self.fix else self.found
        return f"{self.place}: {text}" if self.place else text

    def __str__(self) -> str:
        return f"{self.file}: {self.in_file}" if self.file else self.in_file


def shown(value: Any) -> str:
    """Return a value as text for a message, shortened where it is long or deep."""
    return _repr.repr(value)
