"""From a request's body to its answer: bounded, timed, and dropped when the client leaves.

Whatever keeps a request from being answered is raised as a `RequestError`.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from panovlm.errors import PanoVLMError
from panovlm.inference.answers import Answer, SamplingParams
from panovlm.inference.assistant import Assistant, Question
from panovlm.inference.prompts import texts_of
from panovlm.inference.rotation import yaw_rotated
from panovlm.inference.views_mattered import ViewsMattered
from panovlm.pictures.declaring import Declaration
from panovlm.serving.errors import RequestError, of_field, refusing
from panovlm.serving.fetching import Fetcher
from panovlm.serving.limits import Budget, Limits, read_body
from panovlm.serving.metrics import Metrics
from panovlm.serving.pictures import Picture, Pictures, decode_data_url
from panovlm.serving.protocol import ChatRequest, ParsedRequest, ViewsMatteredResponse
from panovlm.serving.worker import QueueSlot, Worker
from panovlm.serving.writers import ChatWriter, Event

CLIENT_LEFT = 499
"""Status in the log where the client disconnected before its answer."""
_READING_S = 10.0
"""How long a client may take to read a stream after its time is over."""
_STUDIES = "studies"
"""Studies share the places of one client, whoever asks: each takes many times an answer's time."""

Result = TypeVar("Result", Answer, ViewsMattered)
Opened = TypeVar("Opened")
Parse = Callable[[bytearray], ParsedRequest]
Spend = Callable[[int], None]


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
        self._decoders = ThreadPoolExecutor(limits.num_decoders, "panovlm-decoder")
        self._compiler = ThreadPoolExecutor(1, "panovlm-compiler")
        # Views take more memory than files: only the next questions have theirs.
        self._opening = asyncio.Semaphore(2 * limits.batch_size)
        message = "the server holds too many bytes of other requests"
        self._bytes = Budget(limits.max_bytes, RequestError(503, message, "busy", retry_after_s=2))
        message = "too many requests at once"
        self._places = Budget(
            limits.max_requests, RequestError(429, message, "queue_full", retry_after_s=1)
        )
        self.is_draining = False
        metrics.gauge("vllm:num_requests_running", "In the batch.", worker.num_running)
        metrics.gauge("vllm:num_requests_waiting", "For a batch.", self.num_waiting)

    def num_places(self) -> int:
        """Count the answers of waiting and running requests, whose bodies are there."""
        return self._places.held.total()

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
            answers = await unless_left(http, _results(slots, Answer))
        finally:
            _leave(slots, place)
        self._count(http, slots, answers)
        return JSONResponse(writer.whole(answers))

    async def views_mattered(self, http: Request, parse: Parse) -> Response:
        """Compute which views mattered to the answer that a request ends with."""
        slots, place, writer = await self._submit(http, parse, ChatWriter)
        try:
            (found,) = await unless_left(http, _results(slots, ViewsMattered))
        finally:
            _leave(slots, place)
        return JSONResponse(ViewsMatteredResponse.of(writer.request.model, found).model_dump())

    async def level(self, http: Request, parse: Callable[[bytearray], Picture]) -> Response:
        """Return a picture as the model reads it, a level full sphere; status 204 if it is one."""
        client = http.state.client
        async with self._received(http) as (body, spend):
            with self._places.spending(client) as take:
                take(1)
                picture = await asyncio.to_thread(parse, body)
                opened = self._opened(picture, spend, self._pictures.level)
                sphere = await self._in_time(http, opened)
        if sphere is None:
            return Response(status_code=204)
        return Response(sphere, media_type="image/jpeg")

    async def _submit(
        self, http: Request, parse: Parse, kind: type[ChatWriter]
    ) -> tuple[list[QueueSlot], ExitStack, ChatWriter]:
        """Read a request, then take a place for it and queue it; whoever replies leaves it."""
        async with self._received(http) as (body, spend):
            with ExitStack() as place:
                queued = self._queued(http.state.client, parse, body, spend, place)
                slots, request = await self._in_time(http, queued)
                kept = place.pop_all()
        for slot in slots:
            self._worker.submit(slot)
        prompt, question = slots[0].prompt, slots[0].question
        text = "".join(texts_of(question.conversation[-1:]))
        return slots, kept, kind(http.state.request_id, request, text, len(prompt.ids))

    @asynccontextmanager
    async def _received(self, http: Request) -> AsyncIterator[tuple[bytearray, Spend]]:
        """Read a request's body where there is room for it; it counts until the context is left."""
        if self.is_draining:
            raise RequestError(503, "the server is stopping", "stopping", retry_after_s=10)
        self._places.check(http.state.client, 1)
        with self._bytes.spending(http.state.client) as spend:
            yield await read_body(http, self._limits.max_body_bytes, spend), spend

    async def _in_time(self, http: Request, work: Coroutine[Any, Any, Opened]) -> Opened:
        """Wait for a result, as long as the client and the limits let it."""
        try:
            async with asyncio.timeout(self._limits.max_s):
                return await unless_left(http, work)
        except TimeoutError as error:
            message = "the server was too busy to read the pictures"
            raise RequestError(503, message, "timeout", retry_after_s=5) from error

    async def _queued(
        self, client: str, parse: Parse, body: bytearray, spend: Spend, place: ExitStack
    ) -> tuple[list[QueueSlot], ChatRequest]:
        """Parse a body and take its places; return its questions."""
        asked = await asyncio.to_thread(parse, body)
        vocabulary = self._assistant.model.config.text_config.vocab_size
        sampling = asked.chat.sampling(self._limits, vocabulary)
        take = place.enter_context(self._places.spending(_STUDIES if asked.answer else client))
        take(asked.chat.n or 1)
        if sampling.json_schema is not None:
            await self._check_schema(sampling.json_schema)
        return await self._prepared(asked, sampling, spend, place), asked.chat

    async def _prepared(
        self, asked: ParsedRequest, sampling: SamplingParams, spend: Spend, place: ExitStack
    ) -> list[QueueSlot]:
        """Open a request's pictures and tokenise it; return its questions."""
        arrived, request = time.monotonic(), asked.chat
        conversation, pictures = await asyncio.to_thread(
            request.taken, self._limits, asked.place, grounded=request.grounded
        )
        views = ExitStack()
        if pictures:
            await self._opening.acquire()
            views.callback(self._opening.release)
            place.callback(views.close)
        # One after the other: a request has no more than one decoded picture in memory.
        panoramas = [await self._opened(each, spend, self._pictures.open) for each in pictures]
        with refusing("invalid_request", asked.place):
            if yaw_shift_deg := request.yaw_shift_deg:
                layout = self._assistant.processor.image_processor.layout
                panoramas = [yaw_rotated(each, layout, yaw_shift_deg) for each in panoramas]
            question = Question(conversation, panoramas, replace(sampling, max_tokens=1))
            scored: Sequence[int] = ()
            if asked.answer:
                score = self._assistant.scored
                prompt, scored = await asyncio.to_thread(score, question, asked.answer)
                self._check_answer(len(scored))
            else:
                prompt = await asyncio.to_thread(self._assistant.prompt, question)
        room = (self._assistant.max_length or sampling.max_tokens) - len(prompt.ids)
        sampling = replace(sampling, max_tokens=min(sampling.max_tokens, room))
        return [
            QueueSlot(each, prompt, arrived, self._limits.max_s, scored, views.close)
            for each in request.questions(replace(question, sampling=sampling))
        ]

    async def _check_schema(self, schema: str) -> None:
        """Compile a schema, so that no running answer waits for it later."""
        constraint = self._assistant.grammars.constraint
        with refusing("unsupported_parameter", "response_format"):
            await asyncio.get_running_loop().run_in_executor(self._compiler, constraint, schema)

    def _check_answer(self, num_tokens: int) -> None:
        if num_tokens > self._limits.max_tokens:
            raise PanoVLMError(
                f"found an answer of {num_tokens} tokens, expected at most "
                f"{self._limits.max_tokens}; shorten it"
            )

    async def _opened(
        self,
        picture: Picture,
        spend: Spend,
        function: Callable[[bytes, Declaration | None], Opened],
    ) -> Opened:
        """Fetch a picture that is not there, and open it in a decoder's thread."""
        data = picture.data
        with of_field(picture.place):
            if data is None:
                fetcher = self._fetcher
                data = await fetcher.fetch(picture.url) if fetcher else decode_data_url(picture.url)
                spend(len(data))
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._decoders, function, data, picture.declared)

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


async def unless_left(http: Request, work: Coroutine[Any, Any, Opened]) -> Opened:
    """Wait for a result; an error as soon as the client leaves, and the work is cancelled."""

    async def left() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(left())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise RequestError(CLIENT_LEFT, "the client left", "client_left")
    finally:
        working.cancel()
        leaving.cancel()


async def _results(slots: list[QueueSlot], kind: type[Result]) -> list[Result]:
    """Wait for the result of each slot, of a kind; raise the error of one that has none."""
    results: list[Result] = []
    for slot in slots:
        while not isinstance(reply := await slot.receive(), kind):
            if isinstance(reply, RequestError):
                raise reply
        results.append(reply)
    return results


def _leave(slots: list[QueueSlot], place: ExitStack) -> None:
    for slot in slots:
        slot.cancel()
    place.close()


def _line(event: Event) -> str:
    """Write an event of a stream: its name, if it has one, and its data, a text as it is."""
    name, data = event
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"event: {name}\ndata: {text}\n\n" if name else f"data: {text}\n\n"
