"""Questions with their pictures: what points at the target, and at what was answered."""

from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image

from panovlm.figures.sheets import as_data_uri
from panovlm.geometry.sphere import DIRECTIONS
from panovlm.metrics.exact_match import normalised
from panovlm.pictures.declaring import PictureFile
from panovlm.pictures.panorama import load_panorama

WIDTH = 1024
_TONES = {True: "good", False: "bad", None: "target"}


class Mark(NamedTuple):
    """A mark on a panorama.

    Attributes:
        shape: "down" and "up" are arrows from the upper and the lower edge, "sector" is a bracket
            over 45° of the lower edge.
        yaw_deg: Where it points.
        pitch_deg: How far up, shown by a ring; None if it is not known.
        tone: Class of its colour: "good", "bad", "answered" (an answer that is not right) or
            "target" (of a question whose answer is neither right nor wrong).
        label: Shown at the edge.
    """

    shape: str
    yaw_deg: float
    pitch_deg: float | None
    tone: str
    label: str


@dataclass(frozen=True)
class Example:
    """A question that was asked of a panorama, with its answer.

    Attributes:
        picture: The panorama's file, with what is declared of it.
        question: As asked.
        expected: The right answer.
        answer: The answer given.
        kind: What the question tests.
        is_right: Whether the answer has the full score, or none of it; None if it is in between, an
            error in degrees, or not scored.
        yaw_deg: Direction of the target; None if there is none.
        pitch_deg: How far up the target is, where known.
        answered_deg: Yaw, and pitch where it has one, that the answer was read as; None if it
            was not, or is no direction.
        score: A benchmark's score in words, or why there is none.
        right_rotations: Yaw rotations under which it was answered correctly, of how many; None if
            it was not rotated.
        changed_views: Names of the views without which the answer changes; None if that was not
            asked.
    """

    picture: PictureFile
    question: str
    expected: str
    answer: str
    kind: str
    is_right: bool | None
    yaw_deg: float | None = None
    pitch_deg: float | None = None
    answered_deg: tuple[float, float | None] | None = None
    score: str = ""
    right_rotations: tuple[int, int] | None = None
    changed_views: tuple[str, ...] | None = None

    @property
    def source(self) -> str:
        """The picture as the address of an `img` element.

        Raises:
            PanoVLMError: If it cannot be read.
        """
        picture = Image.fromarray(load_panorama(self.picture, min_width=WIDTH))
        return as_data_uri(picture.resize((WIDTH, WIDTH // 2), Image.Resampling.LANCZOS))

    @property
    def marks(self) -> list[Mark]:
        """What points at the target, and at the answer: a direction, or a direction word."""
        marks, answer = [], normalised(self.answer)
        tone = "good" if self.is_right else "answered"
        if self.answered_deg is not None:
            marks.append(Mark("up", *self.answered_deg, tone, "answer"))
        elif answer in DIRECTIONS:
            yaw_deg = 45.0 * DIRECTIONS.index(answer)
            marks.append(Mark("sector", yaw_deg, None, tone, f"answer: {answer}"))
        if self.yaw_deg is not None:
            expected = normalised(self.expected)
            label = f"target: {expected}" if expected in DIRECTIONS else "target"
            marks.append(Mark("down", self.yaw_deg, self.pitch_deg, _TONES[self.is_right], label))
        return marks
