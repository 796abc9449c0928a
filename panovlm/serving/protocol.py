"""OpenAI's chat completions, completions and responses: requests checked (`RequestError`)."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from panovlm.inference.answers import SamplingParams
from panovlm.inference.assistant import Question
from panovlm.inference.views_mattered import PairDrop, ViewsMattered
from panovlm.serving.errors import RequestError
from panovlm.serving.limits import Limits
from panovlm.serving.messages import (
    Content,
    ConversationRequest,
    ImageUrl,
    Message,
    ModelRequest,
    PictureFields,
)
from panovlm.serving.pictures import Picture

MODEL_NAME = "panovlm"
"""Name of the model in requests, where it is given no other."""
MAX_VALUES = 100_000
"""Commas and opening brackets in a request: each value of JSON takes many times its own bytes."""
_NOTHING: tuple[Any, ...] = ([], {}, "", False)
_UNSUPPORTED = """
tools functions include audio prediction bad_words guided_json guided_regex guided_choice
guided_grammar structured_outputs chat_template chat_template_kwargs echo suffix use_beam_search
background conversation allowed_token_ids documents prompt_logprobs previous_response_id
continue_final_message mm_processor_kwargs truncate_prompt_tokens include_stop_str_in_output
logits_processors web_search_options early_stopping mirostat xtc_probability dry_multiplier
max_new_tokens prompt grounded yaw_shift_deg images logprobs top_logprobs max_completion_tokens
max_output_tokens
"""
"""Fields of OpenAI's, vLLM's and others' that change the answer; some are of other requests."""
_ONLY: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(_UNSUPPORTED.split(), ()),
    "tool_choice": ("none", "auto"),
    "modalities": (["text"],),
    "best_of": (1,),
    "top_a": (0,),
    "typical_p": (1,),
    "length_penalty": (1,),
    "reasoning": ({"effort": "none"},),
    "reasoning_effort": ("none",),
    "truncation": ("disabled",),
    "verbosity": ("medium",),
}
"""Such fields, and values that change nothing."""
_ALWAYS = ("skip_special_tokens", "add_generation_prompt")
"""Those that change the answer where they are false."""
_TAG = re.compile(
    r"(?<=content)(\.\d+)\.(?:text|image_url|refusal|input_text|input_image|output_text)"
    r"|()\.(?:str|bool|ImageUrl|(?:list|dict)\[[^\]]*\])(?=\.|$)"
)
"""pydantic names the kind of a part, and of an alternative, behind its place."""
_LIKELIEST = 20
_TOKENS = ("logit_bias", "stop_token_ids")
_ALIKE = (
    *("temperature", "top_p", "min_p", "repetition_penalty", "frequency_penalty"),
    *("presence_penalty", "min_tokens", "ignore_eos", "seed"),
)
"""Fields that are those of `SamplingParams`."""


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


class Sampling(ModelRequest):
    """How answers are generated, as all requests say it."""

    model_config = ConfigDict(extra="allow")

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(None, ge=1, le=8, description="Answers.")
    max_tokens: int | None = Field(None, ge=1, description="As many as the model can at most.")
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, description="-1 or 0 for all tokens.")
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(
        None, ge=0.01, le=10, validation_alias=AliasChoices("repetition_penalty", "repeat_penalty")
    )
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] | None = Field(
        None, max_length=1024
    )
    min_tokens: int | None = Field(None, ge=0)
    stop_token_ids: list[int] | None = Field(None, max_length=1024)
    ignore_eos: bool | None = None
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    stop: str | list[str] | None = None
    response_format: ResponseFormat | None = None


class ChatRequest(Sampling, ConversationRequest):
    """A request for an answer.

    `grounded` and `yaw_shift_deg` are beyond OpenAI's, and for conversations with one picture.
    """

    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=_LIKELIEST)
    grounded: bool = Field(False, description="Adds the direction and regions of the answer.")

    def sampling(self, limits: Limits, vocabulary: int) -> SamplingParams:
        """Return how the answer is generated by a model of so many tokens."""
        stop = [self.stop] if isinstance(self.stop, str) and self.stop else self.stop or []
        if len(stop) > 4 or not all(0 < len(text) <= 200 for text in stop):
            raise _invalid("found stop, expected up to 4 texts of 1 to 200 characters", "stop")
        if self.top_logprobs is not None and not self.logprobs:
            raise _invalid("found top_logprobs without logprobs; set logprobs", "top_logprobs")
        for name in _TOKENS:
            if any(not 0 <= token < vocabulary for token in getattr(self, name) or ()):
                raise _invalid(f"found a token in {name}, expected below {vocabulary}", name)
        max_tokens = self.max_completion_tokens or self.max_tokens or limits.max_tokens
        given = {name: value for name in _ALIKE if (value := getattr(self, name)) is not None}
        return SamplingParams(
            **given,
            max_tokens=min(max_tokens, limits.max_tokens),
            top_k=max(self.top_k or 0, 0),
            logit_bias=tuple((self.logit_bias or {}).items()),
            stop_token_ids=tuple(self.stop_token_ids or ()),
            top_logprobs=min(self.top_logprobs or 0, vocabulary) if self.logprobs else None,
            stop=tuple(stop),
            json_schema=self.response_format.schema_text() if self.response_format else None,
        )

    def questions(self, question: Question) -> Iterator[Question]:
        """Yield the question once for each answer, sampled differently."""
        for number in range(self.n or 1):
            seed = self.seed
            if number and seed is not None:
                seed = (seed + number) % 2**63
            yield replace(question, sampling=replace(question.sampling, seed=seed))

    def asked(self) -> "ParsedRequest":
        """Return it as what is asked."""
        return ParsedRequest(self)


@dataclass(frozen=True)
class ParsedRequest:
    """What a request of any kind asks.

    Attributes:
        chat: The request as one for a chat's answer.
        place: The field of the client's request that the messages are from.
        answer: The answer, where it is there already.
    """

    chat: ChatRequest
    place: str = "messages"
    answer: str = ""


class ViewsMatteredRequest(ConversationRequest):
    """A conversation that ends with an answer, whoever gave it; which views mattered to it?"""

    messages: list[Message] = Field(
        min_length=2, max_length=256, description="The last is the answer, an assistant's."
    )

    def asked(self) -> ParsedRequest:
        """Return it as what is asked: the answer is the last message."""
        *before, last = self.messages
        if last.role != "assistant" or not last.text.strip():
            found = "found no text of the assistant's in the last message, expected the answer"
            raise _invalid(found, f"messages.{len(before)}")
        shift = self.yaw_shift_deg
        chat = ChatRequest(model=self.model, messages=before, yaw_shift_deg=shift)
        return ParsedRequest(chat, answer=last.text)


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


class PanoramaRequest(ModelRequest, PictureFields):
    """A picture to be shown as the model reads it: as a level full sphere."""

    def asked(self) -> Picture:
        """Return the picture; the request does not keep it."""
        return self.taken("image_url")


class CompletionRequest(Sampling):
    """A request for an answer to one message of a user's: `images`, if any, and `prompt`."""

    prompt: str | list[str]
    images: list[ImageUrl | str] = Field([], description="Beyond OpenAI's.")
    logprobs: int | None = Field(None, ge=0, le=5)

    def asked(self) -> ParsedRequest:
        """Return it as what is asked."""
        texts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if len(texts) != 1:
            raise _invalid(f"found {len(texts)} prompts, expected one; send each alone", "prompt")
        pictures = [{"type": "image_url", "image_url": each} for each in self.images]
        content = [*pictures, {"type": "text", "text": texts[0]}]
        scores = {"logprobs": self.logprobs is not None, "top_logprobs": self.logprobs}
        return _asked(self, "prompt", [{"role": "user", "content": content}], scores)


class InputItem(BaseModel):
    """A message of the input of a response."""

    type: Literal["message"] = "message"
    role: str
    content: Content


class TextOptions(BaseModel):
    """Form of the text of a response."""

    format: dict[str, Any] | None = None
    verbosity: Literal["medium"] | None = None


class ResponsesRequest(Sampling):
    """A request for a response, as OpenAI's newer interface has it; nothing is stored."""

    input: str | list[InputItem]
    instructions: str | None = None
    n: Literal[1] | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    text: TextOptions | None = None

    def asked(self) -> ParsedRequest:
        """Return it as what is asked."""
        given: list[Any] = []
        if self.instructions:
            given.append({"role": "system", "content": self.instructions})
        if isinstance(self.input, str):
            given.append({"role": "user", "content": self.input})
        else:
            given += (item.model_dump(include={"role", "content"}) for item in self.input)
        form = self.text.format if self.text else None
        if form and form.get("type") == "json_schema":
            form = {"type": "json_schema", "json_schema": form}
        more = {"response_format": form, "max_completion_tokens": self.max_output_tokens}
        return _asked(self, "input", given, more)


def _asked(
    request: Sampling, place: str, messages: Sequence[Any], more: dict[str, Any]
) -> ParsedRequest:
    """Make a chat's request of another; `place` is the field that its messages are from."""
    fields = set(Sampling.model_fields)
    own = request.model_dump(exclude_unset=True, include=fields, by_alias=True)
    set_ = {name: value for name, value in more.items() if value is not None}
    try:
        return ParsedRequest(
            ChatRequest.model_validate({"messages": messages, **own, **set_}), place
        )
    except ValidationError as error:
        refused = _refused(error)
        told = refused.message.replace(f"{refused.param}:", f"{place}:", 1)
        raise replace(refused, message=told, param=place) from error


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


Body = TypeVar("Body", bound=ModelRequest)


def parse(kind: type[Body], model: str, body: bytearray) -> Body:
    """Check a request of a kind to a model: the number of its values, then its fields."""
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        message = f"found more than {MAX_VALUES} values in the request; send less"
        raise RequestError(413, message, "too_large")
    try:
        request = kind.model_validate_json(body)
    except ValidationError as error:
        raise _refused(error) from error
    require_model(request.model, model)
    _refuse_unsupported(request.model_extra or {})
    return request


def _refuse_unsupported(extra: dict[str, Any]) -> None:
    for name, value in extra.items():
        neutral = (True,) if name in _ALWAYS else (*_NOTHING, *_ONLY.get(name, (value,)))
        if value is not None and value not in neutral:
            raise RequestError(400, f"{name} is not supported", "unsupported_parameter", name)


def _refused(error: ValidationError) -> RequestError:
    """Return the error of the field that was meant: of the alternative that went furthest."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    first = max(found, key=lambda each: len(each["loc"]))
    name = _TAG.sub(r"\1\2", ".".join(map(str, first["loc"])))[:200].removesuffix(".[key]")
    message = f"{name}: {first['msg'].removeprefix('Value error, ')}".removeprefix(": ")[:300]
    return RequestError(400, message, "invalid_request", name or None)


def require_model(name: str, served: str) -> None:
    """Refuse any model but the one that is served."""
    if name != served:
        message = f"found no such model, expected {served}"
        raise RequestError(404, message, "model_not_found", "model")
