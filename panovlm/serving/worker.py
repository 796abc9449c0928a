"""The one thread that runs the model: questions join the batch of running answers.

Which views mattered to an answer is computed in between; running answers pause meanwhile.
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
Reply = str | Answer | ViewsMattered | RequestError
"""What a client gets: pieces of an answer, then the whole, or which views mattered; or an error."""


class QueueSlot:
    """A question in the queue for at most `max_s`, and its replies; made in the event loop.

    With an answer the views that mattered to it are wanted, else its answer.
    """

    def __init__(self, question: Question, max_s: float, answer: str | None = None) -> None:
        self.question, self.answer = question, answer
        self.is_cancelled = False
        self._ends_at = time.monotonic() + max_s
        self._loop = asyncio.get_running_loop()
        self._replies: asyncio.Queue[Reply] = asyncio.Queue()

    async def receive(self) -> Reply:
        """Wait for the next reply; an error when the time is over."""
        try:
            async with asyncio.timeout(self._ends_at - time.monotonic()):
                return await self._replies.get()
        except TimeoutError:
            self.cancel()
            message = "the answer took too long; ask for less"
            return RequestError(503, message, "timeout", retry_after_s=5)

    def reply(self, reply: Reply) -> None:
        """Send a reply; from the worker's thread."""
        try:
            self._loop.call_soon_threadsafe(self._replies.put_nowait, reply)
        except RuntimeError:  # the loop is closed: nobody is waiting any more
            self.is_cancelled = True

    def cancel(self) -> None:
        """Mark the answer as not wanted any more."""
        self.is_cancelled = True


class Worker(Thread):
    """Answers questions until it is stopped, up to `batch_size` of them at the same time."""

    def __init__(self, assistant: Assistant, limits: Limits) -> None:
        super().__init__(name="panovlm-worker", daemon=True)
        self._assistant, self._limits = assistant, limits
        self._waiting: queue.SimpleQueue[QueueSlot | None] = queue.SimpleQueue()
        self._batch = Batch(assistant.model)
        self._running: dict[Row, QueueSlot] = {}
        self._is_stopping = False

    def submit(self, slot: QueueSlot) -> None:
        """Put a question into the queue. How many may wait is bounded where requests come in."""
        self._waiting.put(slot)

    def num_waiting(self) -> int:
        """Count the questions that no batch has taken yet."""
        return self._waiting.qsize()

    def num_running(self) -> int:
        """Count the running answers."""
        return len(self._running)

    def stop(self) -> None:
        """Answer what is in the queue, then end."""
        self._waiting.put(None)
        self.join(self._limits.max_s)

    def run(self) -> None:
        """Answer questions in batches."""
        while self._running or not self._is_stopping:
            if joining := self._gather():
                self._running |= joining
                self._generate(joining, partial(self._batch.join, list(joining)))
            self._generate(self._running, self._batch.step)

    def _gather(self) -> dict[Row, QueueSlot]:
        """Prepare waiting questions while there is room; wait for one where no answer is running.

        Running answers pause for `gather_s` at most and the reading of one question's panoramas.
        """
        rows: dict[Row, QueueSlot] = {}
        room = self._limits.batch_size - len(self._running)
        slot = self._next_slot(wait=not self._running) if room else None
        ends_at = time.monotonic() + self._limits.gather_s
        while slot:
            if row := self._row(slot):
                rows[row] = slot
            if len(rows) == room or time.monotonic() > ends_at:
                break
            slot = self._next_slot(wait=False)
        return rows

    def _next_slot(self, *, wait: bool) -> QueueSlot | None:
        try:
            slot = self._waiting.get(block=wait)
        except queue.Empty:
            return None
        self._is_stopping |= slot is None
        return slot

    def _row(self, slot: QueueSlot) -> Row | None:
        """Prepare a question for the batch; None if it is cancelled, or has its reply already."""
        if slot.is_cancelled:
            return None
        try:
            if slot.answer is None:
                return self._assistant.row(slot.question)
            batch_size = self._limits.batch_size
            slot.reply(self._assistant.views_mattered(slot.question, slot.answer, batch_size))
        except Exception as error:
            slot.reply(_error_of(error))
        return None

    def _generate(
        self, rows: Mapping[Row, QueueSlot], step: Callable[[], list[tuple[Row, str]]]
    ) -> None:
        """Generate a token for each of these rows and send its text; if that fails, they end."""
        try:
            for row, piece in step():
                if piece:
                    self._running[row].reply(piece)
                if row.answer.finish_reason:
                    self._running[row].reply(row.answer)
                if row.error:
                    self._running[row].reply(_error_of(row.error))
        except Exception:
            logger.exception("answers failed")
            for slot in rows.values():
                slot.reply(INTERNAL)
                slot.cancel()
        for row, slot in self._running.items():
            row.is_cancelled = slot.is_cancelled
        self._running = {row: slot for row, slot in self._running.items() if row.is_running}


def _error_of(error: Exception) -> RequestError:
    """Return what a client learns of an error; all of it is in the log."""
    if isinstance(error, PanoVLMError):
        return RequestError(400, str(error), "invalid_request")
    logger.error("an answer failed", exc_info=error)
    return INTERNAL
