"""OpenAI's chat completions: requests checked (`RequestError`), and responses written."""

import json
import time
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from panovlm.errors import PanoVLMError
from panovlm.inference.answers import Answer, SamplingParams
from panovlm.inference.grounding import check_one_panorama, grounding_facts
from panovlm.inference.prompts import Conversation
from panovlm.inference.views_mattered import PairDrop, ViewsMattered
from panovlm.pictures.declaring import Declaration
from panovlm.serving.errors import RequestError
from panovlm.serving.limits import Limits

MODEL_NAME = "panovlm"
"""Name of the model in requests."""
DEFAULT_MAX_TOKENS = 128
MAX_VALUES = 100_000
"""Commas and opening brackets in a request: each value of JSON takes many times its own bytes."""
_ONLY: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "audio": (),
    "best_of": (1,),
    "min_tokens": (0,),
    "ignore_eos": (False,),
    "stop_token_ids": ([],),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "structured_outputs": (),
    "top_a": (0,),
    "typical_p": (1,),
    "length_penalty": (1,),
}
"""Fields of OpenAI's, vLLM's and others' that change the answer, and the values supported."""


class TextPart(BaseModel):
    """Text in a message."""

    type: Literal["text"]
    text: str


class ImageUrl(BaseModel):
    """Location of a picture."""

    url: str


class ImagePart(BaseModel):
    """A picture in a message."""

    type: Literal["image_url"]
    image_url: ImageUrl
    declared: Declaration | None = Field(
        None, description="Beyond OpenAI's: what the picture is, where it does not say so itself."
    )


class Message(BaseModel):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]] | None = None

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        """Refuse a message without content, but for assistants', as clients keep them."""
        if self.content is None and self.role != "assistant":
            raise ValueError("found no content, expected a text or parts")
        return self

    @property
    def parts(self) -> list[TextPart | ImagePart]:
        """The content in parts, also where it is only a text or absent."""
        if isinstance(self.content, list):
            return self.content
        return [TextPart(type="text", text=self.content or "")]

    @property
    def pictures(self) -> list[ImagePart]:
        """Its pictures."""
        return [part for part in self.parts if isinstance(part, ImagePart)]

    @property
    def text(self) -> str:
        """Its text alone."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    def for_template(self) -> dict[str, Any]:
        """Return the message as chat templates take it."""
        content = [
            {"type": "image"} if isinstance(part, ImagePart) else part.model_dump()
            for part in self.parts
        ]
        return {"role": self.role.replace("developer", "system"), "content": content}


class StreamOptions(BaseModel):
    """Options of a stream."""

    include_usage: bool = False


class JsonSchema(BaseModel):
    """A JSON schema of the answer."""

    json_schema: dict[str, Any] | bool = Field(alias="schema")


class ResponseFormat(BaseModel):
    """Form of the answer: any text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def schema_text(self) -> str | None:
        """Return the schema as JSON; None for any text."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return '{"type": "object"}'
        if self.json_schema is None:
            raise _invalid("found json_schema without a schema; name one", "response_format")
        return json.dumps(self.json_schema.json_schema)


class ConversationRequest(BaseModel):
    """A request about a conversation; `yaw_shift_deg` is for conversations with one picture."""

    model_config = ConfigDict(hide_input_in_errors=True)

    model: str
    messages: list[Message] = Field(min_length=1, max_length=256)
    yaw_shift_deg: float = Field(
        0.0, ge=-360, le=360, description="Rotates the panorama as if its camera had turned right."
    )


class ChatRequest(ConversationRequest):
    """A request for an answer.

    `grounded` and `yaw_shift_deg` are beyond OpenAI's, and for conversations with one picture.
    """

    model_config = ConfigDict(extra="allow")

    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, description="-1 or 0 for all tokens.")
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(
        None, gt=0, le=10, validation_alias=AliasChoices("repetition_penalty", "repeat_penalty")
    )
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    stop: str | list[str] | None = None
    response_format: ResponseFormat | None = None
    grounded: bool = Field(
        False, description="Adds the direction that the answer names, and regions."
    )

    def sampling(self, limits: Limits) -> SamplingParams:
        """Return how the answer is generated."""
        default = min(DEFAULT_MAX_TOKENS, limits.max_tokens)
        max_tokens = self.max_completion_tokens or self.max_tokens or default
        if max_tokens > limits.max_tokens:
            found = f"found max_tokens {max_tokens}, expected at most {limits.max_tokens}"
            raise _invalid(found, "max_tokens")
        stop = [self.stop] if isinstance(self.stop, str) and self.stop else self.stop or []
        if len(stop) > 4 or not all(0 < len(text) <= 200 for text in stop):
            raise _invalid("found stop, expected up to 4 texts of 1 to 200 characters", "stop")
        return SamplingParams(
            max_tokens=max_tokens,
            temperature=self.temperature or 0.0,
            top_p=self.top_p or 1.0,
            top_k=max(self.top_k or 0, 0),
            min_p=self.min_p or 0.0,
            repetition_penalty=self.repetition_penalty or 1.0,
            seed=self.seed,
            stop=tuple(stop),
            json_schema=self.response_format.schema_text() if self.response_format else None,
        )

    def conversation(self, limits: Limits) -> tuple[Conversation, list[ImagePart]]:
        """Return the messages, and their pictures in reading order."""
        if any(message.pictures and message.role != "user" for message in self.messages):
            raise _invalid("found a picture in a message that is not a user's", "messages")
        pictures = [each for message in self.messages for each in message.pictures]
        self._check_pictures(len(pictures), limits)
        return [message.for_template() for message in self.messages], pictures

    def _check_pictures(self, found: int, limits: Limits) -> None:
        if found > limits.max_pictures:
            message = (
                f"found {found} pictures in the conversation, expected at most "
                f"{limits.max_pictures} (the server's --max-pictures); leave some out"
            )
            raise RequestError(400, message, "too_many_images", "messages")
        for name in ("grounded", "yaw_shift_deg"):
            try:
                if getattr(self, name):
                    check_one_panorama(name, found)
            except PanoVLMError as error:
                raise RequestError(400, str(error), "too_many_images", name) from error


class ViewsMatteredRequest(ConversationRequest):
    """A conversation that ends with an answer, whoever gave it; which views mattered to it?"""

    messages: list[Message] = Field(
        min_length=2, max_length=256, description="The last is the answer, an assistant's."
    )

    def split(self) -> tuple[ChatRequest, str]:
        """Return the request for the answer, and the answer's text."""
        *before, last = self.messages
        if last.role != "assistant" or not last.text:
            found = "found no text of the assistant's in the last message, expected the answer"
            raise _invalid(found, "messages")
        shift = self.yaw_shift_deg
        request = ChatRequest(model=self.model, messages=before, yaw_shift_deg=shift, max_tokens=1)
        return request, last.text


class ViewsMatteredResponse(BaseModel):
    """How much each view contributed to an answer, in the order of `/v1/views`."""

    object: Literal["views.mattered"] = "views.mattered"
    model: str
    log_probability: float = Field(description="Of the answer with all views, in nats.")
    drops: list[float] = Field(description="How far that falls where the view is blank, in nats.")
    shares: list[float] | None = Field(description="Of the drops; null where all are negligible.")
    pair_drops: list[PairDrop] = Field(description="The same for each two neighbours of a ring.")
    together: PairDrop | None = Field(description="The largest of these if no view drops alone.")

    @classmethod
    def of(cls, model: str, found: ViewsMattered) -> "ViewsMatteredResponse":
        """Write a model's result."""
        return cls(model=model, shares=found.shares, together=found.together, **vars(found))


def _invalid(message: str, param: str) -> RequestError:
    return RequestError(400, message, "invalid_value", param)


def request_body(kind: type[BaseModel], path: str) -> dict[str, Any]:
    """Return OpenAPI's description of the body of requests to a path.

    It is parsed here and not by FastAPI, which would read it whole before its size is known.
    """
    place = path.replace("/", "~1")
    place = f"#/paths/{place}/post/requestBody/content/application~1json/schema/$defs/{{model}}"
    content = {"application/json": {"schema": kind.model_json_schema(ref_template=place)}}
    return {"requestBody": {"required": True, "content": content}}


Body = TypeVar("Body", bound=ConversationRequest)


def parse_request(body: bytes) -> ChatRequest:
    """Check the body of a request for an answer: its fields, their values and unsupported ones."""
    request = parse_body(body, ChatRequest)
    for name, value in (request.model_extra or {}).items():
        if name in _ONLY and value is not None and value not in _ONLY[name]:
            raise RequestError(400, f"{name} is not supported", "unsupported_parameter", name)
    return request


def parse_body(body: bytes, kind: type[Body]) -> Body:
    """Check a request's body: the number of its values, its fields and the model's name."""
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        message = f"found more than {MAX_VALUES} values in the request; send less"
        raise RequestError(413, message, "too_large")
    try:
        request = kind.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        first = max(found, key=lambda each: len(each["loc"]))  # of the alternative that was meant
        name = ".".join(map(str, first["loc"]))
        message = f"{name}: {first['msg'].removeprefix('Value error, ')}".removeprefix(": ")[:300]
        raise RequestError(400, message, "invalid_request", name[:200] or None) from error
    require_model(request.model)
    return request


def require_model(name: str) -> None:
    """Refuse any model but the one that is served."""
    if name != MODEL_NAME:
        message = f"found no such model, expected {MODEL_NAME}"
        raise RequestError(404, message, "model_not_found", "model")


@dataclass(frozen=True)
class Completion:
    """Writes one completion, whole or in chunks."""

    request_id: str
    request: ChatRequest
    num_prompt_tokens: int
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return the whole completion."""
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        content = {"message": message | self._grounding(answer)}
        whole = self._with_choice("chat.completion", content, answer.finish_reason)
        return whole | {"usage": self.usage(answer)}

    def chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        """Return one piece of a stream."""
        return self._with_choice("chat.completion.chunk", {"delta": delta}, finish_reason)

    def last_chunks(self, answer: Answer) -> list[dict[str, Any]]:
        """Return the end of a stream: why it ended and, on request, the tokens it took."""
        end = self.chunk(self._grounding(answer), answer.finish_reason)
        options = self.request.stream_options
        if not (options and options.include_usage):
            return [end]
        return [end, self.chunk({}) | {"choices": [], "usage": self.usage(answer)}]

    def usage(self, answer: Answer) -> dict[str, int]:
        """Count the tokens of the request and its answer."""
        counts = {"prompt_tokens": self.num_prompt_tokens, "completion_tokens": answer.num_tokens}
        return {**counts, "total_tokens": sum(counts.values())}

    def _with_choice(
        self, kind: str, content: dict[str, Any], finish_reason: str | None
    ) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.request_id}",
            "object": kind,
            "created": self.created,
            "model": self.request.model,
            "choices": [{"index": 0, **content, "logprobs": None, "finish_reason": finish_reason}],
        }

    def _grounding(self, answer: Answer) -> dict[str, Any]:
        """Return what an answer says about directions, where the request asks for it."""
        if not self.request.grounded:
            return {}
        asked = [message.text for message in self.request.messages if message.role == "user"]
        return dict(grounding_facts(answer.text, (asked or [""])[-1]))
