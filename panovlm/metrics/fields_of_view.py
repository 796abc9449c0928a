"""Bounding fields of view in answers."""

import json
import re

from panovlm.errors import PanoVLMError
from panovlm.geometry.regions import Bounds, Region

_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_FOUR = re.compile(
    rf"[\[(]\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*[\])]"
)
_OBJECT = re.compile(r"\{[^{}]*\}")
_KEYS = (
    ("yaw", "pitch", "width", "height"),
    ("yaw_deg", "pitch_deg", "width_deg", "height_deg"),
    ("yaw", "pitch", "x_fov", "y_fov"),
)


def parse_field_of_view(answer: str) -> Region | None:
    """Read the one field of view of an answer.

    Args:
        answer: Holds `[yaw, pitch, width, height]` in degrees, or a JSON object with these keys.

    Returns:
        None if there is none or more than one, or if its sizes or its pitch are impossible.
    """
    found = {*_listed(answer), *_keyed(answer)}
    if len(found) != 1:
        return None
    try:
        return Region(*found.pop())
    except PanoVLMError:
        return None


def _listed(answer: str) -> list[Bounds]:
    return [_four(numbers) for numbers in _FOUR.findall(answer)]


def _keyed(answer: str) -> list[Bounds]:
    found = []
    for text in _OBJECT.findall(answer):
        try:
            values = json.loads(text)
            found += [
                _four([values[key] for key in keys]) for keys in _KEYS if {*keys} <= {*values}
            ]
        except (ValueError, TypeError):
            continue
    return found


def _four(numbers: list[str]) -> Bounds:
    yaw_deg, pitch_deg, width_deg, height_deg = map(float, numbers)
    return yaw_deg, pitch_deg, width_deg, height_deg
