"""The direction that an answer names, read from its text and never guessed."""

import re
from dataclasses import dataclass

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import DIRECTIONS, wrap_deg
from panovlm.metrics.directions import parse_direction
from panovlm.metrics.fields_of_view import parse_field_of_view

_WORD = "|".join(sorted(DIRECTIONS, key=len, reverse=True))
_FROM_TO = re.compile(rf"\s*(?:{_WORD}) to ({_WORD}):", re.IGNORECASE)
"""Answers about turning name both directions, before and after: "left to back: red cone"."""


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
