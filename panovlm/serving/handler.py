"""From a request's body to its answer: bounded, timed, and dropped when the client leaves.

Whatever keeps a request from being answered is raised as a `RequestError`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CollectorRegistry, Counter, Gauge

from panovlm.errors import PanoVLMError
from panovlm.inference.answers import Answer
from panovlm.inference.assistant import Assistant, OpenedPanorama, Question
from panovlm.inference.rotation import yaw_rotated
from panovlm.inference.views_mattered import ViewsMattered
from panovlm.serving.errors import RequestError
from panovlm.serving.fetching import Fetcher
from panovlm.serving.limits import Limits
from panovlm.serving.pictures import Pictures, decode_data_url
from panovlm.serving.protocol import (
    Completion,
    ImagePart,
    ViewsMatteredRequest,
    ViewsMatteredResponse,
    parse_body,
    parse_request,
)
from panovlm.serving.worker import QueueSlot, Worker

CLIENT_LEFT = 499
"""Status in the log where the client disconnected before its answer."""
_POLL_S = 0.1
_READING_S = 10.0
"""How long a client may take to read a stream after its time is over."""

Result = TypeVar("Result", Answer, ViewsMattered)


class ChatHandler:
    """Handles requests for answers and about answers; without a fetcher it fetches no picture."""

    def __init__(
        self,
        assistant: Assistant,
        worker: Worker,
        limits: Limits,
        registry: CollectorRegistry,
        fetcher: Fetcher | None = None,
    ) -> None:
        self._assistant, self._worker, self._limits = assistant, worker, limits
        self._pictures, self._fetcher = Pictures(assistant, limits), fetcher
        self._decoding = asyncio.Semaphore(limits.num_decoders)
        self._num_requests = 0
        self.is_draining = False
        self._tokens = Counter("panovlm_tokens", "Tokens.", ["kind"], registry=registry)
        for name, description, count in (
            ("panovlm_requests_in_progress", "Waiting ones too.", lambda: self._num_requests),
            ("panovlm_questions_waiting", "For a batch.", worker.num_waiting),
            ("panovlm_answers_running", "In the batch.", worker.num_running),
        ):
            Gauge(name, description, registry=registry).set_function(count)

    async def complete(self, http: Request) -> Response:
        """Answer one request."""
        slot, completion = await self._submit(http)
        if completion.request.stream:
            return Stream(
                lambda: self._leave(slot),
                self._limits.max_s + _READING_S,
                self._events(http, slot, completion),
                media_type="text/event-stream",
                headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
            )
        answer = await self._result(http, slot, Answer)
        if answer is None:
            return Response(status_code=CLIENT_LEFT)
        self._count_tokens(http, completion.usage(answer))
        return JSONResponse(completion.whole(answer))

    async def views_mattered(self, http: Request) -> Response:
        """Compute which views mattered to the answer that a request ends with."""
        slot, completion = await self._submit(http, has_answer=True)
        found = await self._result(http, slot, ViewsMattered)
        if found is None:
            return Response(status_code=CLIENT_LEFT)
        response = ViewsMatteredResponse.of(completion.request.model, found)
        return JSONResponse(response.model_dump())

    async def _submit(
        self, http: Request, *, has_answer: bool = False
    ) -> tuple[QueueSlot, Completion]:
        """Acquire a slot, read a request into it and queue it; whoever replies releases it."""
        self._acquire_slot()
        try:
            async with asyncio.timeout(self._limits.max_s):
                slot, completion = await self._read(http, has_answer=has_answer)
        except BaseException as error:
            self._release_slot()
            if isinstance(error, TimeoutError):
                raise RequestError(408, "the request came in too slowly", "timeout") from error
            raise
        self._worker.submit(slot)
        return slot, completion

    def _acquire_slot(self) -> None:
        if self.is_draining:
            raise RequestError(503, "the server is stopping", "stopping", retry_after_s=10)
        if self._num_requests >= self._limits.max_requests:
            raise RequestError(429, "too many requests at once", "queue_full", retry_after_s=1)
        self._num_requests += 1

    def _release_slot(self) -> None:
        self._num_requests -= 1

    def _leave(self, slot: QueueSlot) -> None:
        slot.cancel()
        self._release_slot()

    async def _read(self, http: Request, *, has_answer: bool) -> tuple[QueueSlot, Completion]:
        body, answer = await _body(http, self._limits.max_body_bytes), None
        if has_answer:
            request, answer = parse_body(body, ViewsMatteredRequest).split()
        else:
            request = parse_request(body)
        sampling = request.sampling(self._limits)
        if sampling.json_schema is not None:
            await self._check_schema(sampling.json_schema)
        conversation, pictures = request.conversation(self._limits)
        # One after the other: a request has no more than one decoded picture in memory.
        panoramas = [await self._panorama(each) for each in pictures]
        try:
            if yaw_shift_deg := request.yaw_shift_deg:
                layout = self._assistant.processor.image_processor.layout
                panoramas = [yaw_rotated(each, layout, yaw_shift_deg) for each in panoramas]
            question = Question(conversation, panoramas, sampling)
            prompt = await asyncio.to_thread(self._assistant.prompt, question)
        except PanoVLMError as error:
            raise RequestError(400, str(error), "invalid_request", "messages") from error
        completion = Completion(http.state.request_id, request, len(prompt.ids))
        return QueueSlot(question, self._limits.max_s, answer), completion

    async def _check_schema(self, schema: str) -> None:
        """Compile a schema, so that no running answer waits for it later."""
        try:
            await asyncio.to_thread(self._assistant.grammars.constraint, schema)
        except PanoVLMError as error:
            name = "response_format"
            raise RequestError(400, str(error), "unsupported_parameter", name) from error

    async def _panorama(self, picture: ImagePart) -> OpenedPanorama:
        url = picture.image_url.url
        if self._fetcher and url[:4].lower() == "http":
            data = await self._fetcher.fetch(url)
        else:
            data = await asyncio.to_thread(decode_data_url, url)
        async with self._decoding:
            return await asyncio.to_thread(self._pictures.open, data, picture.declared)

    async def _result(self, http: Request, slot: QueueSlot, kind: type[Result]) -> Result | None:
        """Wait for a result of a kind, then release the slot; None if the client leaves before."""
        try:
            while True:
                reply: Any = None
                with suppress(TimeoutError):
                    reply = await asyncio.wait_for(slot.receive(), _POLL_S)
                if isinstance(reply, kind):
                    return reply
                if isinstance(reply, RequestError):
                    raise reply
                if reply is None and await http.is_disconnected():
                    return None
        finally:
            self._leave(slot)

    async def _events(
        self, http: Request, slot: QueueSlot, completion: Completion
    ) -> AsyncIterator[str]:
        yield _event(completion.chunk({"role": "assistant", "content": ""}))
        while isinstance(reply := await slot.receive(), str):
            yield _event(completion.chunk({"content": reply}))
        if isinstance(reply, RequestError):
            yield _event(reply.body())
        if isinstance(reply, Answer):
            self._count_tokens(http, completion.usage(reply))
            for chunk in completion.last_chunks(reply):
                yield _event(chunk)
            yield "data: [DONE]\n\n"

    def _count_tokens(self, http: Request, usage: dict[str, int]) -> None:
        http.state.counts = {name: usage[name] for name in ("prompt_tokens", "completion_tokens")}
        for name, count in http.state.counts.items():
            self._tokens.labels(name.removesuffix("_tokens")).inc(count)


class Stream(StreamingResponse):
    """A stream that calls back at its end: whole, left by its client, or cut off after `max_s`."""

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
    """Read a body, but never more than is allowed."""
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
