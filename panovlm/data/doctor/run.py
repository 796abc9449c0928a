"""The examination of data files: records and pictures as training checks them, then copies."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from pathlib import Path

from panovlm.data.checking import Checked, check_records
from panovlm.data.doctor.leaks import copied, leaked
from panovlm.data.doctor.pictures import Picture, begin_worker, look_at
from panovlm.data.doctor.texts import TextLimit, asked_twice, misplaced_marks, terms, unfit
from panovlm.data.findings import Finding
from panovlm.data.formats.reading import scan
from panovlm.data.records import Located, Needs
from panovlm.errors import PanoVLMError
from panovlm.runtime.processes import mapping
from panovlm.runtime.progress import progress_bar

_PICTURES_PER_PROCESS = 64
"""Pictures worth a process of their own: its start takes seconds."""


@dataclass(frozen=True)
class Examination:
    """What was examined, and what was found.

    Attributes:
        files: The data files.
        num_records: Good records in them.
        num_pictures: Different picture files they name.
        num_against: Pictures of the test data.
        licences: Pictures by licence; the empty name for those without.
        sources: Pictures by source; the empty name for those without.
        findings: Everything found: errors, then warnings.
    """

    files: tuple[Path, ...]
    num_records: int
    num_pictures: int
    num_against: int
    licences: dict[str, int]
    sources: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def num_errors(self) -> int:
        """Findings that are no mere warnings."""
        return sum(finding.is_error for finding in self.findings)


def examine(
    files: Sequence[Path],
    *,
    against: Sequence[Path] = (),
    limit: TextLimit | None = None,
    needs_text: bool = True,
    workers: int | None = None,
) -> Examination:
    """Examine data files of any format; nothing is fetched from the net and nothing written.

    With more than one worker the calling script needs its `if __name__ == "__main__"` guard.

    Args:
        files: Records or any other format that `panovlm data convert` reads.
        against: Test data that must share no picture with them.
        limit: What the model reads that the conversations must fit.
        needs_text: Whether every record must hold something an assistant says.
        workers: Number of processes, at least 1; None takes one for each processor, fewer where
            starting them would take longer than the work.

    Raises:
        PanoVLMError: If a process died.
    """
    checked = check_records(
        dict.fromkeys(files, Needs(text=needs_text, image=not needs_text)), scan
    )
    others = check_records(dict.fromkeys(against, Needs(text=False, image=False)), scan)
    names = [*dict.fromkeys([*checked.pictures, *others.pictures])]
    pictures = look_at_all(names, workers)
    findings = [*_found(checked, others, pictures), *_found_in_texts(checked.records, pictures)]
    if limit is not None:
        findings += unfit(checked.records, limit)
    findings.sort(key=lambda finding: not finding.is_error)
    return Examination(
        files=tuple(files),
        num_records=len(checked.records),
        num_pictures=len(checked.pictures),
        num_against=len(others.pictures),
        licences=terms(checked.records, "licence"),
        sources=terms(checked.records, "source"),
        findings=tuple(findings),
    )


def look_at_all(paths: Sequence[Path], workers: int | None = None) -> dict[Path, Picture]:
    """Look at pictures in processes, under a progress bar.

    Raises:
        PanoVLMError: If a process died, or there shall be none.
    """
    if workers is not None and workers < 1:
        raise PanoVLMError(f"found {workers} workers, expected 1 or more; raise --workers")
    if workers is None:
        workers = min(os.cpu_count() or 1, -(-len(paths) // _PICTURES_PER_PROCESS))
    try:
        with (
            progress_bar("reading pictures", len(paths)) as advance,
            mapping(min(workers, len(paths)), begin_worker) as apply,
        ):
            seen: dict[Path, Picture] = {}
            for picture in apply(look_at, paths):
                seen[picture.path] = picture
                advance(1)
            return seen
    except BrokenExecutor as error:
        raise PanoVLMError(
            f"found a process that ended early, perhaps for want of memory: {error}; pass a number "
            f"below {workers} as --workers"
        ) from error


def _found(checked: Checked, others: Checked, pictures: dict[Path, Picture]) -> Iterator[Finding]:
    """Give what is wrong with files and pictures, and between the data and the test data."""
    yield from checked.findings
    yield from others.findings
    users = _users([*checked.records, *others.records])
    for path, picture in pictures.items():
        for finding in picture.findings:
            yield _at(finding, users[path])
    own = [pictures[path] for path in checked.pictures]
    yield from copied(own)
    yield from leaked(own, [pictures[path] for path in others.pictures])


def _found_in_texts(records: Sequence[Located], pictures: dict[Path, Picture]) -> Iterator[Finding]:
    yield from misplaced_marks(records)
    yield from asked_twice(records, pictures)


def _users(records: Iterable[Located]) -> dict[Path, Located]:
    """Give the first record that names each picture."""
    users: dict[Path, Located] = {}
    for each in records:
        if each.record.image:
            users.setdefault(each.record.image, each)
    return users


def _at(finding: Finding, user: Located) -> Finding:
    """Say where a picture is named first."""
    return Finding(finding.kind, finding.found, finding.fix, user.file, user.place, finding.field)
