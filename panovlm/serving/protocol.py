"""OpenAI's chat completions: requests checked, and what is sent back."""

import json
import time
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from panovlm.errors import PanoVLMError
from panovlm.inference.answers import Answer, SamplingParams
from panovlm.inference.grounding import check_one_panorama, ground
from panovlm.inference.views_mattered import ViewsMattered
from panovlm.serving.errors import RequestError
from panovlm.serving.limits import Limits

DEERROR_MAX_TOKENS = 128
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
}
"""Fields of OpenAI's that would change the answer, and the values that are kept to."""


class TextPart(BaseModel):
    """Words in a turn."""

    type: Literal["text"]
    text: str


class ImageUrl(BaseModel):
    """Where a picture is."""

    url: str


class ImagePart(BaseModel):
    """A picture in a turn."""

    type: Literal["image_url"]
    image_url: ImageUrl


class Message(BaseModel):
    """A turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]


class StreamOptions(BaseModel):
    """What a stream holds beside the answer."""

    include_usage: bool = False


class JsonSchema(BaseModel):
    """A schema that the answer shall be of."""

    json_schema: dict[str, Any] | bool = Field(alias="schema")


class ResponseFormat(BaseModel):
    """What the answer shall be: any text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def schema_text(self) -> str | None:
        """Give the schema as JSON; None for any text.

        Raises:
            RequestError: If the schema is missing.
        """
        if self.type == "text":
            return None
        if self.type == "json_object":
            return '{"type": "object"}'
        if self.json_schema is None:
            message = "found json_schema without a schema; name one"
            raise RequestError(400, message, "invalid_value", "response_format")
        return json.dumps(self.json_schema.json_schema)


class ChatRequest(BaseModel):
    """A request for an answer.

    `grounded` and `turned_right_deg` are beyond OpenAI's, and for conversations with one picture.
    """

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    model: str
    messages: list[Message] = Field(min_length=1, max_length=256)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    stop: str | list[str] | None = None
    response_format: ResponseFormat | None = None
    grounded: bool = False
    turned_right_deg: float = Field(0.0, ge=-360, le=360)

    def sampling(self, limits: Limits) -> SamplingParams:
        """Say how the answer shall be said.

        Raises:
            RequestError: If it is longer than allowed, a stop is empty, or a schema is missing.
        """
        length = self.max_completion_tokens or self.max_tokens
        length = min(DEERROR_MAX_TOKENS, limits.max_tokens) if length is None else length
        if length > limits.max_tokens:
            message = f"found max_tokens {length}, expected at most {limits.max_tokens}"
            raise RequestError(400, message, "invalid_value", "max_tokens")
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stop) > 4 or not all(0 < len(text) <= 200 for text in stop):
            message = "found stop with other than up to 4 texts of 1 to 200 characters"
            raise RequestError(400, message, "invalid_value", "stop")
        return SamplingParams(
            max_tokens=length,
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.seed,
            stop=tuple(stop),
            json_schema=self.response_format.schema_text() if self.response_format else None,
        )

    def conversation(self, limits: Limits) -> tuple[list[dict[str, Any]], list[str]]:
        """Give the turns, and the URLs of their pictures in reading order.

        Raises:
            RequestError: If there are more pictures than allowed, or than a wish is for, or one
                that no user shows.
        """
        urls: list[str] = []
        turns: list[dict[str, Any]] = []
        for message in self.messages:
            content: Any = message.content
            if not isinstance(content, str):
                pictures = [part.image_url.url for part in content if part.type == "image_url"]
                if pictures and message.role != "user":
                    raise RequestError(
                        400, "found a picture in a turn that is no user's", "invalid_value"
                    )
                urls += pictures
                content = [_part(part) for part in content]
            role = "system" if message.role == "developer" else message.role
            turns.append({"role": role, "content": content})
        self._check_pictures(len(urls), limits)
        return turns, urls

    def _check_pictures(self, found: int, limits: Limits) -> None:
        if found > limits.max_pictures:
            message = (
                f"found {found} pictures in the conversation, expected at most "
                f"{limits.max_pictures} (the server's --max-pictures); leave some out"
            )
            raise RequestError(400, message, "too_many_images", "messages")
        sampling = {"grounded": self.grounded, "turned_right_deg": self.turned_right_deg}
        for name in (name for name, wish in sampling.items() if wish):
            try:
                check_one_panorama(name, found)
            except PanoVLMError as error:
                raise RequestError(400, str(error), "too_many_images", name) from error


def _part(part: TextPart | ImagePart) -> dict[str, str]:
    if isinstance(part, ImagePart):
        return {"type": "image"}
    return {"type": "text", "text": part.text}


class MatteredRequest(BaseModel):
    """A conversation that ends with an answer, whoever gave it, about whose views one asks."""

    model_config = ConfigDict(hide_input_in_errors=True)

    model: str
    messages: list[Message] = Field(
        min_length=2, max_length=256, description="The last turn is the answer, an assistant's."
    )
    turned_right_deg: float = Field(0.0, ge=-360, le=360)

    def asked_and_said(self) -> tuple[ChatRequest, str]:
        """Give what was asked, and the words of the answer.

        Raises:
            RequestError: If the last turn is no assistant's.
        """
        *asked, last = self.messages
        content, words = last.content, last.content
        if not isinstance(content, str):
            words = "".join(part.text for part in content if isinstance(part, TextPart))
        if last.role != "assistant" or not words:
            message = "found no words of the assistant's in the last turn, expected the answer"
            raise RequestError(400, message, "invalid_value", "messages")
        turned = self.turned_right_deg
        request = ChatRequest(
            model=self.model, messages=asked, turned_right_deg=turned, max_tokens=1
        )
        return request, str(words)


class PairDrop(BaseModel):
    """How much two neighbouring views carried an answer together."""

    views: tuple[int, int] = Field(description="Their places in the order of `/v1/views`, from 0.")
    drop: float = Field(description="How far the log-probability falls where both are blank.")


class MatteredReply(BaseModel):
    """How much each view carried an answer, in the order of `/v1/views`."""

    object: Literal["views.mattered"] = "views.mattered"
    model: str
    log_probability: float = Field(description="Of the answer's words with all views, in nats.")
    drops: list[float] = Field(
        description="How far that falls where the view is blank, in nats; negative where it rises."
    )
    shares: list[float] | None = Field(
        description="Each view's share of the drops, 1 together; null where all are negligible."
    )
    pair_drops: list[PairDrop] = Field(
        description="The same for each two neighbours of a ring; none in other layouts."
    )
    together: PairDrop | None = Field(
        description="The pair that falls furthest, where no view does alone; null where none does."
    )

    @classmethod
    def of(cls, model: str, found: ViewsMattered) -> "MatteredReply":
        """Write what was found."""
        both = zip(found.pairs, found.pair_drops, strict=True)
        pairs = [PairDrop(views=views, drop=drop) for views, drop in both]
        return cls(
            model=model,
            log_probability=found.log_probability,
            drops=list(found.drops),
            shares=found.shares,
            pair_drops=pairs,
            together=None if found.together is None else pairs[found.together],
        )


def request_body(kind: type[BaseModel], path: str) -> dict[str, Any]:
    """Say to OpenAPI what the body of a request to a path is.

    It is parsed here and not by FastAPI, which would read it whole before its size is known.
    """
    place = path.replace("/", "~1")
    place = f"#/paths/{place}/post/requestBody/content/application~1json/schema/$defs/{{model}}"
    content = {"application/json": {"schema": kind.model_json_schema(ref_template=place)}}
    return {"requestBody": {"required": True, "content": content}}


Body = TypeVar("Body", bound=BaseModel)


def parse_request(body: bytes) -> ChatRequest:
    """Check the body of a request for an answer.

    Raises:
        RequestError: Of `parse_body`, or naming a field that would change the answer.
    """
    request = parse_body(body, ChatRequest)
    for name, value in (request.model_extra or {}).items():
        if name in _ONLY and value is not None and value not in _ONLY[name]:
            raise RequestError(400, f"{name} is not supported", "unsupported_parameter", name)
    return request


def parse_body(body: bytes, kind: type[Body]) -> Body:
    """Check a request's body.

    Raises:
        RequestError: If it holds too many values, or naming the first field at error.
    """
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        message = f"found more than {MAX_VALUES} values in the request; say less"
        raise RequestError(413, message, "too_large")
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"])) or None
        where = f"{field}: " if field else ""
        message = f"{where}{first['msg']}"[:300]
        raise RequestError(400, message, "invalid_request", field and field[:200]) from error


def usage(num_prompt: int, answer: Answer) -> dict[str, int]:
    """Count tokens."""
    said = answer.num_tokens
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": said,
        "total_tokens": num_prompt + said,
    }


def grounding_fields(request: ChatRequest, answer: Answer) -> dict[str, Any]:
    """Give the direction that an answer names, where the request asks for it."""
    if not request.grounded:
        return {}
    grounding = ground(answer.text)
    return {"grounding": asdict(grounding) if grounding else None}


class Reply:
    """Writes one completion, whole or in chunks."""

    def __init__(self, request_id: str, request: ChatRequest, num_prompt: int) -> None:
        self._request, self._num_prompt = request, num_prompt
        self._head = {
            "id": f"chatcmpl-{request_id}",
            "created": int(time.time()),
            "model": request.model,
        }

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Give the whole completion."""
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        message |= grounding_fields(self._request, answer)
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": answer.finish_reason,
        }
        counts = usage(self._num_prompt, answer)
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": counts}

    def chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        """Give one piece of a stream."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def last_chunks(self, answer: Answer) -> list[dict[str, Any]]:
        """Give the end of a stream: why it ended and, on request, what it took."""
        end = self.chunk(grounding_fields(self._request, answer), answer.finish_reason)
        options = self._request.stream_options
        if not (options and options.include_usage):
            return [end]
        counts = usage(self._num_prompt, answer)
        return [end, {**self.chunk({}), "choices": [], "usage": counts}]
