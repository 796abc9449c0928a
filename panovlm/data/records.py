r"""Records: a panorama and a conversation about it, read from JSON Lines.

    {"image": "pictures/0001.jpg", "messages": [{"role": "user", "content": "<image>\nWhere ...?"},
     {"role": "assistant", "content": "left"}], "kind": "direction", "yaw_deg": -92.5,
     "crosses_seam": false, "rolled_responses": ["left", "back-left", ...]}

`image` is relative to the file, in the spelling of any system; `<image>` marks where the picture
goes (before everything else if there is no mark). A conversation may do without a picture, where a
stage trains on text; batches mix both. `images` in place of `image` lists several pictures, each
with a mark of its own, or with none (all before everything else). The other fields are optional:
`kind` groups scores; `yaw_deg` is the direction of the answer, and `pitch_deg` its elevation;
`rolled_responses[j]` is the right response after a yaw rotation to the right by j/n of a full
circle, n being their number, and null where none is certain, which allows training and testing on
yaw-rotated pictures; `licence` and `source` are those of the picture; `declared` says what the
picture is where it does not itself (`Declaration`), as in {"projection": "cylindrical", "hfov_deg":
180}.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from panovlm.pictures.declaring import Declaration, PictureFile, declare
from panovlm.stages import Supervision

IMAGE_MARK = "<image>"


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str


class Record(BaseModel):
    """A panorama and a conversation about it, or one of the two alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: Path | None = None
    images: Annotated[tuple[Path, ...], Field(min_length=2)] | None = None
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
    def paths(self) -> tuple[Path, ...]:
        """The files of its pictures in their order, none of text alone."""
        return self.images or ((self.image,) if self.image else ())

    @property
    def pictures(self) -> tuple[PictureFile, ...]:
        """Its pictures in their order, with what is declared of them; none of text alone."""
        return tuple(declare(path, self.declared) for path in self.paths)

    @property
    def shown(self) -> PictureFile | None:
        """The first picture with what is declared of it; None for text alone."""
        return next(iter(self.pictures), None)

    @property
    def picture(self) -> PictureFile:
        """Its only picture with what is declared of it, where each record was checked to have one.

        Raises:
            ValueError: If the record is text alone.
        """
        if self.shown is None:
            raise ValueError("found a record without a picture where each was checked to have one")
        return self.shown

    def declared_by(self, default: Declaration | None) -> "Record":
        """Return the record with a declaration of its picture, unless it has its own."""
        if default is None or self.declared or not self.paths:
            return self
        return self.model_copy(update={"declared": default})

    def apart(self) -> "list[Record]":
        """Return a record for each of its pictures, where they do not belong together."""
        if self.images is None:
            return [self]
        return [self.model_copy(update={"image": path, "images": None}) for path in self.images]

    @property
    def marked_messages(self) -> tuple[Message, ...]:
        """All messages, with a mark in place for each picture."""
        return marked(self.messages, len(self.paths))

    @property
    def beginning(self) -> tuple[str, ...]:
        """All that stands before the last picture's mark, and the white space right behind it.

        Conversations that share it share their first tokens, those of the pictures among them. It
        is empty where there is no picture.
        """
        messages = self.marked_messages
        last = max((i for i, m in enumerate(messages) if IMAGE_MARK in m.content), default=None)
        if last is None:
            return ()
        before, _, rest = messages[last].content.rpartition(IMAGE_MARK)
        whole = [text for message in messages[:last] for text in (message.role, message.content)]
        return (*whole, messages[last].role, before, rest[: len(rest) - len(rest.lstrip())])

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


def marked(messages: tuple[Message, ...], count: int = 1) -> tuple[Message, ...]:
    """Put so many `<image>` at the front of the first user message if no message has it."""
    if not messages or not count or any(IMAGE_MARK in message.content for message in messages):
        return messages
    first = next(i for i, message in enumerate(messages) if message.role == "user")
    message = messages[first]
    with_mark = message.model_copy(update={"content": f"{IMAGE_MARK * count}{message.content}"})
    return (*messages[:first], with_mark, *messages[first + 1 :])


@dataclass(frozen=True)
class Needs:
    """What every record of a file must hold.

    Attributes:
        text: A response of the assistant.
        image: A picture.
        one_picture: No more than one picture.
    """

    text: bool
    image: bool
    one_picture: bool = True

    @classmethod
    def of(cls, supervision: Supervision) -> "Needs":
        """Return what a stage needs: text where text carries the loss, else pictures."""
        has_text = supervision is not Supervision.NONE
        return cls(text=has_text, image=not has_text, one_picture=False)
