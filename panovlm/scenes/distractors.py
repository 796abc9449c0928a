"""Far things around the horizon that no question is about: boxes, walls, poles and trees.

They stand farther away than any solid and are grey, brown or dull dark green, so that nobody would
call one by the name of a solid: real panoramas are full of such things.
"""

from dataclasses import dataclass, replace
from math import atan, degrees

import numpy as np

from panovlm.scenes.colours import RGB, Span, sample_hsv

Generator = np.random.Generator

MIN_DISTANCE_M, MAX_DISTANCE_M = 12.0, 45.0
EMPTY_SHARE = 1 / 3
"""Share of the pictures that have none."""
MOST = 14


@dataclass(frozen=True)
class FarPart:
    """An upright part of a distractor, facing the camera.

    Attributes:
        yaw_deg: Direction of its middle.
        distance_m: `MIN_DISTANCE_M` to `MAX_DISTANCE_M`.
        width_m: At that distance.
        bottom_m: Height of its lower edge above the ground.
        top_m: Of its upper edge.
        colour: sRGB in [0, 255].
        grain: How far its pixels differ in brightness, 0 to 0.3 of it.
        is_round: Whether it is an ellipse, as the crown of a tree, instead of a rectangle.
    """

    yaw_deg: float
    distance_m: float
    width_m: float
    bottom_m: float
    top_m: float
    colour: RGB
    grain: float = 0.05
    is_round: bool = False


def sample_distractors(rng: Generator) -> tuple[FarPart, ...]:
    """Sample the parts of all distractors of a picture, the farthest first."""
    if rng.random() < EMPTY_SHARE:
        return ()
    kinds = (_box, _box, _wall, _pole, _tree, _tree)
    number = int(rng.integers(2, MOST + 1))
    parts = [part for _ in range(number) for part in kinds[rng.integers(len(kinds))](rng)]
    return tuple(sorted(parts, key=lambda part: -part.distance_m))


def _colour(rng: Generator, hue_deg: Span, most: float, brightest: float) -> RGB:
    """Sample a dull colour: its saturation at most `most`, its value at most `brightest`."""
    return sample_hsv(rng, hue_deg, (0, most), (0.4 * brightest, brightest))


def _grey_or_brown(rng: Generator) -> RGB:
    if rng.random() < 0.6:
        return _colour(rng, (0, 360), most=0.1, brightest=0.6)
    return _colour(rng, (15, 40), most=0.38, brightest=0.45)


def _part(rng: Generator, width_m: float, height_m: float) -> FarPart:
    nearness = rng.uniform(1 / MAX_DISTANCE_M, 1 / MIN_DISTANCE_M)
    yaw_deg = float(rng.uniform(-180, 180))
    return FarPart(yaw_deg, float(1 / nearness), width_m, 0.0, height_m, _grey_or_brown(rng))


def _box(rng: Generator) -> list[FarPart]:
    """Sample a box by its two visible faces, one brighter than the other."""
    whole = _part(rng, float(rng.uniform(1.5, 7)), float(rng.uniform(1.5, 8)))
    left, shade = rng.uniform(0.1, 0.9), float(rng.uniform(0.6, 0.9))
    red, green, blue = whole.colour
    dark = replace(whole, colour=(shade * red, shade * green, shade * blue))
    return [
        _shifted(whole, (left - 1) / 2 * whole.width_m, left * whole.width_m),
        _shifted(dark, left / 2 * whole.width_m, (1 - left) * whole.width_m),
    ]


def _shifted(part: FarPart, aside_m: float, width_m: float) -> FarPart:
    """Return a part of another width, moved to the right."""
    yaw_deg = part.yaw_deg + degrees(atan(aside_m / part.distance_m))
    return replace(part, yaw_deg=yaw_deg, width_m=float(width_m))


def _wall(rng: Generator) -> list[FarPart]:
    return [_part(rng, float(rng.uniform(8, 30)), float(rng.uniform(0.8, 3)))]


def _pole(rng: Generator) -> list[FarPart]:
    return [_part(rng, float(rng.uniform(0.12, 0.35)), float(rng.uniform(3, 8)))]


def _tree(rng: Generator) -> list[FarPart]:
    """Sample a trunk and its crown of one to three blobs."""
    trunk = _part(rng, float(rng.uniform(0.2, 0.5)), float(rng.uniform(1.5, 4)))
    trunk = replace(trunk, colour=_colour(rng, (15, 40), most=0.38, brightest=0.4))
    return [trunk, *(_crown(rng, trunk) for _ in range(rng.integers(1, 4)))]


def _crown(rng: Generator, trunk: FarPart) -> FarPart:
    width_m, height_m = rng.uniform(2, 5), rng.uniform(2, 5)
    crown = _shifted(trunk, rng.uniform(-1, 1), width_m)
    return replace(
        crown,
        bottom_m=float(0.8 * trunk.top_m),
        top_m=float(0.8 * trunk.top_m + height_m),
        colour=_colour(rng, (60, 130), most=0.38, brightest=0.36),
        grain=0.3,
        is_round=True,
    )
