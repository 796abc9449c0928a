"""What every reader returns and every writer takes."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from panovlm.data.findings import Finding, FindingKind
from panovlm.data.records import Record

CARRIED = (
    "kind",
    "yaw_deg",
    "pitch_deg",
    "crosses_seam",
    "rolled_responses",
    "licence",
    "source",
    "declared",
)
"""The optional fields of records; every format but `records` holds them beside its own."""

MAX_PLACES = 20
"""Places listed in one note."""


@dataclass(frozen=True)
class Entry:
    """One record of a file, not yet checked.

    Attributes:
        data: In the shape of a record; its picture relative to the file's folder, or a URL.
        place: Where in the file, as in "line 3".
        picture: The picture's bytes, where the file holds them.
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
        lost: Fields that records cannot hold, and how often each held something.
        left_out: Places of entries that are none for records, by why.
    """

    entries: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """What was left out, counted and listed."""
        return [
            f"left out {len(places)} {why}: {', '.join(places[:MAX_PLACES])}"
            + (f" and {len(places) - MAX_PLACES} more" if len(places) > MAX_PLACES else "")
            for why, places in self.left_out.items()
        ]

    def leave_out(self, why: str, place: str) -> None:
        """Note an entry that no record is made of."""
        self.left_out.setdefault(why, []).append(place)

    def lose(self, data: dict[Any, Any], prefix: str = "") -> None:
        """Count the fields left over that hold something."""
        for key, value in data.items():
            if value not in (None, "", [], {}):
                self.lost[f"{prefix}{str(key)[:50]}"] += 1

    def refuse(
        self, found: str, fix: str, path: Path, place: str, field: str | None = None
    ) -> None:
        """Add a finding about one record."""
        self.findings.append(Finding(FindingKind.FIELD, found, fix, path, place, field))


@dataclass(frozen=True)
class Item:
    """A checked record to be written.

    Attributes:
        record: The record.
        image: Its picture's name in the new file: relative to the file's folder, or a URL; None for
            a text without a picture.
        path: Where the picture is now; None for a URL and for one inside a data set.
        picture: The bytes of one inside a data set.
    """

    record: Record
    image: str | None
    path: Path | None
    picture: bytes | None = None

    @property
    def extras(self) -> dict[str, Any]:
        """The optional fields that the record has."""
        dumped = self.record.model_dump(mode="json", exclude_none=True)
        return {key: dumped[key] for key in CARRIED if key in dumped}


def listed(value: Any) -> list[Any]:
    """Return a list as it is, one value in a list, and None as an empty list."""
    return value if isinstance(value, list) else [] if value is None else [value]
