"""The check of records that training makes before it starts, and `panovlm data check` too."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from panovlm.data.findings import Finding
from panovlm.data.records import Located, Needs, scan_records

Scan = Callable[[Path, Needs], Iterable[Located | Finding]]


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
        return list(dict.fromkeys(e.record.image for e in self.records if e.record.image))

    def pictures_of(self, file: Path) -> list[Path]:
        """Every picture of one file once, in its records' order."""
        own = (each.record.image for each in self.records if each.file == file)
        return list(dict.fromkeys(picture for picture in own if picture))


def check_records(files: Mapping[Path, Needs], scan: Scan = scan_records) -> Checked:
    """Read every record of all files.

    Args:
        files: The files, and what their records must hold.
        scan: Reads one file.
    """
    checked = Checked()
    for path, needs in files.items():
        for each in scan(path, needs):
            if isinstance(each, Finding):
                checked.findings.append(each)
            else:
                checked.records.append(each)
    return checked
