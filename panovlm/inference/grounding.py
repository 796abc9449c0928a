"""Where an answer points: a direction it names, never one that is made up."""

import re
from dataclasses import dataclass

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import DIRECTIONS, wrap_deg
from panovlm.metrics.directions import parse_direction
from panovlm.metrics.fields_of_view import parse_field_of_view

_WORD = "|".join(sorted(DIRECTIONS, key=len, reverse=True))
_FROM_TO = re.compile(rf"\s*(?:{_WORD}) to ({_WORD}):", re.IGNORECASE)
"""How answers about scenes say where one looks first and where then: "left to back: red cone"."""


@dataclass(frozen=True)
class Grounding:
    """The direction an answer names; what it does not name is None.

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
        """Say it in one line."""
        parts = [f"yaw {self.yaw_deg:g}°"]
        if self.pitch_deg is not None:
            parts.append(f"pitch {self.pitch_deg:g}°")
        if self.width_deg is not None and self.height_deg is not None:
            parts.append(f"field of view {self.width_deg:g}° x {self.height_deg:g}°")
        return ", ".join(parts)


def check_one_panorama(wish: str, num_panoramas: int) -> None:
    """Refuse a wish about directions where they could be those of several panoramas.

    Args:
        wish: What is asked for, as its user knows it.
        num_panoramas: Of the question.

    Raises:
        PanoVLMError: If there are several.
    """
    if num_panoramas > 1:
        raise PanoVLMError(
            f"found {wish} and {num_panoramas} pictures, expected one: nothing says in which of "
            f"them a direction is; leave {wish} out"
        )


def ground(answer: str) -> Grounding | None:
    """Read the field of view or the direction an answer names; None if it names none, or two.

    Where it says from where to where one looks, it is about where one looks then.
    """
    region = parse_field_of_view(answer)
    if region is not None:
        return Grounding(
            wrap_deg(region.yaw_deg), region.pitch_deg, region.width_deg, region.height_deg
        )
    looks = _FROM_TO.match(answer)
    yaw_deg = parse_direction(looks[1] if looks else answer)
    return None if yaw_deg is None else Grounding(yaw_deg)
