"""Asks other people's models questions, many at a time, each once."""

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from panovlm.data.records import IMAGE_MARK, Message
from panovlm.errors import PanoVLMError
from panovlm.evaluation.asking import EvaluationOptions, Evaluator, Question
from panovlm.evaluation.benchmarks.items import Benchmark, Item
from panovlm.evaluation.shown import Shown, low_resolution
from panovlm.figures.showing import GREY, Part, Showing
from panovlm.inference.guests import Guest, weights_of
from panovlm.pictures.messages import text_part
from panovlm.pictures.panorama import load_panorama
from panovlm.runtime.endpoints import EndpointError, Reply
from panovlm.training import ranks

GUEST_TOKENS = 256
"""Longest answer to records, unless a correct one is longer."""
KEPT = 32
"""Panoramas whose pictures are kept for the questions to come."""
ALL_REFUSED = 16
"""Answers after which an endpoint that refused each of them is not asked further."""
_REFUSALS = (400, 413, 422)
"""An endpoint's answers to what it will not process, as what its filters hold back."""
_TOKENS = ("prompt_tokens", "completion_tokens")
"""What is counted of each answer."""


class GuestEvaluator(Evaluator):
    """Asks a model of others questions about pictures.

    Args:
        guest: The model.
        benchmark: What it is asked.
        items: The questions.
        options: How they are asked.

    Raises:
        PanoVLMError: If there are several processes, or an option does not apply.
    """

    group_size = 1

    def __init__(
        self,
        guest: Guest,
        benchmark: Benchmark,
        items: Sequence[Item],
        options: EvaluationOptions,
    ) -> None:
        if ranks.world_size() > 1:
            raise PanoVLMError(
                f"found {ranks.world_size()} processes for {guest.name}, which is asked from one; "
                "start the command without torchrun"
            )
        self.showing = Showing(options.show)
        if options.num_ablated and not self.showing.shows_views:
            raise PanoVLMError(
                f"found --ablated {options.num_ablated} with --show {options.show}, of which no "
                "view can be blanked; use --ablated 0"
            )
        self.guest, self.name, self.instruction = guest, guest.name, options.instruction
        self.layout = self.perspective = self.showing.ring
        references = (reference for item in items for reference in item.references)
        longest = max([GUEST_TOKENS, *map(len, references)])  # a token for each letter
        self.max_tokens = options.max_tokens or benchmark.max_new_tokens or longest
        self.identity = {
            "model": {"name": guest.name, "files": weights_of(guest)},
            "showing": asdict(self.showing),
            "max_new_tokens": self.max_tokens,
        }
        self._counts = Counter(dict.fromkeys(("answers", *_TOKENS, "refused"), 0))
        self._prepared = _Kept(KEPT)

    @property
    def usage(self) -> dict[str, Any]:
        """Under `usage`, how many answers there are, the tokens they took, and dollars if known."""
        tokens, price = (self._counts[key] for key in _TOKENS), self.guest.price
        return {"usage": {**self._counts, **({"dollars": price.total(*tokens)} if price else {})}}

    def count(self, facts: Mapping[str, int]) -> None:
        """Count an answer and its tokens."""
        self._counts.update(facts, answers=1)

    def answer_groups(
        self, groups: Mapping[int, Sequence[Question]], advance: Callable[[int], None]
    ) -> Iterator[tuple[int, list[str], dict[str, int] | None]]:
        """Ask questions side by side; each answer is handed on, to be kept, as it comes."""
        pool = ThreadPoolExecutor(self.guest.at_once)
        waiting = {pool.submit(self._answer, *group[0]): n for n, group in groups.items()}
        try:
            for future in as_completed([*waiting]):
                yield waiting.pop(future), *self._taken(future)
                advance(1)
        except (PanoVLMError, KeyboardInterrupt):
            pool.shutdown(cancel_futures=True)
            for future, number in waiting.items():  # what was under way when another failed
                if not future.cancelled() and not future.exception():
                    yield number, *self._taken(future)
            raise
        finally:
            pool.shutdown(cancel_futures=True)

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
            columns = round(shown.number / self.layout.num_strides * pixels.shape[1])
            pixels = np.roll(pixels, -columns, axis=1)
        elif shown.is_moved:
            pixels = shown.moved(pixels)
        return self.showing.parts(pixels)

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

    def _taken(self, done: Future[Reply]) -> tuple[list[str], dict[str, int] | None]:
        """Return an answer and its tokens; a refusal is an empty one, asked again next time."""
        try:
            reply = done.result()
        except EndpointError as error:
            if error.status not in _REFUSALS:
                raise PanoVLMError(
                    f"found no answer of {self.name}, because {error}; answers so far are kept: "
                    "start the same command again to go on"
                ) from error
            self._refused(error)
            return [""], None
        answer = reply.text.rpartition("</think>")[2]  # what a reasoning model said to itself
        return [answer.strip()], {key: getattr(reply, key) for key in _TOKENS}

    def _refused(self, error: EndpointError) -> None:
        self._counts["refused"] += 1
        if not self._counts["answers"] and self._counts["refused"] >= ALL_REFUSED:
            raise PanoVLMError(
                f"found the first {ALL_REFUSED} questions refused by {self.name}, as {error}; "
                "change --show or --max-tokens, or name another model"
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
