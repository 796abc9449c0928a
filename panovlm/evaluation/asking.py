"""All the answers that a report rests on: to every question, and to some again on changed pictures.

Greedy answers do not depend on a seed. A seed samples the questions that are asked again (on
yaw-rotated and seam-shifted pictures, and without a view), and the resamples of the bootstrap.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from panovlm.data.records import Record
from panovlm.errors import PanoVLMError
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


@dataclass(frozen=True)
class EvaluationOptions:
    """How much is asked beyond every question once.

    Attributes:
        baselines: A key of `BASELINES`.
        num_yaw_rotated: Questions sampled by each seed to be asked again under every yaw rotation.
        num_ablated: Questions sampled by each seed to be asked again without each view.
        num_seam_shifted: Questions sampled by each seed to be asked again on seam-shifted pictures.
        seeds: Number of seeds, from 0 on.
        dtype: Arithmetic of the language model: auto, bf16 or fp32.
        declared: What the pictures are, of records that do not declare it.
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


@dataclass(frozen=True)
class Sample:
    """The places of the questions that one seed samples to be asked again.

    Attributes:
        yaw_rotated: On yaw-rotated pictures.
        ablated: Without a view.
        seam_shifted: On seam-shifted pictures.
    """

    yaw_rotated: Sequence[int]
    ablated: Sequence[int]
    seam_shifted: Sequence[int]


@dataclass(frozen=True)
class Answers(Generic[Answer]):
    """Answers to the questions of a data set, as texts or scored; questions are known by places.

    Attributes:
        seen: With the whole picture.
        baselines: By name, the same with less of it.
        yaw_rotated: Of some questions, the answers under every yaw rotation, unrotated first.
        changed: Of some questions, whether blanking each view changes the answer.
        seam_shifted: Of some questions, the answer about the seam-shifted picture.
        samples: The questions that were asked again, by seed.
    """

    seen: list[Answer]
    baselines: dict[str, list[Answer]]
    yaw_rotated: dict[int, list[Answer]]
    changed: dict[int, list[bool]]
    seam_shifted: dict[int, Answer]
    samples: list[Sample]


class Evaluator(Protocol):
    """Asks a model the questions of records, in all the ways that a report needs."""

    records: list[Record]

    @property
    def can_rotate(self) -> bool:
        """Whether questions can be asked about yaw-rotated pictures."""

    @property
    def num_views(self) -> int:
        """Views, without a global one."""

    @property
    def num_strides(self) -> int:
        """Yaw rotations that can be asked about, evenly around the circle."""

    def predict(self, label: str) -> list[str]:
        """Ask every question about its picture."""

    def predict_blind(self, label: str) -> list[str]:
        """Ask every question about a blank picture."""

    def predict_single_view(self, label: str) -> list[str]:
        """Ask every question about the front view alone."""

    def predict_low_resolution(self, label: str) -> list[str]:
        """Ask every question about a panorama of as many pixels as one view."""

    def predict_without_view(self, label: str, records: Sequence[Record], view: int) -> list[str]:
        """Ask questions with one view blank."""

    def predict_seam_shifted(self, label: str, records: Sequence[Record]) -> list[str]:
        """Ask questions whose target is cut by the left and right edge."""

    def predict_yaw_rotated(
        self, label: str, records: Sequence[Record], num_strides: int
    ) -> list[str]:
        """Ask questions after the camera turned right by whole strides."""


def ask_all(
    evaluator: Evaluator, options: EvaluationOptions, rotatable: Sequence[int] | None = None
) -> Answers[str]:
    """Ask everything.

    Args:
        evaluator: Asks.
        options: How much.
        rotatable: Places of the questions that may be asked about a yaw-rotated picture; None for
            those whose records hold their rotated answers.

    Raises:
        PanoVLMError: If pictures are to be rotated and the model cannot, or seam-shifted and no
            question has an answer that is known then.
    """
    samples = _samples(evaluator, options, rotatable)  # before the questions take their time
    seen = evaluator.predict("questions")
    ways = {
        "blind": evaluator.predict_blind,
        "single_view": evaluator.predict_single_view,
        "low_resolution": evaluator.predict_low_resolution,
    }
    baselines = {name: ways[name](f"questions, {name}") for name in BASELINES[options.baselines]}
    around, count = evaluator.num_strides, evaluator.num_views
    rotated = _ask_again(
        evaluator,
        (sample.yaw_rotated for sample in samples),
        lambda records: [
            evaluator.predict_yaw_rotated(f"questions, yaw-rotated {n}/{around - 1}", records, n)
            for n in range(1, around)
        ],
    )
    ablated = _ask_again(
        evaluator,
        (sample.ablated for sample in samples),
        lambda records: [
            evaluator.predict_without_view(f"questions, without view {n + 1}/{count}", records, n)
            for n in range(count)
        ],
    )
    shifted = _ask_again(
        evaluator,
        (sample.seam_shifted for sample in samples),
        lambda records: [evaluator.predict_seam_shifted("questions, seam-shifted", records)],
    )
    return Answers(
        seen=seen,
        baselines=baselines,
        yaw_rotated={place: [seen[place], *texts] for place, texts in rotated.items()},
        changed={place: changed_by_view(seen[place], texts) for place, texts in ablated.items()},
        seam_shifted={place: text for place, (text,) in shifted.items()},
        samples=samples,
    )


def _ask_again(
    evaluator: Evaluator,
    samples: Iterable[Sequence[int]],
    ask: Callable[[list[Record]], list[list[str]]],
) -> dict[int, list[str]]:
    """Return the answers to all questions sampled, in the several ways that they are asked."""
    places = sorted({place for sample in samples for place in sample})
    columns = ask([evaluator.records[place] for place in places]) if places else []
    return {place: texts for place, *texts in zip(places, *columns, strict=True)}


def _samples(
    evaluator: Evaluator, options: EvaluationOptions, rotatable: Sequence[int] | None
) -> list[Sample]:
    """Sample the questions to be asked again, after checking that they can be."""
    records, around = evaluator.records, evaluator.num_strides
    can_shift = seam_shiftable(records, rotatable)
    if rotatable is None:
        rotatable = [place for place, record in enumerate(records) if record.can_rotate(around)]
    with ranks.synchronized():
        if options.num_yaw_rotated and rotatable and not evaluator.can_rotate:
            raise PanoVLMError(
                "found a model whose views no yaw rotation maps to each other, as with a global "
                "view, so that pictures cannot be yaw-rotated without encoding them again; leave "
                "rotation consistency out (--yaw-rotated 0)"
            )
        if options.num_seam_shifted and not can_shift:
            raise PanoVLMError(
                f"found --seam-shifted {options.num_seam_shifted}, but no question with a "
                "direction (yaw_deg) and an answer known after any rotation, as where all "
                "rolled_responses are one; leave --seam-shifted out"
            )
    directed = [place for place, record in enumerate(records) if record.yaw_deg is not None]
    return [
        Sample(
            yaw_rotated=sampled(rotatable, options.num_yaw_rotated, seed),
            ablated=sampled(directed or range(len(records)), options.num_ablated, seed),
            seam_shifted=sampled(can_shift, options.num_seam_shifted, seed),
        )
        for seed in range(options.seeds)
    ]


def seam_shiftable(records: Sequence[Record], rotatable: Sequence[int] | None) -> list[int]:
    """Return the places of questions about a direction with an answer known after any rotation."""
    if rotatable is None:
        rotatable = [
            place
            for place, record in enumerate(records)
            if len(set(record.rolled_responses or ())) == 1
        ]
    return [place for place in rotatable if records[place].yaw_deg is not None]


def sampled(places: Sequence[int], count: int, seed: int) -> list[int]:
    """Return `count` of the places (all, if there are no more) by chance, in order."""
    chosen = np.random.default_rng(seed).permutation(len(places))[:count]
    return sorted(places[i] for i in chosen)
