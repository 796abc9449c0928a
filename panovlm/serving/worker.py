"""The one thread that runs the model: questions join those whose answers are under way.

Which views mattered to an answer is found in between, while the answers under way stand still.
"""

import asyncio
import logging
import queue
import time
from collections.abc import Callable, Mapping
from functools import partial
from threading import Thread

from panovlm.errors import PanoVLMError
from panovlm.inference.answers import Answer
from panovlm.inference.assistant import Assistant, Question
from panovlm.inference.batches import Batch, Row
from panovlm.inference.views_mattered import ViewsMattered
from panovlm.serving.errors import INTERNAL, RequestError
from panovlm.serving.limits import Limits

logger = logging.getLogger(__name__)
Said = str | Answer | ViewsMattered | RequestError
"""What a client gets: pieces of an answer, then the whole, or which views mattered; or an error."""


class Ticket:
    """A question in the queue, and the way back to who asked; made in the event loop.

    Args:
        question: What is asked.
        max_s: How long that may take, in seconds.
        given: Its answer, where one asks which views mattered to it; None where it has none yet.
    """

    def __init__(self, question: Question, max_s: float, given: str | None = None) -> None:
        self.question, self.given = question, given
        self.is_cancelled = False
        self._ends_at = time.monotonic() + max_s
        self._loop = asyncio.get_running_loop()
        self._said: asyncio.Queue[Said] = asyncio.Queue()

    async def hear(self) -> Said:
        """Wait for what is said next; an error when the time is over."""
        try:
            async with asyncio.timeout(self._ends_at - time.monotonic()):
                return await self._said.get()
        except TimeoutError:
            self.cancel()
            message = "the answer took too long; ask for less"
            return RequestError(503, message, "timeout", retry_after_s=5)

    def say(self, said: Said) -> None:
        """Say something to who asked; from the worker's thread."""
        try:
            self._loop.call_soon_threadsafe(self._said.put_nowait, said)
        except RuntimeError:  # the loop is closed: nobody is there any more
            self.is_cancelled = True

    def cancel(self) -> None:
        """Leave: the answer is not wanted any more."""
        self.is_cancelled = True


class Worker:
    """Answers tickets until it is stopped, up to `batch_size` of them at the same time."""

    def __init__(self, assistant: Assistant, limits: Limits) -> None:
        self._assistant, self._limits = assistant, limits
        self._waiting: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._batch = Batch(assistant.model)
        self._asked: dict[Row, Ticket] = {}
        self._is_stopping = False
        self._thread = Thread(target=self._run, name="panovlm-worker", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def submit(self, ticket: Ticket) -> None:
        """Put a ticket into the queue. How many may wait is bounded where requests come in."""
        self._waiting.put(ticket)

    def num_waiting(self) -> int:
        """Count the questions that no batch has taken yet."""
        return self._waiting.qsize()

    def num_answering(self) -> int:
        """Count the answers under way."""
        return len(self._asked)

    def stop(self) -> None:
        """Answer what is in the queue, then end."""
        self._waiting.put(None)
        self._thread.join(self._limits.max_s)

    def _run(self) -> None:
        while self._asked or not self._is_stopping:
            if newcomers := self._take_in():
                self._asked |= newcomers
                self._say(newcomers, partial(self._batch.join, list(newcomers)))
            self._say(self._asked, self._batch.step)

    def _take_in(self) -> dict[Row, Ticket]:
        """Prepare waiting questions while there is room; wait for one where nothing is under way.

        Answers under way stand still for `gather_s` at most and the reading of one question's
        panoramas.
        """
        taken: dict[Row, Ticket] = {}
        room = self._limits.batch_size - len(self._asked)
        ticket = self._next_ticket(wait=not self._asked) if room else None
        ends_at = time.monotonic() + self._limits.gather_s
        while ticket:
            if row := self._row(ticket):
                taken[row] = ticket
            if len(taken) == room or time.monotonic() > ends_at:
                break
            ticket = self._next_ticket(wait=False)
        return taken

    def _next_ticket(self, *, wait: bool) -> Ticket | None:
        try:
            ticket = self._waiting.get(block=wait)
        except queue.Empty:
            return None
        self._is_stopping |= ticket is None
        return ticket

    def _row(self, ticket: Ticket) -> Row | None:
        """Prepare a ticket; None if nobody waits for it, or it was told all there is to say."""
        if ticket.is_cancelled:
            return None
        try:
            if ticket.given is None:
                return self._assistant.row(ticket.question)
            ticket.say(self._views_mattered(ticket.question, ticket.given))
        except PanoVLMError as error:
            ticket.say(RequestError(400, str(error), "invalid_request"))
        except Exception:
            logger.exception("a prefix failed")
            ticket.say(INTERNAL)
        return None

    def _views_mattered(self, question: Question, given: str) -> ViewsMattered:
        return self._assistant.views_mattered(question, given, self._limits.batch_size)

    def _say(self, asked: Mapping[Row, Ticket], speak: Callable[[], list[tuple[Row, str]]]) -> None:
        """Let these rows speak and tell who asked; if that fails, they end."""
        try:
            for row, piece in speak():
                _tell(self._asked[row], row, piece)
        except Exception:
            logger.exception("answers failed")
            for ticket in asked.values():
                ticket.say(INTERNAL)
                ticket.cancel()
        for row, ticket in self._asked.items():
            row.is_cancelled = ticket.is_cancelled
        self._asked = {row: ticket for row, ticket in self._asked.items() if row.goes_on}


def _tell(ticket: Ticket, row: Row, piece: str) -> None:
    if piece:
        ticket.say(piece)
    if row.answer.finish_reason:
        ticket.say(row.answer)
