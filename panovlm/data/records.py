r"""Records: a panorama and what is said about it, read from JSON Lines.

    {"image": "pictures/0001.jpg", "messages": [{"role": "user", "content": "<image>\nWhere ...?"},
     {"role": "assistant", "content": "left"}], "kind": "direction", "yaw_deg": -92.5,
     "crosses_seam": false, "rolled_responses": ["left", "back-left", ...]}

`image` is relative to the file; `<image>` marks where the picture goes (before everything else if
there is no mark). A conversation may do without a picture, where a stage trains on text; batches
mix both. The other fields are optional: `kind` groups scores; `yaw_deg` is the direction
the answer is about; `rolled_responses[j]` is the right response after the camera has turned right
by j/n of a full turn, n being their number, which allows training and testing on turned pictures.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from panovlm.model.errors import PanoVLMError

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
    crosses_seam: bool | None = None
    rolled_responses: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

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


def read_records(path: Path, *, needs_text: bool, needs_image: bool = True) -> list[Record]:
    """Read and check a file of records.

    Args:
        path: JSON Lines; pictures are relative to its folder.
        needs_text: Whether every record must hold something an assistant says.
        needs_image: Whether every record must have a picture.

    Raises:
        PanoVLMError: Listing every faulty line with its cure; nothing is skipped silently.
    """
    try:
        # Not splitlines: a JSON text may hold U+2028 and its like as they are.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PanoVLMError(f"cannot read the records {path}: {error}") from error
    records: list[Record] = []
    faults: list[str] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            record, found = _read_line(line, needs_text=needs_text, needs_image=needs_image)
            faults += [f"line {number}: {fault}" for fault in found]
            if record is not None:
                records.append(record.beside(path.parent))
    raise_faults(str(path), faults)
    if not records:
        raise PanoVLMError(f"{path}: found no records, expected one JSON object a line")
    return records


def raise_faults(source: str, faults: Iterable[str]) -> None:
    """Raise one error that lists all faults found in `source`, if there are any."""
    listed = list(faults)
    if listed:
        shown = "\n  ".join(listed[:MAX_FAULTS_SHOWN])
        more = len(listed) - MAX_FAULTS_SHOWN
        rest = f"\n  ... and {more} more" if more > 0 else ""
        raise PanoVLMError(f"{source} has {len(listed)} fault(s):\n  {shown}{rest}")


def _read_line(
    line: str, *, needs_text: bool, needs_image: bool
) -> tuple[Record | None, list[str]]:
    try:
        data: Any = json.loads(line)
    except json.JSONDecodeError as error:
        return None, [f"not JSON ({error.msg}); write one object a line"]
    return parse_record(data, needs_text=needs_text, needs_image=needs_image)


def parse_record(
    data: Any, *, needs_text: bool, needs_image: bool
) -> tuple[Record | None, list[str]]:
    """Check plain data as a record; give it, if it is one, and what is wrong with it."""
    try:
        record = Record.model_validate(data)
    except ValidationError as error:
        return None, [_explain(fault) for fault in error.errors()]
    fault = _fault_of(record, needs_text=needs_text, needs_image=needs_image)
    return record, [fault] if fault else []


def _explain(fault: Any) -> str:
    where = ".".join(map(str, fault["loc"])) or "record"
    if fault["type"] == "missing":
        return f"field {where!r} is missing; every record needs it"
    if fault["type"] == "extra_forbidden":
        return f"unknown field {where!r}; remove or rename it"
    return f"field {where!r}: found {fault['input']!r}, expected: {fault['msg']}"


def _fault_of(record: Record, *, needs_text: bool, needs_image: bool) -> str | None:
    marks = sum(turn.content.count(IMAGE_MARK) for turn in record.messages)
    if record.image is None and needs_image:
        return "field 'image' is missing; every record needs it here"
    if record.image is None and marks:
        return f"found {marks} {IMAGE_MARK} mark(s) but no picture; add `image` or leave them out"
    if marks > 1:
        return f"found {marks} {IMAGE_MARK} marks for 1 picture; keep one mark a picture"
    turned = record.rolled_responses
    if turned and record.messages and (turned[0] != record.response or "" in turned):
        return (
            f"found rolled_responses {turned!r}, expected the response itself, "
            f"{record.response!r}, first and no empty text; correct them or leave them out"
        )
    if not needs_text:
        return None
    roles = [turn.role for turn in record.messages]
    if "user" not in roles:
        return "found no user turn, expected a question before the response; add one to messages"
    if roles[-1] != "assistant" or not record.response.strip():
        return (
            "found no supervised token: the last turn must be the assistant's and not empty; "
            "add the response"
        )
    return None
