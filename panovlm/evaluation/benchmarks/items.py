"""What every benchmark has: items to ask, and a score for each answer."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from panovlm.evaluation.units import SHARE, Unit
from panovlm.metrics.intervals import mean_interval
from panovlm.metrics.scores import Score, counted, summarise


@dataclass(frozen=True)
class Item:
    """One question about one panorama.

    Attributes:
        name: Tells it from the others, as the benchmark does where it does.
        image: The picture's file.
        question: The whole text put to the model.
        references: Correct answers; none if the benchmark has none.
        kind: Groups scores.
        yaw_deg: Direction it is about, where known, positive to the right.
        pitch_deg: The same, positive up, from -90 to 90.
        facts: What else the benchmark's own scorer looks at, by name, as JSON can hold it.

    Raises:
        ValueError: If a direction is none, or a text cannot be written.
    """

    name: str
    image: Path
    question: str
    references: tuple[str, ...]
    kind: str
    yaw_deg: float | None = None
    pitch_deg: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        "".join([self.name, str(self.image), self.question, self.kind, *self.references]).encode()
        if not math.isfinite(self.yaw_deg or 0.0) or not abs(self.pitch_deg or 0.0) <= 90.0:
            raise ValueError(f"yaw {self.yaw_deg} and pitch {self.pitch_deg}, expected a direction")


Read = Callable[[Path, Path], list[Item]]
"""Takes the benchmark's file, and the folder in which its pictures lie.

Raises PanoVLMError where the file is not as published.
"""
ScoreAll = Callable[[Sequence[Item], Sequence[str]], list[Score]]
"""Takes items and their answers; a score may depend on all of them, as CIDEr does."""
Figures = dict[str, Any]
"""Figures by name, as JSON can hold them."""
Extras = Callable[[Sequence[Item], Sequence[str], Sequence[Score]], Figures]
"""Takes items, answers and scores; returns figures that are no mean of these scores."""
Rotate = Callable[[Item, float], Item | None]
"""Takes an item, and by how many degrees the camera turns right; returns what is correct then.

None if that is not known.
"""
Point = Callable[[str], tuple[float, float | None] | None]
"""Takes an answer; returns yaw and pitch in degrees, or None if it names no direction."""


@dataclass(frozen=True)
class Rubric:
    """What a judge is asked about each answer.

    Attributes:
        instruction: The system's message.
        lowest: The worst grade, which becomes 0.
        highest: The best grade, which becomes 1.
    """

    instruction: str
    lowest: int
    highest: int


SAME_MEANING = Rubric(
    "You grade answers to questions about a panorama against the right answer. Grade 5: the "
    "same in meaning. 4: what matters is right, with small flaws. 3: partly right. 2: mostly "
    "wrong, but about the same thing. 1: wrong or senseless.",
    lowest=1,
    highest=5,
)
"""What a judge is asked, in our words, where the published score is one."""


@dataclass(frozen=True)
class Benchmark:
    """How a published benchmark is read and scored.

    Attributes:
        read: Reads it.
        score: Scores answers.
        metric: What one score is, in words.
        source: Where format and rule are from.
        differs: Where this differs from the published procedure; empty if nowhere known.
        max_new_tokens: Room for an answer.
        extras: Further figures.
        rubric: Set where the published score is a judge's.
        rotate: Set where it is known what is correct on a yaw-rotated picture, of some items.
        less_is_better: Whether a score is an error.
        unit: In which scores are written.
        point: Reads where an answer points, in yaw and, where one is named, pitch; set where
            answers are directions.
    """

    read: Read
    score: ScoreAll
    metric: str
    source: str
    differs: str = ""
    max_new_tokens: int = 64
    extras: Extras = lambda items, answers, scores: {}
    rubric: Rubric | None = None
    rotate: Rotate | None = None
    less_is_better: bool = False
    unit: Unit = SHARE
    point: Point | None = None

    @property
    def worst(self) -> float:
        """The score of an answer that cannot be read."""
        return self.unit.ends[-1] if self.less_is_better else 0.0

    def is_rotatable(self, item: Item) -> bool:
        """Return whether it is known what is correct on yaw-rotated pictures."""
        return self.rotate is not None and self.rotate(item, 45.0) is not None


def unchanged(item: Item, yaw_shift_deg: float) -> Item:
    """Return an item as it is: what it asks for does not depend on where the camera looks."""
    return item


def each(score_one: Callable[[Item, str], Score]) -> ScoreAll:
    """Score every answer by itself."""
    return lambda items, answers: [
        score_one(item, answer) for item, answer in zip(items, answers, strict=True)
    ]


def interval_over_panoramas(
    items: Sequence[Item], scores: Sequence[Score], worst: float, seed: int = 0
) -> dict[str, Any] | None:
    """Compute the mean of scores with its interval over whole panoramas; None without a score."""
    pairs = zip(items, counted(scores, worst), strict=True)
    values = [(str(item.image), score.value) for item, score in pairs if score.value is not None]
    interval = mean_interval([value for _, value in values], [image for image, _ in values], seed)
    return asdict(interval) if interval else None


def summary_over_panoramas(
    items: Sequence[Item], scores: Sequence[Score], worst: float = 0.0
) -> dict[str, Any]:
    """Return the summary of scores, as plain data, with its `interval` over whole panoramas."""
    facts = asdict(summarise(scores, worst=worst))
    return facts | {"interval": interval_over_panoramas(items, scores, worst)}
