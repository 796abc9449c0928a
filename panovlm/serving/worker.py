"""The one thread that runs the model: it gathers waiting questions into batches."""

import asyncio
import logging
import queue
import time
from collections.abc import Sequence
from threading import Event, Thread

from panovlm.answering.answers import Answer
from panovlm.answering.assistant import Assistant, Question
from panovlm.answering.batches import Batch, Row
from panovlm.model.errors import PanoVLMError
from panovlm.serving.faults import INTERNAL, RequestFault
from panovlm.serving.limits import Limits

logger = logging.getLogger(__name__)
Said = str | Answer | RequestFault
"""What a client hears: pieces of an answer, then the whole or a fault."""


class Ticket:
    """A question in the queue, and the way back to who asked; made in the event loop."""

    def __init__(self, question: Question, max_s: float) -> None:
        self.question = question
        self.is_cancelled = False
        self._ends_at = time.monotonic() + max_s
        self._loop = asyncio.get_running_loop()
        self._said: asyncio.Queue[Said] = asyncio.Queue()

    @property
    def is_late(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() > self._ends_at

    async def hear(self) -> Said:
        """Wait for what is said next."""
        return await self._said.get()

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
    """Answers tickets in batches until it is stopped."""

    def __init__(self, assistant: Assistant, limits: Limits) -> None:
        self._assistant, self._limits = assistant, limits
        self._waiting: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._stopped = Event()
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

    def stop(self) -> None:
        """Answer what is in the queue, then end."""
        self._waiting.put(None)
        self._thread.join(self._limits.max_s)

    def _run(self) -> None:
        while not self._stopped.is_set():
            tickets = self._gather()
            try:
                self._answer([ticket for ticket in tickets if not ticket.is_cancelled])
            except Exception:
                logger.exception("a batch failed")
                for ticket in tickets:
                    ticket.say(INTERNAL)

    def _gather(self) -> list[Ticket]:
        """Wait for a question, then a moment for more."""
        tickets: list[Ticket] = []
        timeout: float | None = None
        while len(tickets) < self._limits.batch_size:
            try:
                ticket = self._waiting.get(timeout=timeout)
            except queue.Empty:
                break
            if ticket is None:
                self._stopped.set()
                break
            tickets.append(ticket)
            timeout = self._limits.gather_s
        return tickets

    def _answer(self, tickets: Sequence[Ticket]) -> None:
        asked = {row: ticket for ticket in tickets if (row := self._row(ticket))}
        batch = Batch(self._assistant.model, list(asked))
        while said := batch.step():
            for row, piece in said:
                _tell(asked[row], row, piece)
            for row, ticket in asked.items():
                if row.goes_on and ticket.is_late:
                    ticket.say(_late())
                    ticket.cancel()
                row.is_cancelled = ticket.is_cancelled

    def _row(self, ticket: Ticket) -> Row | None:
        """Prepare a ticket; None if it was told why not."""
        if ticket.is_late:
            ticket.say(_late())
            return None
        try:
            return self._assistant.row(ticket.question)
        except PanoVLMError as fault:
            ticket.say(RequestFault(400, str(fault), "invalid_request"))
        except Exception:
            logger.exception("a prefix failed")
            ticket.say(INTERNAL)
        return None


def _tell(ticket: Ticket, row: Row, piece: str) -> None:
    if piece:
        ticket.say(piece)
    if row.answer.finish_reason:
        ticket.say(row.answer)


def _late() -> RequestFault:
    return RequestFault(503, "the answer took too long; ask for less", "timeout", retry_after_s=5)
