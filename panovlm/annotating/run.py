"""The annotation of many pictures: a line each, in parallel, resumable."""

import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2

from panovlm.annotating.picture import (
    Picture,
    Setup,
    annotate_panorama,
    digest_of,
    open_panorama,
)
from panovlm.annotating.sources import find_pictures
from panovlm.annotating.teachers import TeacherError
from panovlm.data.annotations import Annotation, Teacher, read_annotations
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import Declaration
from panovlm.runtime.processes import mapping
from panovlm.runtime.progress import progress_bar

_PICTURES_PER_PROCESS = 4
"""Pictures worth a process of their own: its start takes seconds."""
_LINE_START = b'{"image":"'
_MAX_TEACHER_FAILURES = 3
"""Pictures in a row on which a teacher fails altogether before the run is stopped."""


@dataclass(frozen=True)
class Failure:
    """A picture that was not annotated.

    Attributes:
        reason: Why.
        is_teachers: Whether it was the teacher that failed.
    """

    reason: str
    is_teachers: bool = False


@dataclass(frozen=True)
class Outcome:
    """What was annotated.

    Attributes:
        num_written: Pictures annotated now.
        num_present: Pictures that the file held already.
        num_findings: Findings about views of all pictures in the file.
        errors: Why each of the other pictures was not annotated.
    """

    num_written: int
    num_present: int
    num_findings: int
    errors: tuple[str, ...]


def annotate(
    given: Path,
    out: Path,
    setup: Setup,
    *,
    declared: Declaration | None = None,
    workers: int | None = None,
) -> Outcome:
    """Annotate the pictures of `given` that `out` does not hold yet, a line each.

    A killed run goes on where it was and ends with the same file, and so does one with another
    number of workers. With more than one worker the calling script needs its
    `if __name__ == "__main__"` guard.

    Args:
        given: As `find_pictures` takes it.
        out: The file of annotations; it is made, or lines are added to it.
        setup: Who annotates, and how.
        declared: As in `find_pictures`.
        workers: Processes of a teacher that computes here; None takes one for each processor, fewer
            where starting them would take longer than the work.

    Raises:
        PanoVLMError: If there are no pictures, or `out` holds annotations of another teacher or
            of other settings, or the teacher cannot be used, or a process died.
        OSError: If the disk fails.
    """
    pictures = find_pictures(given, out, declared)
    present = _present(out, setup.description)
    names = {os.path.relpath(each.image, out.parent): each.declared for each in present}
    _check_declared(out, pictures, names)
    to_do = [picture for picture in pictures if picture.name not in names]
    num_findings, num_written = sum(len(each.findings) for each in present), 0
    errors: list[str] = []
    teacher_failures = 0
    setup.teacher.prepare()
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", encoding="utf-8") as file, progress_bar("annotating", len(pictures)) as step:
        step(len(pictures) - len(to_do))
        for result in _annotate_all(to_do, setup, workers):
            if isinstance(result, Annotation):
                file.write(result.to_line() + "\n")
                file.flush()
                os.fsync(file.fileno())
                num_written, num_findings = num_written + 1, num_findings + len(result.findings)
                teacher_failures = 0
            else:
                errors.append(result.reason)
                teacher_failures += result.is_teachers
                _check_teacher_works(teacher_failures, result.reason)
            step(1, f"{len(errors)} failed" if errors else "")
    return Outcome(num_written, len(present), num_findings, tuple(errors))


def _present(out: Path, teacher: Teacher) -> list[Annotation]:
    """Read the annotations of a run before; cut off a last line that a kill left incomplete."""
    if not out.exists():
        return []
    data = out.read_bytes()
    torn = data[data.rfind(b"\n") + 1 :]
    if torn and not all(_may_begin(text) for text in (data, torn)):
        raise PanoVLMError(
            f"{out}: found a file that no annotations begin, expected a new one or one that "
            "`panovlm annotate` wrote; name another --out"
        )
    if torn:
        os.truncate(out, len(data) - len(torn))
    present = read_annotations(out)
    for number, each in enumerate(present, start=1):
        if each.teacher != teacher:
            raise PanoVLMError(
                f"{out} line {number}: found an annotation of another teacher or other settings: "
                f"{_difference(each.teacher, teacher)}; expected the same for the whole file; name "
                "another --out, or use the settings of the file"
            )
    return present


def _check_declared(
    out: Path, pictures: Iterable[Picture], present: Mapping[str, Declaration | None]
) -> None:
    """Refuse to leave a picture as it is that was something else when it was annotated."""
    for picture in pictures:
        before = present.get(picture.name, picture.declared)
        if before != picture.declared:
            found, now = (each.said if each else {} for each in (before, picture.declared))
            raise PanoVLMError(
                f"{out}: found an annotation of {picture.name} declared as {found} (now {now}), "
                "expected the same; name another --out, or declare the same"
            )


def _may_begin(text: bytes) -> bool:
    """Whether a text may be the beginning of an annotation, so that nothing else is cut off."""
    return text.startswith(_LINE_START) or _LINE_START.startswith(text)


def _difference(before: Teacher, now: Teacher) -> str:
    """Word how two descriptions of teachers differ."""
    first, second = ({**each.settings, **dict(each) | {"settings": None}} for each in (before, now))
    keys = [key for key in {**first, **second} if first.get(key) != second.get(key)]
    return ", ".join(f"{key} {first.get(key)!r} (now {second.get(key)!r})" for key in keys)


def _annotate_all(
    pictures: list[Picture], setup: Setup, workers: int | None
) -> Iterator[Annotation | Failure]:
    """Yield the outcome for each picture, in order."""
    if workers is None:
        workers = min(os.cpu_count() or 1, -(-len(pictures) // _PICTURES_PER_PROCESS))
    num_processes = min(workers, len(pictures)) if setup.teacher.in_processes else 1
    if setup.teacher.in_processes:
        cv2.setNumThreads(1)  # as in other processes; one process each is faster than threads
    with mapping(num_processes, _begin_worker) as apply:
        yield from apply(partial(attempt, setup=setup), pictures)


def _begin_worker() -> None:
    """Keep to one processor, and leave it to the first process to end when the user stops it."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def attempt(picture: Picture, setup: Setup) -> Annotation | Failure:
    """Annotate one picture, or return why it cannot be.

    Raises:
        PanoVLMError: If the teacher cannot be used at all.
    """
    try:
        digest, panorama = digest_of(Path(picture.path)), open_panorama(picture.path, setup.layout)
    except PanoVLMError as error:
        return Failure(str(error))
    except MemoryError:
        return Failure(
            f"{picture.path}: found too little memory, expected room for a few copies of the "
            "picture; use fewer --workers"
        )
    try:
        return annotate_panorama(panorama, picture, digest, setup)
    except TeacherError as error:
        return Failure(str(error), is_teachers=True)


def _check_teacher_works(failures: int, reason: str) -> None:
    if failures >= _MAX_TEACHER_FAILURES:
        raise PanoVLMError(
            f"{reason}. That makes {failures} pictures in a row, and the run is stopped; correct "
            "the teacher's settings or wait until it answers, and run the command again: what is "
            "written stays"
        )
