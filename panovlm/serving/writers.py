"""Responses as clients of OpenAI's interfaces read them, whole and in a stream's events."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar

from panovlm.inference.answers import Answer, TokenScore
from panovlm.inference.grounding import grounding_facts
from panovlm.serving.protocol import ChatRequest

Json = dict[str, Any]
Event = tuple[str | None, Json | str]
"""An event of a stream: its name, where it has one, and its data."""


@dataclass(frozen=True)
class ChatWriter:
    """Writes one chat completion.

    Args:
        request_id: Of the request.
        request: The request, without its messages.
        question: The text of the last of these.
        num_prompt_tokens: Of all of them.
    """

    prefix: ClassVar[str] = "chatcmpl"
    kind: ClassVar[str] = "chat.completion"
    streamed_kind: ClassVar[str] = "chat.completion.chunk"

    request_id: str
    request: ChatRequest
    question: str
    num_prompt_tokens: int
    created: int = field(default_factory=lambda: int(time.time()))
    _numbers: Iterator[int] = field(default_factory=count, init=False)

    def whole(self, answers: list[Answer]) -> Json:
        """Return the whole completion."""
        choices = [
            self._choice(index, self.content(answer), answer)
            for index, answer in enumerate(answers)
        ]
        return self._object(self.kind, choices) | {"usage": self.usage(answers)}

    def first(self) -> list[Event]:
        """Return the beginning of a stream."""
        delta = {"delta": {"role": "assistant", "content": ""}}
        return [self._chunk(self._choice(n, delta)) for n in range(self.request.n or 1)]

    def piece(self, index: int, text: str) -> list[Event]:
        """Return a piece of one of the answers."""
        return [self._chunk(self._choice(index, {"delta": {"content": text}}))]

    def end(self, index: int, answer: Answer) -> list[Event]:
        """Return the end of one of the answers: why it ended."""
        return [self._chunk(self._choice(index, {"delta": self._grounding(answer)}, answer))]

    def last(self, answers: list[Answer]) -> list[Event]:
        """Return the end of the stream, with the tokens it took if the request wants them."""
        options = self.request.stream_options
        usage = self._object(self.streamed_kind, []) | {"usage": self.usage(answers)}
        counted: list[Event] = [(None, usage)] if options and options.include_usage else []
        return [*counted, (None, "[DONE]")]

    def content(self, answer: Answer) -> Json:
        """Return an answer as a choice holds it."""
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        return {"message": message | self._grounding(answer)}

    def scores(self, scores: list[TokenScore]) -> Json:
        """Return the log-probabilities of an answer's tokens."""
        return {
            "content": [
                _scored(each.token, each.logprob)
                | {"top_logprobs": [_scored(*likely) for likely in each.top]}
                for each in scores
            ],
            "refusal": None,
        }

    def usage(self, answers: list[Answer]) -> Json:
        """Count the tokens of the request and its answers."""
        num_tokens = sum(answer.num_tokens for answer in answers)
        counts = {"prompt_tokens": self.num_prompt_tokens, "completion_tokens": num_tokens}
        return {**counts, "total_tokens": sum(counts.values())}

    def _choice(self, index: int, content: Json, answer: Answer | None = None) -> Json:
        scores = self.scores(answer.scores) if answer and self.request.logprobs else None
        reason = answer.finish_reason if answer else None
        return {"index": index, **content, "logprobs": scores, "finish_reason": reason}

    def _chunk(self, choice: Json) -> Event:
        return None, self._object(self.streamed_kind, [choice])

    def _object(self, kind: str, choices: list[Json]) -> Json:
        return {
            "id": f"{self.prefix}-{self.request_id}",
            "object": kind,
            "created": self.created,
            "model": self.request.model,
            "choices": choices,
        }

    def _grounding(self, answer: Answer) -> Json:
        """Return where an answer says things are, where the request asks for it."""
        if not self.request.grounded:
            return {}
        return dict(grounding_facts(answer.text, self.question))


class CompletionWriter(ChatWriter):
    """Writes one completion of the older interface."""

    prefix, kind, streamed_kind = "cmpl", "text_completion", "text_completion"

    def first(self) -> list[Event]:
        """Return nothing: there is no role to tell."""
        return []

    def piece(self, index: int, text: str) -> list[Event]:
        """Return a piece of one of the answers."""
        return [self._chunk(self._choice(index, {"text": text}))]

    def end(self, index: int, answer: Answer) -> list[Event]:
        """Return the end of one of the answers: why it ended."""
        return [self._chunk(self._choice(index, {"text": ""}, answer))]

    def content(self, answer: Answer) -> Json:
        """Return an answer as a choice holds it."""
        return {"text": answer.text}

    def scores(self, scores: list[TokenScore]) -> Json:
        """Return the log-probabilities of an answer's tokens."""
        return {
            "tokens": [each.token for each in scores],
            "token_logprobs": [each.logprob for each in scores],
            "top_logprobs": [dict(each.top) for each in scores],
            "text_offset": [sum(len(e.token) for e in scores[:n]) for n in range(len(scores))],
        }


class ResponseWriter(ChatWriter):
    """Writes one response of the newer interface; nothing is stored."""

    def whole(self, answers: list[Answer]) -> Json:
        """Return the whole response."""
        (answer,) = answers
        cut = answer.finish_reason == "length"
        counts = self.usage(answers)
        return self._response("incomplete" if cut else "completed") | {
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "output": [self._item([_text_part(answer.text)], cut=cut)],
            "usage": {
                "input_tokens": counts["prompt_tokens"],
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": counts["completion_tokens"],
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": counts["total_tokens"],
            },
        }

    def first(self) -> list[Event]:
        """Return the beginning of a stream."""
        begun = {"response": self._response("in_progress")}
        item = self._item([]) | {"status": "in_progress"}
        return [
            self._event("response.created", begun),
            self._event("response.in_progress", begun),
            self._event("response.output_item.added", {"output_index": 0, "item": item}),
            self._part_event("content_part.added", {"part": _text_part("")}),
        ]

    def piece(self, index: int, text: str) -> list[Event]:
        """Return a piece of the answer."""
        return [self._part_event("output_text.delta", {"delta": text, "logprobs": []})]

    def end(self, index: int, answer: Answer) -> list[Event]:
        """Return the end of the answer."""
        part, cut = _text_part(answer.text), answer.finish_reason == "length"
        item = {"output_index": 0, "item": self._item([part], cut=cut)}
        return [
            self._part_event("output_text.done", {"text": answer.text, "logprobs": []}),
            self._part_event("content_part.done", {"part": part}),
            self._event("response.output_item.done", item),
        ]

    def last(self, answers: list[Answer]) -> list[Event]:
        """Return the whole response as the end of the stream."""
        response = self.whole(answers)
        return [self._event(f"response.{response['status']}", {"response": response})]

    def _event(self, name: str, data: Json) -> Event:
        return name, {"type": name, "sequence_number": next(self._numbers), **data}

    def _part_event(self, name: str, data: Json) -> Event:
        place = {"item_id": f"msg_{self.request_id}", "output_index": 0, "content_index": 0}
        return self._event(f"response.{name}", place | data)

    def _item(self, content: list[Json], *, cut: bool = False) -> Json:
        status = "incomplete" if cut else "completed"
        own = {"id": f"msg_{self.request_id}", "type": "message", "status": status}
        return {**own, "role": "assistant", "content": content}

    def _response(self, status: str) -> Json:
        return {
            "id": f"resp_{self.request_id}",
            "object": "response",
            "created_at": self.created,
            "status": status,
            "model": self.request.model,
            "output": [],
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": False,
            "temperature": self.request.temperature,
            "top_p": self.request.top_p,
            "tool_choice": "none",
            "tools": [],
            "store": False,
        }


def _text_part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _scored(token: str, logprob: float) -> Json:
    return {"token": token, "logprob": max(logprob, -9999.0), "bytes": list(token.encode())}
