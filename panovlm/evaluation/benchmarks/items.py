"""What every benchmark has: items to ask, and a score for each answer."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from panovlm.data.records import Message, marked
from panovlm.metrics.intervals import mean_interval
from panovlm.metrics.scores import Score, counted, summarise, summarise_by
from panovlm.metrics.units import SHARE, Unit
from panovlm.pictures.declaring import Declaration, PictureFile, declare


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
        conversation: What stands before the answer, where that is more than the question alone.
        declared: What the picture is, where it does not say so itself.

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
    conversation: tuple[Message, ...] = ()
    declared: Declaration | None = None

    def __post_init__(self) -> None:
        "".join([self.name, str(self.image), self.question, self.kind, *self.references]).encode()
        if not math.isfinite(self.yaw_deg or 0.0) or not abs(self.pitch_deg or 0.0) <= 90.0:
            raise ValueError(f"yaw {self.yaw_deg} and pitch {self.pitch_deg}, expected a direction")

    @property
    def picture(self) -> PictureFile:
        """The picture's file with what is declared of it."""
        return declare(self.image, self.declared)

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The conversation before the answer, with the picture's mark in place."""
        return self.conversation or marked((Message(role="user", content=self.question),))

    def declared_by(self, default: Declaration | None) -> "Item":
        """Return the item with a declaration of its picture, unless it has its own."""
        return self if self.declared else replace(self, declared=default)


_JSON = TypeAdapter(Item)


def as_json(item: Item) -> str:
    """Return an item as JSON, its picture by its whole path; `from_json` reads it again."""
    return _JSON.dump_json(replace(item, image=item.image.resolve())).decode()


def from_json(text: str) -> Item:
    """Read an item that `as_json` wrote."""
    return _JSON.validate_json(text)


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
Move = Callable[[Item, float], Item | None]
"""Takes an item and an angle in degrees; returns what is correct then, None if it is not known."""
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
        max_new_tokens: Room for an answer; None for just behind the longest correct one.
        extras: Further figures.
        rubric: Set where the published score is a judge's.
        rotate: Tells what is correct after the camera has turned right by an angle.
        tilt: Tells what is correct once a tilt has brought its target, at the same yaw, to a pitch.
        unit: Of scores.
        point: Reads where an answer points, in yaw and, where one is named, pitch; set where
            answers are directions.
    """

    read: Read
    score: ScoreAll
    metric: str
    source: str
    differs: str = ""
    max_new_tokens: int | None = 64
    extras: Extras = lambda items, answers, scores: {}
    rubric: Rubric | None = None
    rotate: Move = lambda item, angle_deg: None
    tilt: Move = lambda item, pitch_deg: None
    unit: Unit = SHARE
    point: Point | None = None


def unchanged(item: Item, angle_deg: float) -> Item:
    """Return an item as it is: what it asks for does not depend on where the camera looks."""
    return item


def summed(scores: Iterable[Score], worst: float = 0.0) -> Figures:
    """Return the summary of scores as plain data."""
    return asdict(summarise(scores, worst=worst))


def summed_by(scores: Sequence[Score], keys: Sequence[str | None]) -> dict[str, Figures]:
    """Return the summaries of groups of scores, by their keys; None leaves a score out."""
    return {key: asdict(summary) for key, summary in summarise_by(scores, keys).items()}


def each(score_one: Callable[[Item, str], Score]) -> ScoreAll:
    """Score every answer by itself."""
    return lambda items, answers: [
        score_one(item, answer) for item, answer in zip(items, answers, strict=True)
    ]


def summary_over_panoramas(
    items: Sequence[Item], scores: Sequence[Score], worst: float = 0.0, seed: int = 0
) -> dict[str, Any]:
    """Return the summary of scores, as plain data, with its `interval` over whole panoramas."""
    pairs = zip(items, counted(scores, worst), strict=True)
    values = [(score.value, str(item.image)) for item, score in pairs if score.value is not None]
    interval = mean_interval([value for value, _ in values], [image for _, image in values], seed)
    return summed(scores, worst) | {"interval": asdict(interval) if interval else None}
