"""From a request's body to its answer: bounded, timed, and dropped when the client leaves."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CollectorRegistry, Counter, Gauge

from panovlm.errors import PanoVLMError
from panovlm.inference.answers import Answer
from panovlm.inference.assistant import Assistant, OpenedPanorama, Question
from panovlm.inference.turning import turned_right
from panovlm.inference.views_mattered import ViewsMattered
from panovlm.serving.errors import RequestError
from panovlm.serving.fetching import Fetcher
from panovlm.serving.limits import Limits
from panovlm.serving.pictures import Pictures, data_of
from panovlm.serving.protocol import (
    ChatRequest,
    MatteredReply,
    MatteredRequest,
    Reply,
    parse_body,
    parse_request,
)
from panovlm.serving.worker import Ticket, Worker

CLIENT_LEFT = 499
"""What is logged where nobody waits for the answer any more."""
_LOOK_EVERY_S = 0.1
_READING_S = 10.0
"""How long a client may take to read a stream after its time is over."""

Outcome = TypeVar("Outcome", Answer, ViewsMattered)


@dataclass(frozen=True)
class Asked:
    """A checked request, ready for the queue."""

    request: ChatRequest
    question: Question
    num_prompt: int
    given: str | None


class Desk:
    """Takes requests for completions in.

    Args:
        assistant: Who answers.
        worker: The thread it does so in.
        limits: What may be asked for.
        model_name: What clients call the model.
        registry: Where tokens are counted.
        fetcher: Of pictures on other hosts; None fetches nothing.
    """

    def __init__(
        self,
        assistant: Assistant,
        worker: Worker,
        limits: Limits,
        model_name: str,
        registry: CollectorRegistry,
        fetcher: Fetcher | None = None,
    ) -> None:
        self._assistant, self._worker, self._limits = assistant, worker, limits
        self.model_name = model_name
        self._pictures, self._fetcher = Pictures(assistant, limits), fetcher
        self._decoding = asyncio.Semaphore(limits.num_decoders)
        self._num_requests = 0
        self.is_draining = False
        self._tokens = Counter("panovlm_tokens", "Tokens.", ["kind"], registry=registry)
        gauge = Gauge("panovlm_requests_at_work", "Waiting ones too.", registry=registry)
        gauge.set_function(lambda: self._num_requests)
        waiting = Gauge("panovlm_questions_waiting", "For a batch.", registry=registry)
        waiting.set_function(worker.num_waiting)
        answering = Gauge("panovlm_answers_under_way", "In the batch.", registry=registry)
        answering.set_function(worker.num_answering)

    async def complete(self, http: Request) -> Response:
        """Answer one request.

        Raises:
            RequestError: Whatever keeps it from being answered.
        """
        asked = await self._take_in(http)
        ticket = self._submit(asked)
        reply = Reply(http.state.request_id, asked.request, asked.num_prompt)
        if asked.request.stream:
            return self._streamed(http, asked, ticket, reply)
        answer = await self._outcome(http, ticket, Answer)
        if answer is None:
            return Response(status_code=CLIENT_LEFT)
        self._count(http, asked, answer)
        return JSONResponse(reply.whole(answer))

    async def views_mattered(self, http: Request) -> Response:
        """Tell which views mattered to an answer that a request gives.

        Raises:
            RequestError: Whatever keeps that from being found.
        """
        asked = await self._take_in(http, has_answer=True)
        found = await self._outcome(http, self._submit(asked), ViewsMattered)
        if found is None:
            return Response(status_code=CLIENT_LEFT)
        return JSONResponse(MatteredReply.of(asked.request.model, found).model_dump())

    async def _take_in(self, http: Request, *, has_answer: bool = False) -> Asked:
        """Let a request in and read it; who is taken in is let out by whoever answers."""
        self._let_in()
        try:
            async with asyncio.timeout(self._limits.max_s):
                return await self._read(http, has_answer=has_answer)
        except TimeoutError as error:
            self._let_out()
            raise RequestError(408, "the request came in too slowly", "timeout") from error
        except BaseException:
            self._let_out()
            raise

    def _submit(self, asked: Asked) -> Ticket:
        ticket = Ticket(asked.question, self._limits.max_s, asked.given)
        self._worker.submit(ticket)
        return ticket

    def _let_in(self) -> None:
        if self.is_draining:
            raise RequestError(503, "the server is stopping", "stopping", retry_after_s=10)
        if self._num_requests >= self._limits.max_requests:
            raise RequestError(429, "too many requests at once", "queue_full", retry_after_s=1)
        self._num_requests += 1

    def _let_out(self) -> None:
        self._num_requests -= 1

    async def _read(self, http: Request, *, has_answer: bool) -> Asked:
        body, given = await _body(http, self._limits.max_body_bytes), None
        if has_answer:
            request, given = parse_body(body, MatteredRequest).asked_and_said()
        else:
            request = parse_request(body)
        if request.model != self.model_name:
            message = f"found no such model, expected {self.model_name}"
            raise RequestError(404, message, "model_not_found", "model")
        sampling = request.sampling(self._limits)
        if sampling.json_schema is not None:
            await self._check_schema(sampling.json_schema)
        conversation, urls = request.conversation(self._limits)
        # One after the other: a request has no more than one decoded picture in memory.
        panoramas = [await self._panorama(url) for url in urls]
        try:
            if request.turned_right_deg:
                layout = self._assistant.processor.image_processor.layout
                turn_deg = request.turned_right_deg
                panoramas = [turned_right(each, layout, turn_deg) for each in panoramas]
            question = Question(conversation, panoramas, sampling)
            prompt = await asyncio.to_thread(self._assistant.prompt, question)
        except PanoVLMError as error:
            raise RequestError(400, str(error), "invalid_request", "messages") from error
        return Asked(request, question, len(prompt.ids), given)

    async def _check_schema(self, schema: str) -> None:
        """Compile a schema, so that no answer under way waits for it later."""
        try:
            await asyncio.to_thread(self._assistant.grammars.constraint, schema)
        except PanoVLMError as error:
            name = "response_format"
            raise RequestError(400, str(error), "unsupported_parameter", name) from error

    async def _panorama(self, url: str) -> OpenedPanorama:
        if self._fetcher and url[:4].lower() == "http":
            data = await self._fetcher.fetch(url)
        else:
            data = await asyncio.to_thread(data_of, url)
        async with self._decoding:
            return await asyncio.to_thread(self._pictures.open, data)

    async def _outcome(self, http: Request, ticket: Ticket, kind: type[Outcome]) -> Outcome | None:
        """Wait for what a ticket comes to, and let it out; None if the client leaves before."""
        try:
            while True:
                said: Any = None
                with suppress(TimeoutError):
                    said = await asyncio.wait_for(ticket.hear(), _LOOK_EVERY_S)
                if isinstance(said, kind):
                    return said
                if isinstance(said, RequestError):
                    raise said
                if said is None and await http.is_disconnected():
                    return None
        finally:
            ticket.cancel()
            self._let_out()

    def _streamed(self, http: Request, asked: Asked, ticket: Ticket, reply: Reply) -> Response:
        def leave() -> None:
            ticket.cancel()
            self._let_out()

        return Stream(
            leave,
            self._limits.max_s + _READING_S,
            self._events(http, asked, ticket, reply),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    async def _events(
        self, http: Request, asked: Asked, ticket: Ticket, reply: Reply
    ) -> AsyncIterator[str]:
        yield _event(reply.chunk({"role": "assistant", "content": ""}))
        while True:
            said = await ticket.hear()
            if isinstance(said, str):
                yield _event(reply.chunk({"content": said}))
                continue
            if isinstance(said, RequestError):
                yield _event(said.body())
            if isinstance(said, Answer):
                self._count(http, asked, said)
                for chunk in reply.last_chunks(said):
                    yield _event(chunk)
                yield "data: [DONE]\n\n"
            return

    def _count(self, http: Request, asked: Asked, answer: Answer) -> None:
        counts = {"prompt_tokens": asked.num_prompt, "completion_tokens": answer.num_tokens}
        http.state.counts = counts
        for kind, count in counts.items():
            self._tokens.labels(kind.removesuffix("_tokens")).inc(count)


class Stream(StreamingResponse):
    """A stream that calls back at its end, also where the client leaves before or reads too slowly.

    Args:
        at_end: What to do then.
        max_s: How long the client may take, in seconds; then the stream is cut off.
        args: Starlette's.
        kwargs: Starlette's.
    """

    def __init__(self, at_end: Callable[[], None], max_s: float, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._at_end, self._max_s = at_end, max_s

    async def __call__(self, *asgi: Any) -> None:
        """Send the stream."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._max_s):
                    await super().__call__(*asgi)
        finally:
            self._at_end()


async def _body(http: Request, max_bytes: int) -> bytes:
    """Read a body, but never more than is allowed.

    Raises:
        RequestError: If it is larger.
    """
    error = RequestError(413, f"found a body of over {max_bytes} bytes", "too_large")
    declared = http.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > max_bytes:
        raise error
    body = bytearray()
    async for piece in http.stream():
        body += piece
        if len(body) > max_bytes:
            raise error
    return bytes(body)


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
