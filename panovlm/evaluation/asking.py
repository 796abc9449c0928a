"""All the answers that a report rests on: to every question, and to some again on changed pictures.

Greedy answers do not depend on a seed. A seed samples the questions that are asked again (on
yaw-rotated pictures, without a view, and by the probes), and the resamples of the bootstrap.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from panovlm.data.records import Message
from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.items import Benchmark, Item
from panovlm.evaluation.journal import Journal
from panovlm.evaluation.shown import AGAIN, PROBES, Shown, can_be_asked
from panovlm.geometry.layouts import ViewLayout
from panovlm.pictures.declaring import Declaration
from panovlm.runtime.arithmetic import Dtype
from panovlm.runtime.progress import progress_bar
from panovlm.training import ranks

BASELINES: dict[str, tuple[str, ...]] = {
    "none": (),
    "blind": ("blind",),
    "all": ("blind", "single_view", "low_resolution"),
}
"""What `--baselines` may say, and the baselines it asks."""

Answer = TypeVar("Answer")
Question = tuple[Shown, tuple[Message, ...]]
"""A picture as it is shown, and the conversation about it."""
Sample = Mapping[str, Sequence[int]]
"""The places of the questions that one seed samples to be asked again, by `AGAIN`."""


@dataclass(frozen=True)
class EvaluationOptions:
    """How much is asked beyond every question once.

    Attributes:
        baselines: A key of `BASELINES`.
        num_yaw_rotated: Questions sampled by each seed to be asked again under every yaw rotation.
        num_ablated: Questions sampled by each seed to be asked again without each view.
        num_seam_shifted: Questions sampled by each seed to be asked again with their target at the
            seam.
        num_pole_shifted: Likewise near a pole.
        seeds: Number of seeds, from 0 on.
        dtype: Arithmetic of the language model: auto, bf16 or fp32.
        declared: What the pictures are, of items that do not declare it.
        show: How pictures are shown to models of others.
        instruction: Added to each question to these.
        max_tokens: Longest answer; None for what the benchmark says, or for records just behind
            the longest correct one.

    Raises:
        PanoVLMError: If the baselines are unknown.
    """

    baselines: str = "blind"
    num_yaw_rotated: int = 0
    num_ablated: int = 0
    num_seam_shifted: int = 0
    num_pole_shifted: int = 0
    seeds: int = 1
    dtype: Dtype = "auto"
    declared: Declaration | None = None
    show: str = "views"
    instruction: str = ""
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.baselines not in BASELINES:
            raise PanoVLMError(
                f"found --baselines {self.baselines}, expected {', '.join(BASELINES)}"
            )

    @property
    def num_again(self) -> dict[str, int]:
        """Questions that each seed samples, by `AGAIN`."""
        counts = (
            self.num_yaw_rotated,
            self.num_ablated,
            self.num_seam_shifted,
            self.num_pole_shifted,
        )
        return dict(zip(AGAIN, counts, strict=True))


@dataclass(frozen=True)
class Answers(Generic[Answer]):
    """Answers to the questions of a data set, as texts or scored; questions are known by places.

    Attributes:
        seen: With the whole picture.
        baselines: By name, the same with less of it.
        again: By `AGAIN`, the answers to some questions in each step: yaw rotations from the first
            stride on, each view blank in turn, the one of a probe.
        samples: The questions that were asked again, by seed.
    """

    seen: list[Answer]
    baselines: dict[str, list[Answer]]
    again: dict[str, dict[int, list[Answer]]]
    samples: list[Sample]

    def rotated(self, place: int) -> list[Answer]:
        """Return the answers under every yaw rotation, unrotated first; none if not asked."""
        rotated = self.again.get("yaw_rotated", {}).get(place)
        return [self.seen[place], *rotated] if rotated else []


class Evaluator(ABC):
    """Asks a model questions, in all the ways that a report needs.

    Attributes:
        name: Of the model, or its folder.
        layout: The views that it sees.
        perspective: Those but a global one.
        group_size: Questions that are answered, and kept, together.
        identity: What its answers rest on, as plain data.
        journal: Where answers are kept as they are given; nowhere at first.
    """

    name: str
    layout: ViewLayout
    perspective: ViewLayout
    group_size: int
    identity: Mapping[str, Any]
    journal: Journal = Journal()

    @property
    def usage(self) -> dict[str, Any]:
        """What a report has beside the scores: nothing, or `usage`."""
        return {}

    def count(self, facts: Mapping[str, int]) -> None:  # noqa: B027
        """Count what is known of the answers to a group of questions."""

    @abstractmethod
    def answer_groups(
        self, groups: Mapping[int, Sequence[Question]], advance: Callable[[int], None]
    ) -> Iterator[tuple[int, list[str], dict[str, int] | None]]:
        """Answer groups of questions in any order.

        Args:
            groups: Of `group_size` questions, by their numbers.
            advance: Called with the number of answers whenever there are some.

        Yields:
            The number of each group, its answers, and what else to keep of them; None if they are
            to be asked again next time.
        """

    def answer(self, label: str, questions: Sequence[Question]) -> list[str]:
        """Answer questions, all of which are shown in one way; what was kept is not asked again.

        Args:
            label: Of the progress bar, and of these answers in the journal.
            questions: At least one; they differ.
        """
        starts = range(0, len(questions), self.group_size)
        groups = {n: questions[at : at + self.group_size] for n, at in enumerate(starts)}
        known = {n: kept for n in groups if (kept := self.journal.find(label, n)) is not None}
        answers = {number: texts for number, (texts, _) in known.items()}
        todo = {number: group for number, group in groups.items() if number not in known}
        for _, beside in known.values():
            self.count(beside)
        with progress_bar(label, len(questions)) as advance:
            advance(sum(map(len, answers.values())))
            for number, texts, facts in self.answer_groups(todo, advance):
                answers[number] = texts
                if facts is not None:
                    self.count(facts)
                    self.journal.keep(label, number, texts, **facts)
        return [text for number in groups for text in answers[number]]


def ask_all(
    evaluator: Evaluator, benchmark: Benchmark, items: Sequence[Item], options: EvaluationOptions
) -> Answers[str]:
    """Ask everything.

    Args:
        evaluator: Asks.
        benchmark: Knows what is correct on rotated pictures.
        items: All questions.
        options: How much.

    Raises:
        PanoVLMError: If pictures are to be rotated and the model cannot, or a probe is asked for
            and no question has an answer that is known then.
    """
    samples = _samples(evaluator, benchmark, items, options)  # before the questions take their time
    return Answers(
        seen=ask(evaluator, "questions", items, "original"),
        baselines={
            name: ask(evaluator, f"questions, {name}", items, name)
            for name in BASELINES[options.baselines]
        },
        again={
            way: _ask_again(evaluator, items, way, places)
            for way in AGAIN
            if (places := sorted({place for sample in samples for place in sample[way]}))
        },
        samples=samples,
    )


def _ask_again(
    evaluator: Evaluator, items: Sequence[Item], way: str, places: Sequence[int]
) -> dict[int, list[str]]:
    steps = {
        "yaw_rotated": range(1, evaluator.layout.num_strides),
        "without_view": range(evaluator.perspective.num_views),
    }.get(way, range(1))
    chosen = [items[place] for place in places]
    columns = []
    for step, number in enumerate(steps, start=1):
        count = f" {step}/{len(steps)}" if len(steps) > 1 else ""
        label = f"questions, {way.replace('_', '-')}{count}"
        columns.append(ask(evaluator, label, chosen, way, number))
    return {place: texts for place, *texts in zip(places, *columns, strict=True)}


def ask(
    evaluator: Evaluator, label: str, items: Sequence[Item], way: str, number: int = 0
) -> list[str]:
    """Ask questions in one way, equal ones about equal pictures once."""
    questions = [(_shown(item, way, number), item.prompt) for item in items]
    distinct = [*dict.fromkeys(questions)]
    answers = dict(zip(distinct, evaluator.answer(label, distinct), strict=True))
    return [answers[question] for question in questions]


def _shown(item: Item, way: str, number: int) -> Shown:
    if way == "blind":
        return Shown(way, None)
    if way in PROBES:
        return Shown(way, item.picture, 0, item.yaw_deg or 0.0, item.pitch_deg or 0.0)
    return Shown(way, item.picture, number)


def _samples(
    evaluator: Evaluator, benchmark: Benchmark, items: Sequence[Item], options: EvaluationOptions
) -> list[Sample]:
    """Sample the questions to be asked again, after checking that they can be."""
    strides, known = evaluator.layout.num_strides, dict[str, list[int]]()
    for way, number in options.num_again.items():
        asked = enumerate(items) if number else ()
        known[way] = [p for p, item in asked if can_be_asked(benchmark, item, way, strides)]
    directed = [place for place in known["without_view"] if items[place].yaw_deg is not None]
    known["without_view"] = directed or known["without_view"]
    with ranks.synchronized():
        if known["yaw_rotated"] and strides == 1:
            raise PanoVLMError(
                "found a model whose views no yaw rotation maps to each other, as with a global "
                "view, so that pictures cannot be yaw-rotated without encoding them again; leave "
                "rotation consistency out (--yaw-rotated 0)"
            )
        for name, probe in PROBES.items():
            if (number := options.num_again[name]) and not known[name]:
                raise PanoVLMError(
                    f"found {probe.option} {number}, but no question with {probe.needs}; leave "
                    f"{probe.option} out"
                )
    return [
        {way: sampled(known[way], number, seed) for way, number in options.num_again.items()}
        for seed in range(options.seeds)
    ]


def sampled(places: Sequence[int], count: int, seed: int) -> list[int]:
    """Return `count` of the places (all, if there are no more) by chance, in order."""
    chosen = np.random.default_rng(seed).permutation(len(places))[:count]
    return sorted(places[i] for i in chosen)
