"""Conversations as clients write them: messages of texts and pictures, checked."""

from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from panovlm.inference.grounding import check_one_panorama
from panovlm.inference.prompts import Conversation
from panovlm.pictures.declaring import Declaration
from panovlm.serving.errors import RequestError, refusing
from panovlm.serving.limits import Limits
from panovlm.serving.pictures import Picture


class TextPart(BaseModel):
    """Text in a message, also of an assistant's that it did not answer."""

    type: Literal["text", "input_text", "output_text", "refusal"]
    text: str = Field(validation_alias=AliasChoices("text", "refusal"))


class ImageUrl(BaseModel):
    """Location of a picture; the views are those of the model at any `detail`."""

    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


def _as_object(url: Any) -> Any:
    return {"url": url} if isinstance(url, str) else url


class PictureFields(BaseModel):
    """A picture, and what it is."""

    image_url: Annotated[
        ImageUrl, BeforeValidator(_as_object, json_schema_input_type=ImageUrl | str)
    ]
    declared: Declaration | None = Field(
        None, description="Beyond OpenAI's: what the picture is, where it does not say so itself."
    )

    def taken(self, place: str) -> Picture:
        """Decode the picture's data URL; its text is forgotten. `place` is the request's field."""
        url, self.image_url.url = self.image_url.url, ""
        return Picture.of(url, place, self.declared)


class ImagePart(PictureFields):
    """A picture in a message."""

    type: Literal["image_url", "input_image"]


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


def _as_parts(content: Any) -> Any:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [] if content is None else content


Content = Annotated[
    list[Part], BeforeValidator(_as_parts, json_schema_input_type=str | list[Part] | None)
]


class Message(BaseModel):
    """A message of a conversation."""

    role: str = Field(json_schema_extra={"enum": ["system", "developer", "user", "assistant"]})
    content: Content = Field(default_factory=list, validate_default=True)
    tool_calls: None = Field(None, description="The model calls no tools.")

    @field_validator("tool_calls", mode="before")
    @classmethod
    def _calls_no_tools(cls, calls: Any) -> None:
        if calls:
            raise ValueError("found calls of tools, but the model calls none; leave them out")

    @field_validator("role")
    @classmethod
    def _is_known(cls, role: str) -> str:
        if role in ("tool", "function"):
            raise ValueError(
                f"found a message of a {role}, but the model calls no tools; leave it out"
            )
        if role not in ("system", "developer", "user", "assistant"):
            raise ValueError("found another role, expected system, developer, user or assistant")
        return role

    @model_validator(mode="after")
    def _has_content(self) -> "Message":
        """Refuse a message without content, but for assistants', as clients keep them."""
        if not self.content and self.role != "assistant":
            raise ValueError("found no content, expected a text or parts")
        if any(isinstance(part, ImagePart) for part in self.content) and self.role != "user":
            raise ValueError("found a picture in a message that is not a user's; move it")
        return self

    @property
    def text(self) -> str:
        """Its text alone."""
        return "".join(part.text for part in self.content if not isinstance(part, ImagePart))

    def for_template(self) -> dict[str, Any]:
        """Return the message as chat templates take it."""
        content = [
            {"type": "image"}
            if isinstance(part, ImagePart)
            else {"type": "text", "text": part.text}
            for part in self.content
        ]
        content = content or [{"type": "text", "text": ""}]
        return {"role": self.role.replace("developer", "system"), "content": content}


class ModelRequest(BaseModel):
    """A request to a model."""

    model_config = ConfigDict(hide_input_in_errors=True)

    model: str


class ConversationRequest(ModelRequest):
    """A request about a conversation; `yaw_shift_deg` is for conversations with one picture."""

    messages: list[Message] = Field(min_length=1, max_length=256)
    yaw_shift_deg: float = Field(
        0.0, ge=-360, le=360, description="Rotates the panorama as if its camera had turned right."
    )

    def taken(
        self, limits: Limits, place: str, *, grounded: bool
    ) -> tuple[Conversation, list[Picture]]:
        """Return the messages and their pictures in reading order; the request keeps neither.

        Args:
            limits: Of the server.
            place: The field of the client's request that the messages are from.
            grounded: Whether the directions of the answer are wanted.
        """
        conversation = [message.for_template() for message in self.messages]
        placed = [
            (f"messages.{row}.content.{column}.image_url" if place == "messages" else place, part)
            for row, message in enumerate(self.messages)
            for column, part in enumerate(message.content)
            if isinstance(part, ImagePart)
        ]
        if len(placed) > limits.max_pictures:
            message = (
                f"found {len(placed)} pictures in the conversation, expected at most "
                f"{limits.max_pictures} (the server's --max-pictures); leave some out"
            )
            raise RequestError(400, message, "too_many_images", place)
        for name, is_set in (("grounded", grounded), ("yaw_shift_deg", self.yaw_shift_deg)):
            with refusing("too_many_images", name):
                if is_set:
                    check_one_panorama(name, len(placed))
        self.messages.clear()
        return conversation, [part.taken(place) for place, part in placed]
