"""Asks other people's models questions, many at a time, each once."""

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import Any

import numpy as np

from panovlm.data.records import IMAGE_MARK, Message
from panovlm.errors import PanoVLMError
from panovlm.evaluation.asking import Question
from panovlm.evaluation.guests.models import Guest
from panovlm.evaluation.guests.showing import GREY, Part, Showing
from panovlm.evaluation.journal import Journal
from panovlm.evaluation.shown import Shown, low_resolution
from panovlm.pictures.messages import text_part
from panovlm.pictures.panorama import load_panorama
from panovlm.runtime.endpoints import EndpointError, Reply
from panovlm.runtime.progress import progress_bar

KEPT = 32
"""Panoramas whose pictures are kept for the questions to come."""
ALL_REFUSED = 16
"""Answers after which an endpoint that refused each of them is not asked further."""
_REFUSALS = (400, 413, 422)
"""An endpoint's answers to what it will not process, as what its filters hold back."""


class GuestEvaluator:
    """Asks a model of others questions about pictures.

    Args:
        guest: The model.
        showing: How panoramas are shown to it.
        max_tokens: Longest answer.
        journal: Where answers are kept as they are given.
        instruction: Added to each question, as how to answer.
    """

    can_rotate = True

    def __init__(
        self,
        guest: Guest,
        showing: Showing,
        *,
        max_tokens: int,
        journal: Journal,
        instruction: str = "",
    ) -> None:
        self.guest = guest
        self.showing = showing
        self.max_tokens = max_tokens
        self.journal = journal
        self.instruction = instruction
        self.usage = dict.fromkeys(("answers", "prompt_tokens", "completion_tokens", "refused"), 0)
        self._prepared = _Kept(KEPT)

    @property
    def num_views(self) -> int:
        """Views around the horizon."""
        return self.showing.num_views

    @property
    def num_strides(self) -> int:
        """Steps of a whole rotation: one for each view."""
        return self.showing.num_views

    def answer(self, label: str, questions: Sequence[Question]) -> list[str]:
        """Answer questions; what was kept is not asked again."""
        answers = {
            number: kept[0]
            for number in range(len(questions))
            if (kept := self.journal.find(label, number)) is not None
        }
        for number in answers:
            self._count(self.journal.facts_of(label, number))
        with progress_bar(label, len(questions)) as advance:
            advance(len(answers))
            todo = {n: asked for n, asked in enumerate(questions) if n not in answers}
            answers |= self._answer_all(label, todo, advance)
        return [answers[number] for number in range(len(questions))]

    def parts_of(self, shown: Shown) -> list[Part]:
        """Return what is shown of a picture: texts and pictures."""
        if shown.picture is None:
            width = self.showing.needed_width // 2 * 2
            return self.showing.parts(np.full((width // 2, width, 3), GREY, np.uint8))
        if shown.way == "low_resolution":
            small = low_resolution(shown.picture, self.showing.view_size)
            return self.showing.parts(np.asarray(small))
        pixels = load_panorama(shown.picture, min_width=self.showing.needed_width)
        if shown.way == "single_view":
            return replace(self.showing, way="view").parts(pixels)
        if shown.way == "without_view":
            return self.showing.parts(pixels, without=shown.number)
        if shown.way == "yaw_rotated":
            columns = round(shown.number / self.num_strides * pixels.shape[1])
            pixels = np.roll(pixels, -columns, axis=1)
        elif shown.way != "original":
            pixels = shown.moved(pixels)
        return self.showing.parts(pixels)

    def _answer_all(
        self,
        label: str,
        todo: dict[int, Question],
        advance: Callable[[int], None],
    ) -> dict[int, str]:
        """Answer questions by their numbers, keeping each answer as it comes."""
        answers: dict[int, str] = {}
        pool = ThreadPoolExecutor(self.guest.at_once)
        waiting = {pool.submit(self._answer, *asked): number for number, asked in todo.items()}
        try:
            for done in as_completed(waiting):
                answers[waiting[done]] = self._keep(label, waiting[done], done)
                advance(1)
        finally:
            pool.shutdown(cancel_futures=True)
            for future, number in waiting.items():  # what was under way when another failed
                is_answered = future.done() and not future.cancelled() and not future.exception()
                if number not in answers and is_answered:
                    self._keep(label, number, future)
        return answers

    def _answer(self, shown: Shown, prompt: tuple[Message, ...]) -> Reply:
        pictures = self._prepared.get(shown, lambda: self._prepare(self.parts_of(shown)))
        return self.guest.answer(self._conversation(prompt, pictures), self.max_tokens)

    def _prepare(self, parts: Sequence[Part]) -> list[dict[str, Any]]:
        return [
            text_part(part) if isinstance(part, str) else self.guest.picture(part) for part in parts
        ]

    def _conversation(
        self, prompt: Sequence[Message], pictures: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return the messages, the pictures in the place of their mark."""
        messages = []
        for place, message in enumerate(prompt):
            before, mark, after = message.content.partition(IMAGE_MARK)
            if place == len(prompt) - 1:
                after = f"{after}\n{self.instruction}"
            content = [*_text(before), *(pictures if mark else ()), *_text(after)]
            messages.append({"role": message.role, "content": content})
        return messages

    def _keep(self, label: str, number: int, done: Future[Reply]) -> str:
        """Keep an answer and count its tokens; a refusal is an empty one, asked again next time."""
        try:
            reply = done.result()
        except EndpointError as error:
            if error.status not in _REFUSALS:
                raise PanoVLMError(
                    f"found no answer of {self.guest.name}, because {error}; answers so far are "
                    "kept: start the same command again to go on"
                ) from error
            self._refused(error)
            return ""
        facts = {key: getattr(reply, key) for key in ("prompt_tokens", "completion_tokens")}
        self.journal.keep(label, number, [reply.text.strip()], **facts)
        self._count(facts)
        return reply.text.strip()

    def _count(self, facts: dict[str, int]) -> None:
        self.usage["answers"] += 1
        for key, count in facts.items():
            self.usage[key] += count

    def _refused(self, error: EndpointError) -> None:
        self.usage["refused"] += 1
        if not self.usage["answers"] and self.usage["refused"] >= ALL_REFUSED:
            raise PanoVLMError(
                f"found the first {ALL_REFUSED} questions refused by {self.guest.name}, as "
                f"{error}; change --show or --max-tokens, or name another model"
            ) from error


def _text(text: str) -> list[dict[str, Any]]:
    return [text_part(text.strip())] if text.strip() else []


class _Kept:
    """Values by key, each made once however many threads ask for it; the oldest go.

    Args:
        most: Values kept.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._made: dict[Hashable, Future[list[dict[str, Any]]]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Return a value, making it if there is none."""
        with self._lock:
            known = self._made.get(key)
            future = self._made.setdefault(key, Future())
            if known is None and len(self._made) > self.most:
                del self._made[next(iter(self._made))]
        if known is None:
            try:
                future.set_result(make())
            except Exception as error:
                future.set_exception(error)
        return future.result()
