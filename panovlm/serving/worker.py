"""The one thread that runs the model: questions join the batch of running answers.

Which views mattered to an answer is computed in slices between their tokens.
"""

import asyncio
import logging
import math
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Thread

from panovlm.errors import PanoVLMError
from panovlm.inference.answers import Answer
from panovlm.inference.assistant import Assistant, Question
from panovlm.inference.batches import Batch, Row
from panovlm.inference.prompts import Prompt
from panovlm.inference.views_mattered import ViewsMattered
from panovlm.serving.errors import INTERNAL, RequestError
from panovlm.serving.limits import Limits

logger = logging.getLogger(__name__)
Reply = str | Answer | ViewsMattered | RequestError
"""What a client gets: pieces of an answer, then the whole, or which views mattered; or an error."""
_SLICE_SIZE = 2
"""Panoramas that are read in a slice of a study."""
_STUDY_SHARE = 0.2
"""Of the time, for studies while answers are running."""


class QueueSlot:
    """A question in the queue for at most `max_s`, and its replies; made in the event loop.

    Args:
        question: The question.
        prompt: It, tokenised.
        arrived: When its request was there, by `time.monotonic`.
        max_s: How long it may take from then on, in seconds.
        scored: Tokens of an answer whose views that mattered are wanted; none for an answer.
        at_start: Called in the event loop when the model has read the panoramas.
    """

    def __init__(
        self,
        question: Question,
        prompt: Prompt,
        arrived: float,
        max_s: float,
        scored: Sequence[int] = (),
        at_start: Callable[[], None] = lambda: None,
    ) -> None:
        self.question, self.prompt, self.scored = question, prompt, scored
        self.is_cancelled = False
        self.times = {"arrived": arrived}
        self._ends_at = arrived + max_s
        self._loop = asyncio.get_running_loop()
        self._replies: asyncio.Queue[Reply] = asyncio.Queue()
        self._at_start = at_start

    async def receive(self) -> Reply:
        """Wait for the next reply; an error when the time is over."""
        try:
            async with asyncio.timeout(self._ends_at - time.monotonic()):
                return await self._replies.get()
        except TimeoutError:
            self.cancel()
            message = "the answer took too long; ask for less"
            return RequestError(503, message, "timeout", retry_after_s=5)

    def start(self) -> None:
        """Note that its panoramas are read; from the worker's thread."""
        self.times["started"] = time.monotonic()
        self._call(self._at_start)

    def reply(self, reply: Reply) -> None:
        """Send a reply; from the worker's thread."""
        self.times["ended"] = time.monotonic()
        self._call(lambda: self._replies.put_nowait(reply))

    def cancel(self) -> None:
        """Mark the answer as not wanted any more."""
        self.is_cancelled = True

    def _call(self, function: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop is closed: nobody is waiting any more
            self.is_cancelled = True


class Worker(Thread):
    """Answers questions until it is stopped, up to `batch_size` of them at the same time."""

    def __init__(self, assistant: Assistant, limits: Limits) -> None:
        super().__init__(name="panovlm-worker", daemon=True)
        self._assistant, self._limits = assistant, limits
        self._waiting: queue.SimpleQueue[QueueSlot | None] = queue.SimpleQueue()
        self._batch = Batch(assistant.model)
        self._running: dict[Row, QueueSlot] = {}
        self._studies: deque[tuple[QueueSlot, Iterator[ViewsMattered | None]]] = deque()
        self._next_study_at = 0.0
        self._is_stopping = False
        self._busy_since = math.inf

    def submit(self, slot: QueueSlot) -> None:
        """Put a question into the queue. How many may wait is bounded where requests come in."""
        self._waiting.put(slot)

    def num_running(self) -> int:
        """Count the running answers and studies."""
        return len(self._running) + len(self._studies)

    def is_well(self) -> bool:
        """Whether the thread lives and, where it has work, goes on."""
        return self.is_alive() and time.monotonic() - self._busy_since < self._limits.max_s

    def stop(self) -> None:
        """Answer what is in the queue, then end."""
        self._waiting.put(None)
        self.join(self._limits.max_s)

    def run(self) -> None:
        """Answer questions in batches."""
        while self.num_running() or not self._is_stopping:
            self._busy_since = time.monotonic()
            self._join(self._gather())
            self._step()
            self._study()
        self._busy_since = math.inf

    def _gather(self) -> dict[Row, QueueSlot]:
        """Prepare waiting questions while there is room; wait for one where nothing is running.

        Running answers pause for `gather_s` at most and the reading of one question's panoramas.
        """
        rows: dict[Row, QueueSlot] = {}
        room = self._limits.batch_size - len(self._running)
        slot = self._next_slot(wait=not self.num_running()) if room else None
        ends_at = time.monotonic() + self._limits.gather_s
        while slot:
            if row := self._row(slot):
                rows[row] = slot
            if len(rows) == room or time.monotonic() > ends_at:
                break
            slot = self._next_slot(wait=False)
        return rows

    def _next_slot(self, *, wait: bool) -> QueueSlot | None:
        if wait:
            self._busy_since = math.inf
        try:
            slot = self._waiting.get(block=wait)
        except queue.Empty:
            return None
        self._busy_since = time.monotonic()
        self._is_stopping |= slot is None
        return slot

    def _row(self, slot: QueueSlot) -> Row | None:
        """Prepare a question for the batch; None if it is cancelled, has failed or is a study."""
        if slot.is_cancelled:
            return None
        try:
            if slot.scored:
                study = self._assistant.view_study(
                    slot.question, slot.prompt, slot.scored, _SLICE_SIZE
                )
                self._studies.append((slot, study))
                return None
            row = self._assistant.row(slot.question, slot.prompt)
        except Exception as error:
            slot.reply(_error_of(error))
            return None
        slot.start()
        return row

    def _join(self, rows: dict[Row, QueueSlot]) -> None:
        """Let rows join the others; where they cannot together, one after the other."""
        if not rows:
            return
        self._running |= rows
        together = list(rows)
        try:
            self._deliver(self._batch.join(together))
        except Exception as error:
            if len(rows) == 1 or any(row.answer.num_tokens for row in rows):
                self._fail(rows, error)
            else:
                for row, slot in rows.items():
                    self._join({row: slot})
        self._drop_ended()

    def _step(self) -> None:
        """Generate a token for each running answer; if that fails, all end."""
        try:
            self._deliver(self._batch.step())
        except Exception as error:
            self._fail(self._running, error)
        self._drop_ended()

    def _deliver(self, pieces: list[tuple[Row, str]]) -> None:
        for row, piece in pieces:
            slot = self._running[row]
            slot.times.setdefault("first", time.monotonic())
            if piece:
                slot.reply(piece)
            if row.answer.finish_reason:
                slot.reply(row.answer)
            if row.error:
                slot.reply(_error_of(row.error))

    def _fail(self, rows: Mapping[Row, QueueSlot], error: Exception) -> None:
        for slot in rows.values():
            slot.reply(_error_of(error))
            slot.cancel()

    def _drop_ended(self) -> None:
        for row, slot in self._running.items():
            row.is_cancelled = slot.is_cancelled
        self._running = {row: slot for row, slot in self._running.items() if row.is_running}

    def _study(self) -> None:
        """Compute a slice of a study, so that running answers keep most of the time."""
        if not self._studies or (self._running and time.monotonic() < self._next_study_at):
            return
        slot, study = self._studies.popleft()
        if slot.is_cancelled:
            return
        begun = time.monotonic()
        try:
            if found := next(study):
                slot.reply(found)
            else:
                self._studies.append((slot, study))
        except Exception as error:
            slot.reply(_error_of(error))
        took = time.monotonic() - begun
        self._next_study_at = begun + took / _STUDY_SHARE


def _error_of(error: Exception) -> RequestError:
    """Return what a client learns of an error; all of it is in the log."""
    if isinstance(error, PanoVLMError):
        return RequestError(400, str(error), "invalid_request")
    logger.error("an answer failed", exc_info=error)
    return INTERNAL
