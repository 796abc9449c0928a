"""What every reader gives and every writer takes."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from panovlm.data.findings import Finding
from panovlm.data.records import Record

CARRIED = ("kind", "yaw_deg", "pitch_deg", "crosses_seam", "rolled_responses", "licence", "source")
"""The optional fields of records; every format but `records` holds them beside its own."""


@dataclass(frozen=True)
class Entry:
    """One record as a file holds it, not yet checked.

    Attributes:
        data: In the shape of a record; its picture relative to the file's folder, or a URL.
        place: Where in the file, as in "line 3".
        picture: The picture's bytes, where the file holds them itself.
    """

    data: Any
    place: str
    picture: bytes | None = None


@dataclass
class Content:
    """All that a file holds.

    Attributes:
        entries: Its records.
        findings: What could not be read.
        lost: Fields that records cannot carry, and how often each held something.
    """

    entries: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)

    def lose(self, data: dict[Any, Any], prefix: str = "") -> None:
        """Count the fields left over that hold something."""
        for key, value in data.items():
            if value not in (None, "", [], {}):
                self.lost[f"{prefix}{str(key)[:50]}"] += 1


@dataclass(frozen=True)
class Item:
    """A checked record to be written.

    Attributes:
        record: The record.
        image: Its picture as it is to be written: relative to the file's folder, or a URL.
        path: Where the picture is now; None for a URL and for one inside a data set.
        picture: The bytes of one inside a data set.
    """

    record: Record
    image: str
    path: Path | None
    picture: bytes | None = None

    def extras(self) -> Iterator[tuple[str, Any]]:
        """Give the optional fields that the record has."""
        dumped = self.record.model_dump(mode="json", exclude_none=True)
        yield from ((key, dumped[key]) for key in CARRIED if key in dumped)
