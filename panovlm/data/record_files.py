"""Files of records: reading and checking them, with every error named by its place."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from panovlm.data.file_names import find_file
from panovlm.data.findings import Finding, FindingKind, shown
from panovlm.data.lines import json_lines
from panovlm.data.records import IMAGE_MARK, Needs, Record
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import Declaration, DeclaredPicture, PictureFile
from panovlm.pictures.panorama import declaration_error

MAX_ERRORS_SHOWN = 20
Wrong = tuple[FindingKind, str, str]
"""What is wrong with a well-formed record: its kind, what was found, the fix."""


@dataclass(frozen=True)
class Located:
    """A record and its place in a file.

    Attributes:
        record: The record; its picture's path no longer depends on the file's folder.
        file: The file that holds it.
        place: Where in the file, as in "line 3".
    """

    record: Record
    file: Path
    place: str


@dataclass(frozen=True)
class Checked:
    """Content of data files.

    Attributes:
        records: All valid records.
        findings: What is wrong with the others.
    """

    records: list[Located] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def pictures(self) -> list[PictureFile]:
        """Every picture once, in the records' order."""
        return list(dict.fromkeys(p for each in self.records for p in each.record.pictures))

    @property
    def errors(self) -> list[Finding]:
        """The findings that training refuses."""
        return [finding for finding in self.findings if finding.is_error]

    @property
    def contradictions(self) -> list[Finding]:
        """What the header of a picture contradicts of its declaration, at its first record."""
        first = {p: each for each in reversed(self.records) for p in each.record.pictures}
        found = [
            (each, declaration_error(picture))
            for picture, each in first.items()
            if isinstance(picture, DeclaredPicture)
        ]
        kind = FindingKind.PICTURE
        return [Finding(kind, text, "", e.file, e.place, "declared") for e, text in found if text]

    def of_one_file(self, path: Path) -> list[Record]:
        """Return the records of a file, all of which are valid.

        Raises:
            PanoVLMError: Listing every invalid line with its fix; nothing is skipped silently.
        """
        raise_findings(path, self.errors)
        raise_findings(path, self.contradictions)
        return [each.record for each in self.records]


def raise_findings(path: Path, findings: Sequence[Finding]) -> None:
    """Raise one error that lists all findings in a file, if there are any."""
    for finding in findings:
        if finding.kind is FindingKind.FILE:  # nothing of the file can be read
            raise PanoVLMError(finding.in_file)
    raise_errors(str(path), [finding.in_file for finding in findings])


def raise_errors(source: str, errors: Iterable[str]) -> None:
    """Raise one error that lists all errors found in `source`, if there are any."""
    listed = list(errors)
    if listed:
        lines = "\n  ".join(listed[:MAX_ERRORS_SHOWN])
        more = len(listed) - MAX_ERRORS_SHOWN
        rest = f"\n  ... and {more} more" if more > 0 else ""
        raise PanoVLMError(f"{source} has {len(listed)} error(s):\n  {lines}{rest}")


def scan_records(
    path: Path, needs: Needs, pictures: Path | None = None
) -> Iterator[Located | Finding]:
    """Read a file of records; yield each valid one, and everything wrong with the others."""
    is_empty = True
    for each in json_lines(path):
        is_empty = False
        if isinstance(each, Finding):
            yield each
        else:
            yield from located(each[1], path, f"line {each[0]}", needs, pictures)
    if is_empty:
        yield no_records(path, "one JSON object a line")


Scan = Callable[[Path, Needs, Path | None], Iterable[Located | Finding]]


def check_records(
    files: Mapping[Path, Needs], scan: Scan = scan_records, pictures: Path | None = None
) -> Checked:
    """Read every record of all files.

    Args:
        files: The files, and what their records must hold.
        scan: Reads one file; as it is, JSON Lines.
        pictures: Folder that paths of pictures start from; None for each file's own.
    """
    found = [each for path, needs in files.items() for each in scan(path, needs, pictures)]
    return Checked(
        [each for each in found if isinstance(each, Located)],
        [each for each in found if isinstance(each, Finding)],
    )


def read_records(path: Path, needs: Needs, scan: Scan = scan_records) -> list[Record]:
    """Read and check one file, as `check_records` does.

    Raises:
        PanoVLMError: Listing every invalid line with its fix; nothing is skipped silently.
    """
    return check_records({path: needs}, scan).of_one_file(path)


def no_records(path: Path, expected: str) -> Finding:
    """Return the finding for a file that holds nothing."""
    return Finding(FindingKind.FILE, f"{path}: found no records, expected {expected}")


def located(
    data: Any, file: Path, place: str, needs: Needs, pictures: Path | None = None
) -> Iterable[Located | Finding]:
    """Check the content of one record.

    Args:
        data: What the file holds, in the shape of a record.
        file: The file.
        place: Where in the file, as in "line 3".
        needs: What the record must hold.
        pictures: Folder that paths of pictures start from; None for the file's own.

    Returns:
        The record alone, or its errors.
    """
    try:
        record = Record.model_validate(data)
    except ValidationError as error:
        return [_finding(error, file, place) for error in error.errors(include_url=False)]
    for image in (data.get("image"), *(data.get("images") or ())):
        if is_address(image):
            found = f"field 'image': found the URL {shown(image)}, which is never fetched"
            fix = "download the picture and name its file"
            return [Finding(FindingKind.URL, found, fix, file, place)]
    errors = chain(_errors_of_pictures(record, needs), _errors_of_text(record, needs))
    if wrong := next(errors, None):  # others may follow from it
        return [Finding(*wrong, file, place)]
    paths = tuple(find_file(pictures or file.parent, path) for path in record.paths)
    found_files = {"images": paths} if record.images else {"image": next(iter(paths), None)}
    return [Located(record.model_copy(update=found_files) if paths else record, file, place)]


def is_address(image: object) -> bool:
    """Return whether `image` holds a URL, of the web or with the picture in it, and no path."""
    return isinstance(image, str) and ("://" in image[:30] or image[:5].lower() == "data:")


def _finding(error: Any, file: Path, place: str) -> Finding:
    """Convert one of pydantic's errors to a finding with its fix."""
    field = ".".join(map(str, error["loc"])) or "record"
    found, fix = f"field {field!r}: found {shown(error['input'])}, expected: {error['msg']}", ""
    if error["type"] == "value_error":  # of a declaration
        found = f"field {field!r}: {error['ctx']['error']}"
    if error["type"] == "missing":
        found, fix = f"field {field!r} is missing", "every record needs it"
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        found, fix = f"unknown field {shown(field)}", f"remove or rename it{_nearest(field)}"
    return Finding(FindingKind.FIELD, found, fix, file, place, field)


def _nearest(field: str) -> str:
    if field in Declaration.__dataclass_fields__:
        return f', or move it into "declared", as {{"{field}": ...}}'
    close = difflib.get_close_matches(field[:50], Record.model_fields, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _errors_of_pictures(record: Record, needs: Needs) -> Iterator[Wrong]:
    marks = sum(message.content.count(IMAGE_MARK) for message in record.messages)
    count = len(record.paths)
    if record.images and record.image:
        fix = "leave out `image` where `images` lists several"
        yield FindingKind.FIELD, "found both 'image' and 'images'", fix
    if count > 1 and needs.one_picture:
        yield (
            FindingKind.FIELD,
            f"found {count} pictures, expected one a record",
            "split or remove it",
        )
    if count > 1 and record.rolled_responses:
        found = f"found rolled_responses beside {count} pictures, expected one: none is rotated"
        yield FindingKind.FIELD, found, "leave them out"
    if record.image is None and "image" in record.model_fields_set:
        yield FindingKind.FIELD, "field 'image' is null", "leave it out of a text without a picture"
    if Path() in record.paths:
        fix = "name a file, or leave it out of a text without a picture"
        yield FindingKind.FIELD, "field 'image' is empty", fix
    if not count and needs.image:
        yield FindingKind.FIELD, "field 'image' is missing", "every record needs it here"
    if not count and record.declared:
        fix = "add `image`, or leave it out of a text without a picture"
        yield FindingKind.FIELD, "found 'declared' but no picture", fix
    if not count and marks:
        yield FindingKind.MARK, f"found {marks} {IMAGE_MARK} mark(s) but no picture", "add `image`"
    if marks not in (0, count):
        found = f"found {marks} {IMAGE_MARK} mark{'s' * (marks > 1)} for {count} picture"
        yield FindingKind.MARK, found + "s" * (count > 1), "keep one mark a picture"


def _errors_of_text(record: Record, needs: Needs) -> Iterator[Wrong]:
    roles, rotated = [message.role for message in record.messages], record.rolled_responses
    answers = roles.count("assistant")
    if any(IMAGE_MARK in m.content for m in record.messages if m.role == "assistant"):
        found = f"found {IMAGE_MARK} in a message of the assistant, which would learn to write it"
        yield FindingKind.MARK, found, "move it to a message of the user"
    if rotated and answers > 1:
        found = (
            f"found rolled_responses beside {answers} messages of the assistant, expected one: "
            "they are of the last alone, and a yaw rotation would leave the others wrong"
        )
        yield FindingKind.TEXT, found, "make a record of each question, or leave them out"
    if rotated and roles and (rotated[0] != record.response or "" in rotated):
        found = (
            f"found rolled_responses {shown(rotated)}, expected the response itself, "
            f"{shown(record.response)}, first and no empty text"
        )
        yield FindingKind.TEXT, found, "correct them or leave them out"
    if needs.text and "user" not in roles:
        found = "found no user message, expected a question before the response"
        yield FindingKind.TEXT, found, "add one to messages"
    if needs.text and (roles[-1] != "assistant" or not record.response.strip()):
        found = "found no supervised token: the last message must be the assistant's and not empty"
        yield FindingKind.TEXT, found, "add the response"
