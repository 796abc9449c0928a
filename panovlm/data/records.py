r"""Records: a panorama and what is said about it, read from JSON Lines.

    {"image": "pictures/0001.jpg", "messages": [{"role": "user", "content": "<image>\nWhere ...?"},
     {"role": "assistant", "content": "left"}], "kind": "direction", "yaw_deg": -92.5,
     "crosses_seam": false, "rolled_responses": ["left", "back-left", ...]}

`image` is relative to the file; `<image>` marks where the picture goes (before everything else if
there is no mark). A conversation may do without a picture, where a stage trains on text; batches
mix both. The other fields are optional: `kind` groups scores; `yaw_deg` is the direction
the answer is about, and `pitch_deg` how far up it is; `rolled_responses[j]` is the right response
after the camera has turned right by j/n of a full turn, n being their number, which allows training
and testing on turned pictures; `licence` and `source` say under which terms and from where the
picture came.
"""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from panovlm.data.findings import Finding, Kind, shown
from panovlm.data.lines import json_lines
from panovlm.errors import PanoVLMError
from panovlm.stages import Supervision

IMAGE_MARK = "<image>"
MAX_FAULTS_SHOWN = 20


class Turn(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str


class Record(BaseModel):
    """A panorama and a conversation about it, or one of the two alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: Path | None = None
    messages: tuple[Turn, ...] = ()
    kind: str | None = None
    yaw_deg: Annotated[float, Field(gt=-360, le=360)] | None = None
    pitch_deg: Annotated[float, Field(ge=-90, le=90)] | None = None
    crosses_seam: bool | None = None
    rolled_responses: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    licence: str | None = None
    source: str | None = None

    @property
    def picture(self) -> Path:
        """The picture's file.

        Raises:
            ValueError: If the record is text alone.
        """
        if self.image is None:
            raise ValueError("found a record without a picture where each was checked to have one")
        return self.image

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns, with the picture's mark in place where there is a picture."""
        return marked(self.messages) if self.image else self.messages

    @property
    def response(self) -> str:
        """What the assistant says last."""
        return self.messages[-1].content

    @property
    def prompt(self) -> tuple[Turn, ...]:
        """The turns before the last response, with the picture's mark in place."""
        return self.turns[:-1]

    def knows_turns(self, num_views: int) -> bool:
        """Say whether a right response is known for every turn by whole strides of a ring."""
        return self.rolled_responses is not None and len(self.rolled_responses) % num_views == 0

    def beside(self, folder: Path) -> "Record":
        """Give the record with its picture's path taken from a folder."""
        return self.model_copy(update={"image": folder / self.image}) if self.image else self

    def rolled(self, turns: int) -> "Record":
        """Give the record as it is after the camera has turned right by so many steps."""
        if self.rolled_responses is None or turns == 0:
            return self
        response = self.rolled_responses[turns % len(self.rolled_responses)]
        last = self.messages[-1].model_copy(update={"content": response})
        return self.model_copy(update={"messages": (*self.messages[:-1], last)})


def marked(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Put `<image>` at the front of the first user turn if no turn has it."""
    if not turns or any(IMAGE_MARK in turn.content for turn in turns):
        return turns
    first = next(i for i, turn in enumerate(turns) if turn.role == "user")
    turn = turns[first]
    with_mark = turn.model_copy(update={"content": f"{IMAGE_MARK}{turn.content}"})
    return (*turns[:first], with_mark, *turns[first + 1 :])


@dataclass(frozen=True)
class Needs:
    """What every record of a file must hold.

    Attributes:
        text: Something an assistant says.
        image: A picture.
    """

    text: bool
    image: bool

    @classmethod
    def of(cls, supervision: Supervision) -> "Needs":
        """Give what a stage needs: text where text carries the loss, else pictures."""
        has_text = supervision is not Supervision.NONE
        return cls(text=has_text, image=not has_text)

    def __or__(self, other: "Needs") -> "Needs":
        return Needs(self.text or other.text, self.image or other.image)


@dataclass(frozen=True)
class Located:
    """A record and where it stands.

    Attributes:
        record: The record; its picture's path no longer depends on the file's folder.
        file: The file that holds it.
        place: Where in the file, as in "line 3".
    """

    record: Record
    file: Path
    place: str


def read_records(path: Path, needs: Needs) -> list[Record]:
    """Read and check a file of records.

    Args:
        path: JSON Lines; pictures are relative to its folder.
        needs: What every record must hold.

    Raises:
        PanoVLMError: Listing every faulty line with its cure; nothing is skipped silently.
    """
    records: list[Record] = []
    faults: list[Finding] = []
    for each in scan_records(path, needs):
        if isinstance(each, Finding):
            faults.append(each)
        else:
            records.append(each.record)
    if faults and faults[0].kind is Kind.FILE:
        raise PanoVLMError(faults[0].in_file)
    raise_faults(str(path), (fault.in_file for fault in faults))
    return records


def raise_faults(source: str, faults: Iterable[str]) -> None:
    """Raise one error that lists all faults found in `source`, if there are any."""
    listed = list(faults)
    if listed:
        lines = "\n  ".join(listed[:MAX_FAULTS_SHOWN])
        more = len(listed) - MAX_FAULTS_SHOWN
        rest = f"\n  ... and {more} more" if more > 0 else ""
        raise PanoVLMError(f"{source} has {len(listed)} fault(s):\n  {lines}{rest}")


def scan_records(path: Path, needs: Needs) -> Iterator[Located | Finding]:
    """Read a file of records; give each good one, and everything that is wrong with the others.

    Args:
        path: JSON Lines; pictures are relative to its folder.
        needs: What every record must hold.
    """
    is_empty = True
    for each in json_lines(path):
        is_empty = False
        if isinstance(each, Finding):
            yield each
        else:
            yield from located(each[1], path, f"line {each[0]}", needs)
    if is_empty:
        yield no_records(path, "one JSON object a line")


def no_records(path: Path, expected: str) -> Finding:
    """Word what is wrong with a file that holds nothing."""
    return Finding(Kind.FILE, f"{path}: found no records, expected {expected}")


def located(data: Any, file: Path, place: str, needs: Needs) -> Iterable[Located | Finding]:
    """Check the content of one record.

    Args:
        data: What the file holds, in the shape of a record.
        file: The file; pictures are relative to its folder.
        place: Where in the file, as in "line 3".
        needs: What the record must hold.

    Returns:
        The record alone, or its faults.
    """
    try:
        record = Record.model_validate(data)
    except ValidationError as error:
        return [_finding(fault, file, place) for fault in error.errors(include_url=False)]
    fault = _address_fault(data.get("image")) or _fault_of(record, needs)
    if fault:
        kind, found, cure = fault
        return [Finding(kind, found, cure, file, place)]
    return [Located(record.beside(file.parent), file, place)]


def is_address(image: object) -> bool:
    """Say whether `image` holds a URL, of the net or with the picture in it, and no path."""
    return isinstance(image, str) and ("://" in image[:30] or image[:5].lower() == "data:")


def _finding(fault: Any, file: Path, place: str) -> Finding:
    """Turn one of pydantic's faults into a finding with its cure."""
    field = ".".join(map(str, fault["loc"])) or "record"
    found, cure = f"field {field!r}: found {shown(fault['input'])}, expected: {fault['msg']}", ""
    if fault["type"] == "missing":
        found, cure = f"field {field!r} is missing", "every record needs it"
    if fault["type"] == "extra_forbidden":
        found, cure = f"unknown field {shown(field)}", f"remove or rename it{_nearest(field)}"
    return Finding(Kind.FIELD, found, cure, file, place, field)


def _nearest(field: str) -> str:
    close = difflib.get_close_matches(field[:50], Record.model_fields, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _address_fault(image: object) -> tuple[Kind, str, str] | None:
    if not is_address(image):
        return None
    found = f"field 'image': found the URL {shown(image)}, which is never fetched"
    return Kind.URL, found, "download the picture and name its file"


def _fault_of(record: Record, needs: Needs) -> tuple[Kind, str, str] | None:
    """Give what keeps a well-formed record from being trained on: its kind, and found and cure."""
    marks = sum(turn.content.count(IMAGE_MARK) for turn in record.messages)
    if record.image is None and "image" in record.model_fields_set:
        return Kind.FIELD, "field 'image' is null", "leave it out of a text without a picture"
    if record.image is None and needs.image:
        return Kind.FIELD, "field 'image' is missing", "every record needs it here"
    if record.image is None and marks:
        return Kind.MARK, f"found {marks} {IMAGE_MARK} mark(s) but no picture", "add `image`"
    if marks > 1:
        found = f"found {marks} {IMAGE_MARK} marks for 1 picture"
        return Kind.MARK, found, "keep one mark a picture"
    turned = record.rolled_responses
    if turned and record.messages and (turned[0] != record.response or "" in turned):
        found = (
            f"found rolled_responses {shown(turned)}, expected the response itself, "
            f"{shown(record.response)}, first and no empty text"
        )
        return Kind.TEXT, found, "correct them or leave them out"
    return _fault_of_text(record) if needs.text else None


def _fault_of_text(record: Record) -> tuple[Kind, str, str] | None:
    roles = [turn.role for turn in record.messages]
    if "user" not in roles:
        found = "found no user turn, expected a question before the response"
        return Kind.TEXT, found, "add one to messages"
    if roles[-1] != "assistant" or not record.response.strip():
        found = "found no supervised token: the last turn must be the assistant's and not empty"
        return Kind.TEXT, found, "add the response"
    return None
