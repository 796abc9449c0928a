"""The check of records that training makes before it starts, and `panovlm data check` too."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from panovlm.data.findings import Finding
from panovlm.data.records import Located, scan_records

Scan = Callable[[Path, bool], Iterable[Located | Finding]]


@dataclass(frozen=True)
class Checked:
    """What data files hold.

    Attributes:
        records: All good records.
        findings: What is wrong with the others.
    """

    records: list[Located] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def pictures(self) -> list[Path]:
        """Every picture once, in the records' order."""
        return list(dict.fromkeys(each.record.image for each in self.records))

    def pictures_of(self, file: Path) -> list[Path]:
        """Every picture of one file once, in its records' order."""
        own = (each.record.image for each in self.records if each.file == file)
        return list(dict.fromkeys(own))


def _scan(path: Path, needs_text: bool) -> Iterable[Located | Finding]:
    return scan_records(path, needs_text=needs_text)


def check_records(files: Mapping[Path, bool], scan: Scan = _scan) -> Checked:
    """Read every record of all files.

    Args:
        files: The files, and whether their records must hold something an assistant says.
        scan: Reads one file.
    """
    checked = Checked()
    for path, needs_text in files.items():
        for each in scan(path, needs_text):
            if isinstance(each, Finding):
                checked.findings.append(each)
            else:
                checked.records.append(each)
    return checked
