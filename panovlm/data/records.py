r"""Records: a panorama and a conversation about it, read from JSON Lines.

    {"image": "pictures/0001.jpg", "messages": [{"role": "user", "content": "<image>\nWhere ...?"},
     {"role": "assistant", "content": "left"}], "kind": "direction", "yaw_deg": -92.5,
     "crosses_seam": false, "rolled_responses": ["left", "back-left", ...]}

`image` is relative to the file, in the spelling of any system; `<image>` marks where the picture
goes (before everything else if there is no mark). A conversation may do without a picture, where a
stage trains on text; batches mix both. The other fields are optional: `kind` groups scores;
`yaw_deg` is the direction of the answer, and `pitch_deg` its elevation; `rolled_responses[j]` is
the right response after a yaw rotation to the right by j/n of a full circle, n being their number,
and null where none is certain, which allows training and testing on yaw-rotated pictures;
`licence` and `source` are those of the picture; `declared` says what the picture is where it does
not itself (`Declaration`), as in {"projection": "cylindrical", "hfov_deg": 180}.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from panovlm.data.file_names import find_file
from panovlm.data.findings import Finding, FindingKind, shown
from panovlm.data.lines import json_lines
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import Declaration, DeclaredPicture, PictureFile, declare
from panovlm.pictures.panorama import declaration_error
from panovlm.stages import Supervision

IMAGE_MARK = "<image>"
MAX_ERRORS_SHOWN = 20


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str


class Record(BaseModel):
    """A panorama and a conversation about it, or one of the two alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: Path | None = None
    messages: tuple[Message, ...] = ()
    kind: str | None = None
    yaw_deg: Annotated[float, Field(gt=-360, le=360)] | None = None
    pitch_deg: Annotated[float, Field(ge=-90, le=90)] | None = None
    crosses_seam: bool | None = None
    rolled_responses: Annotated[tuple[str | None, ...], Field(min_length=1)] | None = None
    licence: str | None = None
    source: str | None = None
    declared: Declaration | None = None

    @property
    def shown(self) -> PictureFile | None:
        """The picture's file with what is declared of it; None for text alone."""
        return declare(self.image, self.declared) if self.image else None

    @property
    def picture(self) -> PictureFile:
        """The picture's file with what is declared of it.

        Raises:
            ValueError: If the record is text alone.
        """
        if self.shown is None:
            raise ValueError("found a record without a picture where each was checked to have one")
        return self.shown

    def declared_by(self, default: Declaration | None) -> "Record":
        """Return the record with a declaration of its picture, unless it has its own."""
        if default is None or self.declared or self.image is None:
            return self
        return self.model_copy(update={"declared": default})

    @property
    def marked_messages(self) -> tuple[Message, ...]:
        """All messages, with the picture's mark in place where there is a picture."""
        return marked(self.messages) if self.image else self.messages

    @property
    def beginning(self) -> tuple[str, ...]:
        """All that stands before the picture's mark, and the white space right behind it.

        Conversations that share it share their first tokens, those of the picture among them. It is
        empty where there is no picture.
        """
        before: list[str] = []
        for message in self.marked_messages:
            text, mark, rest = message.content.partition(IMAGE_MARK)
            before += [message.role, text]
            if mark:
                return (*before, rest[: len(rest) - len(rest.lstrip())])
        return ()

    @property
    def response(self) -> str:
        """The assistant's last message."""
        return self.messages[-1].content

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The messages before the last response, with the picture's mark in place."""
        return self.marked_messages[:-1]

    def has_rotations(self, num_steps: int) -> bool:
        """Return whether it says what is right, or that nothing is, after each of `num_steps`."""
        return self.rolled_responses is not None and len(self.rolled_responses) % num_steps == 0

    def can_rotate(self, num_steps: int) -> bool:
        """Return whether a response is known after each of so many steps around the circle."""
        return self.has_rotations(num_steps) and all(
            self.response_after(step, num_steps) is not None for step in range(num_steps)
        )

    def response_after(self, step: int, num_steps: int) -> str | None:
        """Return the response after one of so many steps to the right; None where none is known."""
        responses = self.rolled_responses or (self.response,)
        return responses[step * len(responses) // num_steps % len(responses)]

    def yaw_rotated(self, num_steps: int) -> "Record":
        """Return the record as it is after the camera has turned right by so many of its own steps.

        Raises:
            ValueError: If no response is known then.
        """
        if self.rolled_responses is None or num_steps == 0:
            return self
        response = self.rolled_responses[num_steps % len(self.rolled_responses)]
        if response is None:
            raise ValueError(f"found no response {num_steps} steps on, where each was checked")
        last = self.messages[-1].model_copy(update={"content": response})
        return self.model_copy(update={"messages": (*self.messages[:-1], last)})


def marked(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Put `<image>` at the front of the first user message if no message has it."""
    if not messages or any(IMAGE_MARK in message.content for message in messages):
        return messages
    first = next(i for i, message in enumerate(messages) if message.role == "user")
    message = messages[first]
    with_mark = message.model_copy(update={"content": f"{IMAGE_MARK}{message.content}"})
    return (*messages[:first], with_mark, *messages[first + 1 :])


@dataclass(frozen=True)
class Needs:
    """What every record of a file must hold.

    Attributes:
        text: A response of the assistant.
        image: A picture.
    """

    text: bool
    image: bool

    @classmethod
    def of(cls, supervision: Supervision) -> "Needs":
        """Return what a stage needs: text where text carries the loss, else pictures."""
        has_text = supervision is not Supervision.NONE
        return cls(text=has_text, image=not has_text)

    def __or__(self, other: "Needs") -> "Needs":
        return Needs(self.text or other.text, self.image or other.image)


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
        return list(dict.fromkeys(e.record.shown for e in self.records if e.record.shown))

    def of(self, file: Path, default: Declaration | None) -> "Checked":
        """Return the records of one file; `default` declares pictures that no record declares."""
        records = (each for each in self.records if each.file == file)
        return Checked([replace(e, record=e.record.declared_by(default)) for e in records])

    @property
    def contradictions(self) -> list[Finding]:
        """What the header of a picture contradicts of its declaration, at its first record."""
        first = {each.record.shown: each for each in reversed(self.records)}
        found = [
            (each, declaration_error(picture))
            for picture, each in first.items()
            if isinstance(picture, DeclaredPicture)
        ]
        kind = FindingKind.PICTURE
        return [Finding(kind, text, "", e.file, e.place, "declared") for e, text in found if text]


def read_records(path: Path, needs: Needs, declared: Declaration | None = None) -> list[Record]:
    """Read and check a file of records.

    Args:
        path: JSON Lines; pictures are relative to its folder.
        needs: What every record must hold.
        declared: What the pictures are, of records that do not declare it.

    Raises:
        PanoVLMError: Listing every invalid line with its fix; nothing is skipped silently.
    """
    checked = check_records({path: needs})
    raise_findings(path, checked.findings)
    checked = checked.of(path, declared)
    raise_findings(path, checked.contradictions)
    return [each.record for each in checked.records]


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


def scan_records(path: Path, needs: Needs) -> Iterator[Located | Finding]:
    """Read a file of records; yield each valid one, and everything wrong with the others."""
    is_empty = True
    for each in json_lines(path):
        is_empty = False
        if isinstance(each, Finding):
            yield each
        else:
            yield from located(each[1], path, f"line {each[0]}", needs)
    if is_empty:
        yield no_records(path, "one JSON object a line")


Scan = Callable[[Path, Needs], Iterable[Located | Finding]]


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


def no_records(path: Path, expected: str) -> Finding:
    """Return the finding for a file that holds nothing."""
    return Finding(FindingKind.FILE, f"{path}: found no records, expected {expected}")


def located(data: Any, file: Path, place: str, needs: Needs) -> Iterable[Located | Finding]:
    """Check the content of one record.

    Args:
        data: What the file holds, in the shape of a record.
        file: The file; pictures are relative to its folder.
        place: Where in the file, as in "line 3".
        needs: What the record must hold.

    Returns:
        The record alone, or its errors.
    """
    try:
        record = Record.model_validate(data)
    except ValidationError as error:
        return [_finding(error, file, place) for error in error.errors(include_url=False)]
    if is_address(data.get("image")):
        found = f"field 'image': found the URL {shown(data['image'])}, which is never fetched"
        return [
            Finding(FindingKind.URL, found, "download the picture and name its file", file, place)
        ]
    if wrong := _error_of(record, needs):
        return [Finding(*wrong, file, place)]
    if record.image:
        record = record.model_copy(update={"image": find_file(file.parent, record.image)})
    return [Located(record, file, place)]


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


def _error_of(record: Record, needs: Needs) -> tuple[FindingKind, str, str] | None:
    """Return why a well-formed record cannot be trained on: the kind, what was found, the fix."""
    marks = sum(message.content.count(IMAGE_MARK) for message in record.messages)
    if record.image is None and "image" in record.model_fields_set:
        fix = "leave it out of a text without a picture"
        return FindingKind.FIELD, "field 'image' is null", fix
    if record.image == Path():
        fix = "name a file, or leave it out of a text without a picture"
        return FindingKind.FIELD, "field 'image' is empty", fix
    if record.image is None and needs.image:
        return FindingKind.FIELD, "field 'image' is missing", "every record needs it here"
    if record.image is None and record.declared:
        fix = "add `image`, or leave it out of a text without a picture"
        return FindingKind.FIELD, "found 'declared' but no picture", fix
    if record.image is None and marks:
        return FindingKind.MARK, f"found {marks} {IMAGE_MARK} mark(s) but no picture", "add `image`"
    if marks > 1:
        found = f"found {marks} {IMAGE_MARK} marks for 1 picture"
        return FindingKind.MARK, found, "keep one mark a picture"
    if any(IMAGE_MARK in m.content for m in record.messages if m.role == "assistant"):
        found = f"found {IMAGE_MARK} in a message of the assistant, which would learn to write it"
        return FindingKind.MARK, found, "move it to a message of the user"
    rotated = record.rolled_responses
    answers = [message.role for message in record.messages].count("assistant")
    if rotated and answers > 1:
        found = (
            f"found rolled_responses beside {answers} messages of the assistant, expected one: "
            "they are of the last alone, and a yaw rotation would leave the others wrong"
        )
        return FindingKind.TEXT, found, "make a record of each question, or leave them out"
    if rotated and record.messages and (rotated[0] != record.response or "" in rotated):
        found = (
            f"found rolled_responses {shown(rotated)}, expected the response itself, "
            f"{shown(record.response)}, first and no empty text"
        )
        return FindingKind.TEXT, found, "correct them or leave them out"
    return _error_of_text(record) if needs.text else None


def _error_of_text(record: Record) -> tuple[FindingKind, str, str] | None:
    roles = [message.role for message in record.messages]
    if "user" not in roles:
        found = "found no user message, expected a question before the response"
        return FindingKind.TEXT, found, "add one to messages"
    if roles[-1] != "assistant" or not record.response.strip():
        found = "found no supervised token: the last message must be the assistant's and not empty"
        return FindingKind.TEXT, found, "add the response"
    return None
