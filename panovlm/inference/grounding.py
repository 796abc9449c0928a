"""The direction that an answer names, and the regions it is about: read, and never guessed."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from panovlm.data.questions.asking import PLACES
from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import DIRECTIONS, wrap_deg
from panovlm.metrics.directions import parse_direction
from panovlm.metrics.exact_match import normalised
from panovlm.metrics.fields_of_view import parse_field_of_view
from panovlm.metrics.listings import NOTHING, is_listing, parse_listing

_WORD = "|".join(sorted(DIRECTIONS, key=len, reverse=True))
_FROM_TO = re.compile(rf"\s*(?:{_WORD}) to ({_WORD}):", re.IGNORECASE)
"""Answers about turning name both directions, before and after: "left to back: red cone"."""
_PLACE = re.compile(
    rf"\b({'|'.join(sorted(PLACES, key=len, reverse=True))})(?![\w-])", re.IGNORECASE
)
_WHAT = re.compile(r"what\b", re.IGNORECASE)
_WHERE = re.compile(r"(?:where|in which direction) is the (.+?)\?", re.IGNORECASE)
EIGHTH_DEG, EIGHTH_HEIGHT_DEG = 45.0, 70.0
"""A word names an eighth of the circle and no height: that of a region is a camera's."""


@dataclass(frozen=True)
class Grounding:
    """The direction an answer names; fields it does not name are None.

    Attributes:
        yaw_deg: Positive to the right, in (-180, 180].
        pitch_deg: Positive up, in [-90, 90].
        width_deg: Angle between its left and right side, in (0, 180).
        height_deg: Angle between its upper and lower side, in (0, 180).
    """

    yaw_deg: float
    pitch_deg: float | None = None
    width_deg: float | None = None
    height_deg: float | None = None

    def describe(self) -> str:
        """Return it in one line of text."""
        parts = [f"yaw {self.yaw_deg:g}°"]
        if self.pitch_deg is not None:
            parts.append(f"pitch {self.pitch_deg:g}°")
        if self.width_deg is not None and self.height_deg is not None:
            parts.append(f"field of view {self.width_deg:g}° x {self.height_deg:g}°")
        return ", ".join(parts)


def check_one_panorama(option: str, num_panoramas: int) -> None:
    """Refuse an option about directions where they could be those of several panoramas."""
    if num_panoramas > 1:
        raise PanoVLMError(
            f"found {option} and {num_panoramas} pictures, expected one: a direction does not say "
            f"in which picture it is; leave {option} out"
        )


def ground(answer: str) -> Grounding | None:
    """Parse the field of view or the direction an answer names; None if it names none, or two.

    Of an answer about turning it is the direction after the turn.
    """
    region = parse_field_of_view(answer)
    if region is not None:
        return Grounding(
            wrap_deg(region.yaw_deg), region.pitch_deg, region.width_deg, region.height_deg
        )
    looks = _FROM_TO.match(answer)
    yaw_deg = parse_direction(looks[1] if looks else answer)
    return None if yaw_deg is None else Grounding(yaw_deg)


@dataclass(frozen=True)
class GroundedRegion:
    """A region of the sphere that an answer is about, as a field of view.

    Attributes:
        label: What is said to be there; None where that is not said.
        yaw_deg: Of its middle, positive to the right, in (-180, 180].
        pitch_deg: Of the same, positive up.
        width_deg: Angle between its left and right side.
        height_deg: Angle between its upper and lower side.
        source: Where it is read from: a field of view or a direction in the answer, a line of a
            listing, or the place that a question asks about.
    """

    label: str | None
    yaw_deg: float
    pitch_deg: float
    width_deg: float
    height_deg: float
    source: Literal["field of view", "direction", "listing", "question"]

    def describe(self) -> str:
        """Return it in one line of text."""
        size = f"{self.width_deg:g}° x {self.height_deg:g}°"
        return f"{self.label or 'region'}: {size} at yaw {self.yaw_deg:g}° (by {self.source})"


def grounded_regions(answer: str, question: str = "") -> list[GroundedRegion]:
    """Return the regions that an answer is about; none where nothing says where.

    A word of direction is an eighth of the circle. Of a listing, each line that names something is
    a region of its own. An answer without a direction is about the place that its question asks
    for, as in "What is behind me?".
    """
    if is_listing(answer):
        lines = parse_listing(answer).items()
        return [_eighth(word, ", ".join(sorted(t)), "listing") for word, t in lines if t]
    grounding, asked = ground(answer), _WHERE.match(question.strip())
    label = asked[1] if asked else None
    if grounding is None:
        return _asked_place(answer, question)
    if grounding.width_deg is None or grounding.height_deg is None:
        size = (EIGHTH_DEG, EIGHTH_HEIGHT_DEG)
        return [
            GroundedRegion(label, grounding.yaw_deg, grounding.pitch_deg or 0.0, *size, "direction")
        ]
    size = (grounding.width_deg, grounding.height_deg)
    pitch_deg = grounding.pitch_deg or 0.0
    return [GroundedRegion(label, grounding.yaw_deg, pitch_deg, *size, "field of view")]


def grounding_facts(answer: str, question: str = "") -> Mapping[str, Any]:
    """Return `grounding` and `regions` of an answer as plain data."""
    grounding = ground(answer)
    return {
        "grounding": asdict(grounding) if grounding else None,
        "regions": [asdict(region) for region in grounded_regions(answer, question)],
    }


def _asked_place(answer: str, question: str) -> list[GroundedRegion]:
    """Return the one place that a question about what is there asks for, if something is."""
    places = _PLACE.findall(question)
    said = normalised(answer)
    if len(places) != 1 or not _WHAT.match(question.strip()) or not said or said == NOTHING:
        return []
    return [_eighth(DIRECTIONS[PLACES.index(places[0].lower())], answer.strip(), "question")]


def _eighth(word: str, label: str, source: Literal["listing", "question"]) -> GroundedRegion:
    yaw_deg = wrap_deg(EIGHTH_DEG * DIRECTIONS.index(word))
    return GroundedRegion(label, yaw_deg, 0.0, EIGHTH_DEG, EIGHTH_HEIGHT_DEG, source)
