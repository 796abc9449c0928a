"""What an examination says: one page on the terminal, everything in JSON."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from panovlm.data.findings import Finding
from panovlm.doctor.run import Examination
from panovlm.files import write_whole
from panovlm.progress import show_table

MAX_LINES = 20
"""Findings told in full on the terminal."""
MAX_TERMS = 8
"""Licences told on the terminal."""


def show(examination: Examination, *, say: Any = print) -> None:
    """Tell an examination on the terminal: what was read, findings by kind, then the first lines.

    Args:
        examination: What was found.
        say: Prints one line.
    """
    show_table("examined", ["what", "count"], _counts(examination))
    findings = examination.findings
    if not findings:
        say("nothing is wrong")
        return
    kinds = Counter(finding.kind for finding in findings)
    severity = {finding.kind: finding.is_fault for finding in findings}
    rows = [
        [f"{count:,}", kind.value, "fault" if severity[kind] else "warning"]
        for kind, count in kinds.items()
    ]
    show_table("found", ["count", "kind", "is a"], rows)
    for finding in findings[:MAX_LINES]:
        say(f"{'fault' if finding.is_fault else 'warning'}: {finding}")
    if len(findings) > MAX_LINES:
        say(f"and {len(findings) - MAX_LINES} more, see --json")


def _counts(examination: Examination) -> list[list[str]]:
    rows = [
        ["files", f"{len(examination.files):,}"],
        ["good records", f"{examination.num_records:,}"],
        ["pictures", f"{examination.num_pictures:,}"],
    ]
    if examination.num_against:
        rows.append(["test pictures", f"{examination.num_against:,}"])
    rows += _terms("licence", examination.licences)
    named = {name: count for name, count in examination.sources.items() if name}
    without = examination.sources.get("", 0)
    return [*rows, [f"sources ({without:,} pictures without)", f"{len(named):,}"]]


def _terms(field: str, counts: dict[str, int]) -> Iterable[list[str]]:
    for name, count in list(counts.items())[:MAX_TERMS]:
        yield [f"{field} {name[:60]}" if name else f"without {field}", f"{count:,}"]
    if len(counts) > MAX_TERMS:
        yield [
            f"{len(counts) - MAX_TERMS} more {field}s",
            f"{sum(list(counts.values())[MAX_TERMS:]):,}",
        ]


def write_json(examination: Examination, path: Path) -> None:
    """Write everything found as JSON, whole or not at all."""
    facts = {
        "files": [str(file) for file in examination.files],
        "num_records": examination.num_records,
        "num_pictures": examination.num_pictures,
        "num_against": examination.num_against,
        "num_faults": examination.num_faults,
        "num_warnings": len(examination.findings) - examination.num_faults,
        "licences": examination.licences,
        "sources": examination.sources,
        "findings": [_facts(finding) for finding in examination.findings],
    }
    text = json.dumps(facts, indent=2) + "\n"
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def _facts(finding: Finding) -> dict[str, str | None]:
    return {
        "severity": "fault" if finding.is_fault else "warning",
        "kind": finding.kind.value,
        "file": str(finding.file) if finding.file else None,
        "place": finding.place or None,
        "field": finding.field,
        "found": finding.found,
        "cure": finding.cure,
    }
