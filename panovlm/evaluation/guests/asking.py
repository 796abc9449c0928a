"""Asks other people's models the questions of records, many at a time, each once."""

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from panovlm.data.records import IMAGE_MARK, Message, Record
from panovlm.errors import PanoVLMError
from panovlm.evaluation.guests.models import Guest
from panovlm.evaluation.guests.showing import GREY, Part, Showing
from panovlm.evaluation.journal import Journal
from panovlm.evaluation.low_resolution import low_resolution
from panovlm.evaluation.seam_shifted import roll_to_seam
from panovlm.geometry.sphere import Pixels
from panovlm.pictures.declaring import PictureFile
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


@dataclass(frozen=True)
class _Shown:
    """What is shown for a question: `key` tells it from all else that is shown."""

    key: Hashable
    parts: Callable[[], list[Part]] = field(compare=False)


class GuestEvaluator:
    """Asks a model of others the questions of records.

    Args:
        guest: The model.
        showing: How panoramas are shown to it.
        records: Questions.
        max_tokens: Longest answer.
        journal: Where answers are kept as they are given.
        instruction: Added to each question, as how to answer.
    """

    can_rotate = True

    def __init__(
        self,
        guest: Guest,
        showing: Showing,
        records: Sequence[Record],
        *,
        max_tokens: int,
        journal: Journal,
        instruction: str = "",
    ) -> None:
        self.guest = guest
        self.showing = showing
        self.records = list(records)
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

    def predict(self, label: str) -> list[str]:
        """Ask every question about its picture."""
        return self._ask(label, self.records, lambda record: self._changed(record, "as it is"))

    def predict_blind(self, label: str) -> list[str]:
        """Ask every question about a grey picture."""
        width = self.showing.needed_width // 2 * 2
        grey = np.full((width // 2, width, 3), GREY, np.uint8)
        shown = _Shown("blind", lambda: self.showing.parts(grey))
        return self._ask(label, self.records, lambda _: shown)

    def predict_single_view(self, label: str) -> list[str]:
        """Ask every question about the front view alone."""
        front = replace(self.showing, way="view")
        return self._ask(
            label, self.records, lambda record: self._changed(record, "view", show=front.parts)
        )

    def predict_low_resolution(self, label: str) -> list[str]:
        """Ask every question about a panorama of as many pixels as one view."""

        def load(picture: PictureFile) -> Pixels:
            return np.asarray(low_resolution(picture, self.showing.view_size))

        return self._ask(
            label, self.records, lambda record: self._changed(record, "low resolution", load=load)
        )

    def predict_without_view(self, label: str, records: Sequence[Record], view: int) -> list[str]:
        """Ask questions about pictures of which one view is blank."""
        show = partial(self.showing.parts, without=view)
        return self._ask(
            label, records, lambda record: self._changed(record, f"without {view}", show=show)
        )

    def predict_seam_shifted(self, label: str, records: Sequence[Record]) -> list[str]:
        """Ask questions about pictures whose left and right edge cuts what they are about."""

        def shown(record: Record) -> _Shown:
            yaw_deg = record.yaw_deg or 0.0
            return self._changed(
                record, f"{yaw_deg} at the seam", lambda pixels: roll_to_seam(pixels, yaw_deg)
            )

        return self._ask(label, records, shown)

    def predict_yaw_rotated(
        self, label: str, records: Sequence[Record], num_strides: int
    ) -> list[str]:
        """Ask questions about pictures whose camera turned right by whole strides."""

        def rotate(pixels: Pixels) -> Pixels:
            columns = round(num_strides / self.num_strides * pixels.shape[1])
            return np.roll(pixels, -columns, axis=1)

        return self._ask(
            label, records, lambda record: self._changed(record, f"rotated {num_strides}", rotate)
        )

    def _changed(
        self,
        record: Record,
        way: str,
        change: Callable[[Pixels], Pixels] = lambda pixels: pixels,
        *,
        load: Callable[[PictureFile], Pixels] | None = None,
        show: Callable[[Pixels], list[Part]] | None = None,
    ) -> _Shown:
        """Show the picture of a record changed in a way."""
        picture = record.picture
        load = load or partial(load_panorama, min_width=self.showing.needed_width)
        show = show or self.showing.parts
        return _Shown((picture, way), lambda: show(change(load(picture))))

    def _ask(
        self, label: str, records: Sequence[Record], shown: Callable[[Record], _Shown]
    ) -> list[str]:
        """Ask questions, equal ones about equal pictures once; what was kept is not asked again."""
        keys = [(shown(record), record.prompt) for record in records]
        distinct = [*dict.fromkeys(keys)]
        answers = {
            number: kept[0]
            for number in range(len(distinct))
            if (kept := self.journal.find(label, number)) is not None
        }
        for number in answers:
            self._count(self.journal.facts_of(label, number))
        with progress_bar(label, len(distinct)) as advance:
            advance(len(answers))
            todo = {n: asked for n, asked in enumerate(distinct) if n not in answers}
            answers |= self._answer_all(label, todo, advance)
        by_key = {key: answers[number] for number, key in enumerate(distinct)}
        return [by_key[key] for key in keys]

    def _answer_all(
        self,
        label: str,
        todo: dict[int, tuple[_Shown, tuple[Message, ...]]],
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

    def _answer(self, shown: _Shown, prompt: tuple[Message, ...]) -> Reply:
        pictures = self._prepared.get(shown.key, lambda: self._prepare(shown.parts()))
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
