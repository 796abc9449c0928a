"""Roses: scores by direction, drawn as one looks down on the camera, the front at the top."""

from collections.abc import Sequence
from dataclasses import dataclass

from panovlm.evaluation.pages.svg import circle, line, polar, svg, text, wedge
from panovlm.evaluation.units import SHARE, Unit

RADIUS = 100.0
_PAD = (62.0, 26.0)
"""Room for the labels beside and above the rose."""
_GAP_DEG = 3.0
_WORD_LENGTH = 12.0
_RINGS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Petal:
    """One direction of a rose.

    Attributes:
        label: Said outside of it.
        angle_deg: Where it lies, clockwise from the front.
        value: Score; None where nothing was asked.
        interval: Low and high end; None draws none.
        count: How many questions it is of.
    """

    label: str
    angle_deg: float
    value: float | None
    interval: Sequence[float] | None = None
    count: int | None = None


def rose(petals: Sequence[Petal], title: str, *, most: float = 1.0, unit: Unit = SHARE) -> str:
    """Draw scores by direction; the length of a petal is its score, the thin line its interval.

    Args:
        petals: At least one; they divide the circle evenly.
        title: Read out by screen readers.
        most: Score at the outermost ring, above 0.
        unit: Of the scores.
    """
    centre = (RADIUS + _PAD[0], RADIUS + _PAD[1])
    parts = [circle(*centre, RADIUS * ring, "ring") for ring in _RINGS]
    half = 180 / len(petals) - _GAP_DEG
    for petal in petals:
        parts += _petal(petal, centre, half, most, unit)
    ring_label = polar(centre, RADIUS, 180 / len(petals))
    parts.append(text(ring_label[0] + 3, ring_label[1] - 3, unit.tick(most), "tick"))
    return svg(2 * centre[0], 2 * centre[1], title, parts)


def round_up(share: float) -> float:
    """Give the smallest of a few round shares that is not below."""
    return next(
        round_share for round_share in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0) if share <= round_share
    )


def _petal(
    petal: Petal, centre: tuple[float, float], half: float, most: float, unit: Unit
) -> list[str]:
    parts = [_label(petal, centre)]
    if petal.value is None:
        return parts
    tip = f"{petal.label}: {unit.say(petal.value)}"
    tip += f" of {petal.count:,}" if petal.count is not None else ""
    angles = (petal.angle_deg - half, petal.angle_deg + half)
    radius = RADIUS * min(petal.value / most, 1.0)
    parts.append(wedge(centre, radius, angles, "ours", tip))
    if petal.interval is not None:
        low, high = (RADIUS * min(end / most, 1.0) for end in petal.interval)
        ends = (polar(centre, end, petal.angle_deg) for end in (low, high))
        parts.append(line(*next(ends), *next(ends), "whisker"))
    return parts


def _label(petal: Petal, centre: tuple[float, float]) -> str:
    x, y = polar(centre, RADIUS + _WORD_LENGTH, petal.angle_deg)
    side = x - centre[0]
    anchor = "middle" if abs(side) < 1 else "end" if side < 0 else ""
    return text(x, y + 4, petal.label, f"tick {anchor}".strip())
