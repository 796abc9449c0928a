"""The examination of data files: records and pictures as training checks them, then copies."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from panovlm.data.conversations import ConversationTokenizer
from panovlm.data.doctor import texts
from panovlm.data.doctor.leaks import copied, leaked
from panovlm.data.doctor.pictures import Picture, begin_worker, inspect_picture
from panovlm.data.findings import Finding
from panovlm.data.formats.reading import scan
from panovlm.data.picture_folders import is_picture_folder
from panovlm.data.record_files import Checked, check_records
from panovlm.data.records import Needs
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import PictureFile
from panovlm.runtime.processes import mapping
from panovlm.runtime.progress import progress_bar

_PICTURES_PER_PROCESS = 64
"""Pictures worth a process of their own: its start takes seconds."""


@dataclass(frozen=True)
class Examination:
    """The result of an examination.

    Attributes:
        files: The data files.
        num_records: Valid records in them.
        num_pictures: Different picture files in these records.
        num_against: Pictures of the test data.
        licences: Number of pictures by licence; the empty name for those without.
        sources: Number of pictures by source; the empty name for those without.
        findings: Errors, then warnings.
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
        """Number of findings that are errors."""
        return sum(finding.is_error for finding in self.findings)


def examine(
    files: Sequence[Path],
    *,
    against: Sequence[Path] = (),
    tokenizer: ConversationTokenizer | None = None,
    needs_text: bool = True,
    pictures: Path | None = None,
    workers: int | None = None,
) -> Examination:
    """Examine data files of any format; nothing is downloaded and nothing written.

    With more than one worker the calling script needs its `if __name__ == "__main__"` guard.

    Args:
        files: Records or any other format that `panovlm data convert` reads.
        against: Test data that must share no picture with them.
        tokenizer: Whose limit the conversations must fit.
        needs_text: Whether every record must hold a response of the assistant; a folder of pictures
            never does.
        pictures: Folder that paths of pictures start from; None for each file's own.
        workers: Number of processes, at least 1; None takes one for each processor, fewer where
            starting them would take longer than the work.

    Raises:
        PanoVLMError: If a process died.
    """
    needs = Needs(needs_text, not needs_text, one_picture=False)
    alone = Needs(text=False, image=True)
    wanted = {file: alone if is_picture_folder(file) else needs for file in files}
    checked = check_records(wanted, scan, pictures)
    others = check_records(dict.fromkeys(against, Needs(text=False, image=False)), scan)
    inspected = inspect_pictures([*dict.fromkeys(checked.pictures + others.pictures)], workers)
    findings = [
        *_found(checked, others, inspected),
        *texts.misplaced_marks(checked.records),
        *texts.repeated_questions(checked.records, inspected),
        *(texts.too_long(checked.records, tokenizer) if tokenizer else ()),
    ]
    findings.sort(key=lambda finding: not finding.is_error)
    return Examination(
        files=tuple(files),
        num_records=len(checked.records),
        num_pictures=len(checked.pictures),
        num_against=len(others.pictures),
        licences=texts.terms(checked.records, "licence"),
        sources=texts.terms(checked.records, "source"),
        findings=tuple(findings),
    )


def inspect_pictures(
    paths: Sequence[PictureFile], workers: int | None = None
) -> dict[PictureFile, Picture]:
    """Inspect pictures in processes, under a progress bar.

    Raises:
        PanoVLMError: If a process died, or `workers` is below 1.
    """
    if workers is not None and workers < 1:
        raise PanoVLMError(f"found {workers} workers, expected 1 or more; raise --workers")
    if workers is None:
        workers = min(os.cpu_count() or 1, -(-len(paths) // _PICTURES_PER_PROCESS))
    with (
        progress_bar("reading pictures", len(paths)) as advance,
        mapping(min(workers, len(paths)), begin_worker) as apply,
    ):
        pictures: dict[PictureFile, Picture] = {}
        for picture in apply(inspect_picture, paths):
            pictures[picture.file] = picture
            advance(1)
        return pictures


def _found(
    checked: Checked, others: Checked, pictures: dict[PictureFile, Picture]
) -> Iterator[Finding]:
    """Yield what is wrong with files and pictures, and between the data and the test data."""
    yield from checked.findings
    yield from others.findings
    located = reversed([*checked.records, *others.records])
    users = {picture: each for each in located for picture in each.record.pictures}
    for path, picture in pictures.items():
        first = users[path]  # the first record that names it
        for finding in picture.findings:
            yield replace(finding, file=first.file, place=first.place)
    own = [pictures[path] for path in checked.pictures]
    yield from copied(own)
    yield from leaked(own, [pictures[path] for path in others.pictures])
