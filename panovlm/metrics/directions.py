"""Directions in answers: "about 45 degrees to the left", "at 3 o'clock", "behind me"."""

import re
from collections.abc import Callable

from panovlm.geometry.sphere import DIRECTIONS, wrap_deg
from panovlm.metrics.number_words import NUMBER_WORDS

_SIDES = {"left": -1, "port": -1, "counterclockwise": -1, "anticlockwise": -1}
_SIDES |= {"right": 1, "starboard": 1, "clockwise": 1}
_SIDE = rf"({'|'.join(sorted(_SIDES, key=len, reverse=True))})"
_DEGREES = r"(?:°|degrees?\b|deg\b)"
_NUMBER = r"(\d+(?:\.\d+)?)"
_SIGNED = r"([-+]?\d+(?:\.\d+)?)"
_TO = r"(?:\s+(?:to|on|towards?|at))?(?:\s+(?:the|my|your))?\s*"

_SUBMIT = re.compile(rf"submit\s*\(\s*{_SIGNED}\s*,\s*{_SIGNED}\s*\)")
_YAW = re.compile(rf"\byaw(?:\s+angle)?(?:\s+(?:is|of))?\s*[:=]?\s*(?:about\s+)?{_SIGNED}")
_PITCH = re.compile(rf"\bpitch(?:\s+angle)?(?:\s+(?:is|of))?\s*[:=]?\s*(?:about\s+)?{_SIGNED}")
_CLOCK = re.compile(rf"\b(\d{{1,2}}|{'|'.join(NUMBER_WORDS)})(?::(\d\d))?\s*o'?\s?clock\b")
_DEGREES_SIDE = re.compile(rf"{_NUMBER}\s*{_DEGREES}{_TO}{_SIDE}\b")
_SIDE_DEGREES = re.compile(rf"\b{_SIDE}\s+(?:by\s+|at\s+)?(?:about\s+)?{_NUMBER}\s*{_DEGREES}")
_ONLY_DEGREES = re.compile(rf"(?:about\s+)?([-+]\d+(?:\.\d+)?|0|180)\s*{_DEGREES}\.?")
_ANY_DEGREES = re.compile(rf"\d\s*{_DEGREES}")

_LEFT = re.compile(r"\b(?:left|port)\b")
_RIGHT = re.compile(r"\b(?:right|starboard)\b")
_FRONT = re.compile(r"\b(?:front|ahead|forwards?)\b")
_BACK = re.compile(r"\b(?:back|behind|rear|backwards?)\b")
_DENIED = re.compile(r"\b(?:not|neither|nor|or)\b|n't\b")
_VIEWER = r"(?:me|us|you|(?:the|my|your)\s+(?:viewer|camera|observer|position|view|body|self))\b"
_OF_ANOTHER = re.compile(
    rf"\b(?:left|right|front|back|rear|ahead)\s+of\s+(?!{_VIEWER})\w"
    rf"|\bbehind\s+(?!{_VIEWER}|and\b|to\b|on\b|at\b)\w"
)


def parse_direction(answer: str) -> float | None:
    """Read the direction an answer names, as seen by the one who asks.

    In this order: a yaw called so; an hour of a clock; degrees with a side; signed degrees, or 0
    or 180, alone; words of the eight sectors, in any order ("behind and to the left"). What is said
    of another thing ("left of the door"), what is denied, and what names two directions is not
    read.

    Returns:
        Yaw in (-180, 180] degrees, positive to the right; None if there is none.
    """
    text = _plain(answer)
    for rule in _RULES:
        found = {wrap_deg(yaw_deg) for yaw_deg in rule(text)}
        if found:
            return found.pop() if len(found) == 1 else None
    return None if _ANY_DEGREES.search(text) else _parse_words(text)


def parse_pitch(answer: str) -> float | None:
    """Read the pitch an answer calls so.

    Returns:
        In [-90, 90] degrees, positive up; None if there is none, or two.
    """
    found = {float(number) for number in _PITCH.findall(_plain(answer))}
    pitch_deg = found.pop() if len(found) == 1 else None
    return pitch_deg if pitch_deg is not None and abs(pitch_deg) <= 90.0 else None


def parse_submission(answer: str) -> tuple[float, float] | None:
    """Read the last `submit(yaw,pitch)`; None if there is none or the pitch is impossible."""
    found = [(float(yaw), float(pitch)) for yaw, pitch in _SUBMIT.findall(answer)]
    return found[-1] if found and abs(found[-1][1]) <= 90.0 else None


def _plain(answer: str) -> str:
    return answer.lower().replace("’", "'").replace("−", "-").strip()


def _yaws(text: str) -> list[float]:
    return [float(number) for number in _YAW.findall(text)]


def _clocks(text: str) -> list[float]:
    hours = [
        (NUMBER_WORDS[hour] if hour in NUMBER_WORDS else int(hour), int(minutes or 0))
        for hour, minutes in _CLOCK.findall(text)
    ]
    is_known = all(1 <= hour <= 12 and past < 60 for hour, past in hours)
    return [30.0 * (hour + past / 60) for hour, past in hours] if is_known else []


def _sided_degrees(text: str) -> list[float]:
    after = [float(number) * _SIDES[side] for number, side in _DEGREES_SIDE.findall(text)]
    before = [float(number) * _SIDES[side] for side, number in _SIDE_DEGREES.findall(text)]
    return after or before


def _lone_degrees(text: str) -> list[float]:
    alone = _ONLY_DEGREES.fullmatch(text)
    return [float(alone[1])] if alone else []


_RULES: tuple[Callable[[str], list[float]], ...] = (_yaws, _clocks, _sided_degrees, _lone_degrees)


def _parse_words(text: str) -> float | None:
    if _DENIED.search(text) or _OF_ANOTHER.search(text):
        return None
    left, right = bool(_LEFT.search(text)), bool(_RIGHT.search(text))
    front, back = bool(_FRONT.search(text)), bool(_BACK.search(text))
    if (left and right) or (front and back):
        return None
    depth = "front" if front else "back" if back else ""
    side = "left" if left else "right" if right else ""
    word = "-".join(part for part in (depth, side) if part)
    return wrap_deg(45.0 * DIRECTIONS.index(word)) if word else None
