"""From a request's body to its answer: bounded, timed, and dropped when the client leaves.

Whatever keeps a request from being answered is raised as a `RequestError`.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from panovlm.errors import PanoVLMError
from panovlm.inference.answers import Answer
from panovlm.inference.assistant import Assistant, OpenedPanorama, Question
from panovlm.inference.rotation import yaw_rotated
from panovlm.inference.views_mattered import ViewsMattered
from panovlm.serving.errors import RequestError
from panovlm.serving.fetching import Fetcher
from panovlm.serving.limits import Budget, Limits, read_body
from panovlm.serving.metrics import Metrics
from panovlm.serving.pictures import Picture, Pictures, decode_data_url
from panovlm.serving.protocol import ChatRequest, ViewsMatteredResponse
from panovlm.serving.worker import QueueSlot, Worker
from panovlm.serving.writers import ChatWriter, Event

CLIENT_LEFT = 499
"""Status in the log where the client disconnected before its answer."""
_POLL_S = 0.1
_READING_S = 10.0
"""How long a client may take to read a stream after its time is over."""

Result = TypeVar("Result", Answer, ViewsMattered)
Parse = Callable[[bytearray], tuple[ChatRequest, str]]
"""Reads a request for an answer, and the answer where it is there already."""


class ChatHandler:
    """Handles requests for answers and about answers; without a fetcher it fetches no picture."""

    def __init__(
        self,
        assistant: Assistant,
        worker: Worker,
        limits: Limits,
        metrics: Metrics,
        fetcher: Fetcher | None = None,
    ) -> None:
        self._assistant, self._worker, self._limits = assistant, worker, limits
        self._metrics, self._fetcher = metrics, fetcher
        self._pictures = Pictures(assistant, limits)
        self._decoding = asyncio.Semaphore(limits.num_decoders)
        self._compiling = asyncio.Semaphore(1)
        # Views take more memory than files: only the next questions have theirs.
        self._opening = asyncio.Semaphore(2 * limits.batch_size)
        self._budget = Budget(limits.max_bytes)
        self._places: Counter[str] = Counter()
        self.is_draining = False
        metrics.gauge("vllm:num_requests_running", "In the batch.", worker.num_running)
        metrics.gauge("vllm:num_requests_waiting", "For a batch.", self.num_waiting)

    def num_places(self) -> int:
        """Count the answers of waiting and running requests, whose bodies are there."""
        return self._places.total()

    def num_waiting(self) -> int:
        """Count those of them that no batch has taken yet."""
        return max(0, self.num_places() - self._worker.num_running())

    async def answer(self, http: Request, parse: Parse, kind: type[ChatWriter]) -> Response:
        """Answer one request, as a kind of writer writes it."""
        slots, place, writer = await self._submit(http, parse, kind)
        if writer.request.stream:
            return Stream(
                lambda: _leave(slots, place),
                self._limits.max_s + _READING_S,
                self._events(http, slots, writer),
                media_type="text/event-stream",
                headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
            )
        try:
            answers = [await self._result(http, slot, Answer) for slot in slots]
        finally:
            _leave(slots, place)
        self._count(http, slots, answers)
        return JSONResponse(writer.whole(answers))

    async def views_mattered(self, http: Request, parse: Parse) -> Response:
        """Compute which views mattered to the answer that a request ends with."""
        slots, place, writer = await self._submit(http, parse, ChatWriter)
        try:
            found = await self._result(http, slots[0], ViewsMattered)
        finally:
            _leave(slots, place)
        return JSONResponse(ViewsMatteredResponse.of(writer.request.model, found).model_dump())

    async def _submit(
        self, http: Request, parse: Parse, kind: type[ChatWriter]
    ) -> tuple[list[QueueSlot], ExitStack, ChatWriter]:
        """Read a request, then take a place for it and queue it; whoever replies leaves it."""
        self._check_places(http.state.key, 1)
        with self._budget.spending() as spend, ExitStack() as place:
            body = read_body(http, self._limits.max_body_bytes, spend)
            request, given = await asyncio.to_thread(parse, await body)
            self._take_places(http.state.key, request.n or 1, place)
            try:
                async with asyncio.timeout(self._limits.max_s):
                    slots, num_tokens = await self._prepared(request, given, spend, place)
            except TimeoutError as error:
                message = "the server was too busy to read the pictures"
                raise RequestError(503, message, "timeout", retry_after_s=5) from error
            kept = place.pop_all()
        for slot in slots:
            self._worker.submit(slot)
        return slots, kept, kind(http.state.request_id, request, num_tokens)

    def _check_places(self, key: str, num_places: int) -> None:
        if self.is_draining:
            raise RequestError(503, "the server is stopping", "stopping", retry_after_s=10)
        if self.num_places() + num_places > self._limits.max_requests:
            raise RequestError(429, "too many requests at once", "queue_full", retry_after_s=1)
        if key and self._places[key] + num_places > self._limits.max_requests_per_key:
            message = "too many requests at once with this key"
            raise RequestError(429, message, "rate_limit_exceeded", retry_after_s=1)

    def _take_places(self, key: str, num_places: int, place: ExitStack) -> None:
        self._check_places(key, num_places)
        self._places[key] += num_places
        place.callback(self._places.subtract, {key: num_places})

    async def _prepared(
        self, request: ChatRequest, given: str, spend: Callable[[int], None], place: ExitStack
    ) -> tuple[list[QueueSlot], int]:
        """Open a request's pictures and tokenise it; return its questions and their length."""
        arrived = time.monotonic()
        vocabulary = self._assistant.model.config.text_config.vocab_size
        sampling = request.sampling(self._limits, vocabulary)
        if sampling.json_schema is not None:
            await self._check_schema(sampling.json_schema)
        conversation, pictures = await asyncio.to_thread(
            request.taken, self._limits, request.grounded
        )
        views = ExitStack()
        if pictures:
            await self._opening.acquire()
            views.callback(self._opening.release)
            place.callback(views.close)
        # One after the other: a request has no more than one decoded picture in memory.
        panoramas = [await self._panorama(each, spend) for each in pictures]
        try:
            if yaw_shift_deg := request.yaw_shift_deg:
                layout = self._assistant.processor.image_processor.layout
                panoramas = [yaw_rotated(each, layout, yaw_shift_deg) for each in panoramas]
            question = Question(conversation, panoramas, replace(sampling, max_tokens=1))
            scored: Sequence[int] = ()
            if given:
                prompt, scored = await asyncio.to_thread(self._assistant.scored, question, given)
                self._check_answer(len(scored))
            else:
                prompt = await asyncio.to_thread(self._assistant.prompt, question)
        except PanoVLMError as error:
            raise RequestError(400, str(error), "invalid_request", request.place) from error
        room = (self._assistant.max_length or sampling.max_tokens) - len(prompt.ids)
        sampling = replace(sampling, max_tokens=min(sampling.max_tokens, room))
        slots = [
            QueueSlot(each, prompt, arrived, self._limits.max_s, scored, views.close)
            for each in request.questions(replace(question, sampling=sampling))
        ]
        return slots, len(prompt.ids)

    async def _check_schema(self, schema: str) -> None:
        """Compile a schema, so that no running answer waits for it later."""
        try:
            async with self._compiling:
                await asyncio.to_thread(self._assistant.grammars.constraint, schema)
        except PanoVLMError as error:
            name = "response_format"
            raise RequestError(400, str(error), "unsupported_parameter", name) from error

    def _check_answer(self, num_tokens: int) -> None:
        if num_tokens > self._limits.max_tokens:
            raise PanoVLMError(
                f"found an answer of {num_tokens} tokens, expected at most "
                f"{self._limits.max_tokens}; shorten it"
            )

    async def _panorama(self, picture: Picture, spend: Callable[[int], None]) -> OpenedPanorama:
        data = picture.data
        try:
            if data is None:
                fetcher = self._fetcher
                data = await fetcher.fetch(picture.url) if fetcher else decode_data_url(picture.url)
                spend(len(data))
            async with self._decoding:
                return await asyncio.to_thread(self._pictures.open, data, picture.declared)
        except RequestError as error:
            error.param = picture.place
            raise

    async def _result(self, http: Request, slot: QueueSlot, kind: type[Result]) -> Result:
        """Wait for a result of a kind; an error if the client leaves before."""
        while True:
            reply: Any = None
            with suppress(TimeoutError):
                reply = await asyncio.wait_for(slot.receive(), _POLL_S)
            if isinstance(reply, kind):
                return reply
            if isinstance(reply, RequestError):
                raise reply
            if reply is None and await http.is_disconnected():
                raise RequestError(CLIENT_LEFT, "the client left", "client_left")

    async def _events(
        self, http: Request, slots: list[QueueSlot], writer: ChatWriter
    ) -> AsyncIterator[str]:
        answers: list[Answer] = []
        for event in writer.first():
            yield _line(event)
        for slot in slots:
            while isinstance(reply := await slot.receive(), str):
                for event in writer.piece(len(answers), reply):
                    yield _line(event)
            if isinstance(reply, RequestError):
                yield _line((None, reply.body()))
                return
            if isinstance(reply, Answer):
                for event in writer.end(len(answers), reply):
                    yield _line(event)
                answers.append(reply)
        self._count(http, slots, answers)
        for event in writer.last(answers):
            yield _line(event)

    def _count(self, http: Request, slots: list[QueueSlot], answers: list[Answer]) -> None:
        num_prompt, tokens = len(slots[0].prompt.ids), sum(each.num_tokens for each in answers)
        http.state.counts = {"prompt_tokens": num_prompt, "completion_tokens": tokens}
        for slot, answer in zip(slots, answers, strict=True):
            self._metrics.observe(num_prompt, answer, slot.times)


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


def _leave(slots: list[QueueSlot], place: ExitStack) -> None:
    for slot in slots:
        slot.cancel()
    place.close()


def _line(event: Event) -> str:
    """Write an event of a stream: its name, if it has one, and its data, a text as it is."""
    name, data = event
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"event: {name}\ndata: {text}\n\n" if name else f"data: {text}\n\n"
