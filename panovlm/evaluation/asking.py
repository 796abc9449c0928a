"""All the answers that a report rests on: to every question, and to some again on changed pictures.

Greedy answers do not depend on a seed. A seed samples the questions that are asked again (on
yaw-rotated pictures, without a view, and by the probes), and the resamples of the bootstrap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np

from panovlm.data.records import Message
from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.items import Benchmark, Item
from panovlm.evaluation.shown import PROBES, Shown
from panovlm.evaluation.view_ablation import changed_by_view
from panovlm.pictures.declaring import Declaration
from panovlm.runtime.arithmetic import Dtype
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
    def num_probed(self) -> dict[str, int]:
        """Questions sampled for each probe."""
        return {"seam_shifted": self.num_seam_shifted, "pole_shifted": self.num_pole_shifted}


@dataclass(frozen=True)
class Sample:
    """The places of the questions that one seed samples to be asked again.

    Attributes:
        yaw_rotated: On yaw-rotated pictures.
        ablated: Without a view.
        probed: By each probe.
    """

    yaw_rotated: Sequence[int] = ()
    ablated: Sequence[int] = ()
    probed: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Answers(Generic[Answer]):
    """Answers to the questions of a data set, as texts or scored; questions are known by places.

    Attributes:
        seen: With the whole picture.
        baselines: By name, the same with less of it.
        yaw_rotated: Of some questions, the answers under every yaw rotation, unrotated first.
        changed: Of some questions, whether blanking each view changes the answer.
        probed: For each probe that was asked for, the answers to some questions.
        samples: The questions that were asked again, by seed.
    """

    seen: list[Answer]
    baselines: dict[str, list[Answer]]
    yaw_rotated: dict[int, list[Answer]]
    changed: dict[int, list[bool]]
    probed: dict[str, dict[int, Answer]]
    samples: list[Sample]


class Evaluator(Protocol):
    """Asks a model questions, in all the ways that a report needs."""

    @property
    def can_rotate(self) -> bool:
        """Whether questions can be asked about yaw-rotated pictures."""

    @property
    def num_views(self) -> int:
        """Views, without a global one."""

    @property
    def num_strides(self) -> int:
        """Yaw rotations that can be asked about, evenly around the circle."""

    def answer(self, label: str, questions: Sequence[Question]) -> list[str]:
        """Answer questions, all of which are shown in one way and differ.

        Args:
            label: Of the progress bar, and of these answers in the journal.
            questions: At least one.
        """


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
    seen = ask(evaluator, "questions", items, "original")
    baselines = {
        name: ask(evaluator, f"questions, {name}", items, name)
        for name in BASELINES[options.baselines]
    }
    around, count = evaluator.num_strides, evaluator.num_views

    def again(samples: Sequence[Sequence[int]], way: str, labels: Mapping[int, str]) -> Columns:
        places = sorted({place for sample in samples for place in sample})
        chosen = [items[place] for place in places]
        columns = [ask(evaluator, label, chosen, way, n) for n, label in labels.items() if places]
        return {place: texts for place, *texts in zip(places, *columns, strict=True)}

    rotated = again(
        [sample.yaw_rotated for sample in samples],
        "yaw_rotated",
        {n: f"questions, yaw-rotated {n}/{around - 1}" for n in range(1, around)},
    )
    ablated = again(
        [sample.ablated for sample in samples],
        "without_view",
        {n: f"questions, without view {n + 1}/{count}" for n in range(count)},
    )
    probed = {
        name: again(
            [sample.probed[name] for sample in samples],
            name,
            {0: f"questions, {name.replace('_', '-')}"},
        )
        for name, number in options.num_probed.items()
        if number
    }
    return Answers(
        seen=seen,
        baselines=baselines,
        yaw_rotated={place: [seen[place], *texts] for place, texts in rotated.items()},
        changed={place: changed_by_view(seen[place], texts) for place, texts in ablated.items()},
        probed={
            name: {place: text for place, (text,) in columns.items()}
            for name, columns in probed.items()
        },
        samples=samples,
    )


Columns = dict[int, list[str]]
"""By the places of questions, the answers to each in the several ways that it was asked."""


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
    places, around = range(len(items)), evaluator.num_strides
    rotatable = [place for place in places if benchmark.can_rotate(items[place], around)]
    known = {
        name: [p for p in places if number and PROBES[name].expect(benchmark, items[p]) is not None]
        for name, number in options.num_probed.items()
    }
    with ranks.synchronized():
        if options.num_yaw_rotated and rotatable and not evaluator.can_rotate:
            raise PanoVLMError(
                "found a model whose views no yaw rotation maps to each other, as with a global "
                "view, so that pictures cannot be yaw-rotated without encoding them again; leave "
                "rotation consistency out (--yaw-rotated 0)"
            )
        for name, number in options.num_probed.items():
            if number and not known[name]:
                probe = PROBES[name]
                raise PanoVLMError(
                    f"found {probe.option} {number}, but no question with {probe.needs}; leave "
                    f"{probe.option} out"
                )
    directed = [place for place in places if items[place].yaw_deg is not None]
    return [
        Sample(
            yaw_rotated=sampled(rotatable, options.num_yaw_rotated, seed),
            ablated=sampled(directed or places, options.num_ablated, seed),
            probed={
                name: sampled(known[name], number, seed)
                for name, number in options.num_probed.items()
            },
        )
        for seed in range(options.seeds)
    ]


def sampled(places: Sequence[int], count: int, seed: int) -> list[int]:
    """Return `count` of the places (all, if there are no more) by chance, in order."""
    chosen = np.random.default_rng(seed).permutation(len(places))[:count]
    return sorted(places[i] for i in chosen)
