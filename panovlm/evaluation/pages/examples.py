"""Which answers a page shows with their pictures, and what points at the target on them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from PIL import Image

from panovlm.figures.sheets import as_data_uri
from panovlm.geometry.sphere import DIRECTIONS
from panovlm.metrics.exact_match import normalised
from panovlm.metrics.units import UNITS, Unit
from panovlm.pictures.declaring import Declaration, PictureFile, declare
from panovlm.pictures.panorama import load_panorama

SHOWN = 6
"""Best answers shown, and as many of the worst."""
UNSCORED_SHOWN = 4
MAX_REFERENCES = 5
WIDTH = 1024
_TONES = {True: "good", False: "bad", None: "target"}
Row = Mapping[str, Any]
"""A question with its answers, as a report has it under `predictions`."""


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
        row: The question.
        unit: Of its score.
        views: Names of the views that were blanked.
    """

    row: Row
    unit: Unit
    views: Sequence[str] = ()

    @property
    def picture(self) -> PictureFile:
        """The panorama's file, with what is declared of it."""
        return declare(Path(self.row["image"]), Declaration(**self.row.get("declared", {})))

    @property
    def source(self) -> str:
        """The picture as the address of an `img` element.

        Raises:
            PanoVLMError: If it cannot be read.
        """
        picture = Image.fromarray(load_panorama(self.picture, min_width=WIDTH))
        return as_data_uri(picture.resize((WIDTH, WIDTH // 2), Image.Resampling.LANCZOS))

    @property
    def is_right(self) -> bool | None:
        """Whether the answer has the full score; None if it is in between, an error, or none."""
        value = self.row["score"]
        if self.unit.less_is_better or value not in (self.unit.worst, self.unit.best):
            return None
        return bool(value == self.unit.best)

    @property
    def expected(self) -> str:
        """The right answers, or where the target is if there are none in words."""
        references, yaw_deg, pitch_deg = (
            self.row[key] for key in ("references", "yaw_deg", "pitch_deg")
        )
        if references:
            more = len(references) - MAX_REFERENCES
            end = [f"and {more:,} more"] if more > 0 else []
            return "\n".join([*references[:MAX_REFERENCES], *end])
        if yaw_deg is None:
            return "none given"
        pitch = "" if pitch_deg is None else f", pitch {pitch_deg:.1f}°"
        return f"yaw {yaw_deg:.1f}°{pitch}"

    @property
    def score(self) -> str:
        """The score in words, or why there is none; empty where right or wrong says it all."""
        if self.row["missing"]:
            return f"none: {self.row['missing']}"
        if self.is_right is not None:
            return ""
        error = "error " if self.unit.less_is_better else ""
        return f"{error}{self.unit.score_text(self.row['score'])}"

    @property
    def right_rotations(self) -> tuple[int, int] | None:
        """Yaw rotations under which the answer is right, of how many; None if that says nothing."""
        rotated = self.row.get("yaw_rotated")
        if not rotated or self.unit.less_is_better:
            return None
        return sum(each["score"] == 1.0 for each in rotated), len(rotated)

    @property
    def changed_views(self) -> list[str] | None:
        """Names of the views without which the answer changes; None if that was not asked."""
        changed = self.row.get("changed_by_view")
        if changed is None:
            return None
        return [name for name, is_changed in zip(self.views, changed, strict=True) if is_changed]

    @property
    def answered_deg(self) -> Sequence[float | None] | None:
        """Yaw, and pitch where it has one, that the answer was read as; None if it was not."""
        answered: Sequence[float | None] | None = self.row.get("answered_deg")
        return answered

    @property
    def marks(self) -> list[Mark]:
        """What points at the target, and at the answer: a direction, or a direction word."""
        marks, answer = [], normalised(self.row["answer"])
        tone = "good" if self.is_right else "answered"
        if self.answered_deg is not None:
            yaw_deg, pitch_deg = self.answered_deg
            marks.append(Mark("up", yaw_deg or 0.0, pitch_deg, tone, "answer"))
        elif answer in DIRECTIONS:
            middle_deg = 45.0 * DIRECTIONS.index(answer)
            marks.append(Mark("sector", middle_deg, None, tone, f"answer: {answer}"))
        if self.row["yaw_deg"] is not None:
            expected = normalised(self.expected)
            label = f"target: {expected}" if expected in DIRECTIONS else "target"
            place = self.row["yaw_deg"], self.row["pitch_deg"]
            marks.append(Mark("down", *place, _TONES[self.is_right], label))
        return marks


def choose_examples(report: Mapping[str, Any]) -> dict[str, list[Example]]:
    """Choose answers of a report under their heading: the best, the worst, and some not scored.

    Best are those better than the mean, or perfect; the others are the worst. Among equals, those
    that stay so when yaw-rotated come first.
    """
    unit, views = UNITS[report["unit"]], report.get("view_ablation", {}).get("views", ())
    sign = -1 if unit.less_is_better else 1
    scored = [row for row in report["predictions"] if row["score"] is not None]
    mean = fmean(sign * row["score"] for row in scored) if scored else 0.0

    def goodness(row: Row) -> tuple[float, float]:
        known = [each["score"] for each in row.get("yaw_rotated", ())]
        known = [value for value in known if value is not None]
        return sign * row["score"], sign * fmean(known or [row["score"]])

    def is_good(row: Row) -> bool:
        return bool(sign * row["score"] > mean or row["score"] == unit.best)

    best = sorted(filter(is_good, scored), key=goodness, reverse=True)
    worst = sorted((row for row in scored if not is_good(row)), key=goodness)
    unscored = (row for row in report["predictions"] if row["score"] is None)
    names = ("Best answers", "Worst answers")
    if unit.less_is_better:
        names = ("Smallest errors", "Largest errors")
    chosen = (_spread(best, SHOWN), _spread(worst, SHOWN), _spread(unscored, UNSCORED_SHOWN))
    return {
        name: [Example(row, unit, views) for row in rows]
        for name, rows in zip((*names, "Not scored"), chosen, strict=True)
    }


def _spread(rows: Iterable[Row], most: int) -> list[Row]:
    """Take rows in order, each about another picture, the kinds in equal shares."""
    listed = [*rows]
    share = -(-most // max(1, len({row["kind"] for row in listed})))
    chosen: list[Row] = []
    pictures: set[str] = set()
    kinds: Counter[str] = Counter()
    for row in listed:
        if row["image"] not in pictures and kinds[row["kind"]] < share and len(chosen) < most:
            chosen.append(row)
            pictures.add(row["image"])
            kinds[row["kind"]] += 1
    return chosen
