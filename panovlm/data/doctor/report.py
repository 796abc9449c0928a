"""The report of an examination: one page on the terminal, everything in JSON."""

import json
from collections.abc import Iterable
from pathlib import Path

from panovlm.data.doctor.run import Examination
from panovlm.data.findings import Finding, FindingKind
from panovlm.runtime.files import has_keys, write_own
from panovlm.runtime.progress import show_table

MAX_LINES = 8
"""Findings of one kind shown in full on the terminal."""
MAX_TERMS = 8
"""Licences shown on the terminal."""


def show(examination: Examination) -> None:
    """Print an examination: what was read, the number of findings by kind, their first lines."""
    show_table("examined", ["what", "count"], _counts(examination))
    by_kind: dict[FindingKind, list[Finding]] = {}
    for finding in examination.findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    if not by_kind:
        print("nothing is wrong")
        return
    rows = [[f"{len(found):,}", kind.value, _severity(found[0])] for kind, found in by_kind.items()]
    show_table("found", ["count", "kind", "is a"], rows)
    for kind, found in by_kind.items():
        for finding in found[:MAX_LINES]:
            print(f"{_severity(finding)}: {finding}")
        if len(found) > MAX_LINES:
            print(f"and {len(found) - MAX_LINES} more ({kind.value}), see --json")


def _severity(finding: Finding) -> str:
    return "error" if finding.is_error else "warning"


def _counts(examination: Examination) -> list[list[str]]:
    rows = [
        ["files", f"{len(examination.files):,}"],
        ["good records", f"{examination.num_records:,}"],
        ["pictures", f"{examination.num_pictures:,}"],
    ]
    if examination.num_against:
        rows.append(["test pictures", f"{examination.num_against:,}"])
    rows += _terms("licence", examination.licences)
    without, count = examination.sources.get("", 0), len(examination.sources.keys() - {""})
    return [*rows, [f"sources ({without:,} pictures without)", f"{count:,}"]]


def _terms(field: str, counts: dict[str, int]) -> Iterable[list[str]]:
    for name, count in list(counts.items())[:MAX_TERMS]:
        yield [f"{field} {name[:60]}" if name else f"without {field}", f"{count:,}"]
    rest = list(counts.values())[MAX_TERMS:]
    if rest:
        yield [f"{len(rest)} more {field}s", f"{sum(rest):,}"]


def write_json(examination: Examination, path: Path) -> None:
    """Write everything found as JSON, whole or not at all."""
    facts = {
        "num_errors": examination.num_errors,
        "num_warnings": len(examination.findings) - examination.num_errors,
        **vars(examination),
        "files": [str(file) for file in examination.files],
        "findings": [_facts(finding) for finding in examination.findings],
    }
    text = json.dumps(facts, indent=2) + "\n"
    write_own(path, lambda partial: partial.write_text(text, encoding="utf-8"), is_examination)


def is_examination(path: Path) -> bool:
    """Return whether `write_json` wrote a file."""
    return has_keys(path, ("num_errors", "num_warnings", "files", "findings"))


def _facts(finding: Finding) -> dict[str, str | None]:
    return {
        "severity": _severity(finding),
        "kind": finding.kind.value,
        "file": str(finding.file) if finding.file else None,
        "place": finding.place or None,
        "field": finding.field,
        "found": finding.found,
        "fix": finding.fix,
    }
