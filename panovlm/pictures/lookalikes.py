"""Pictures that have the shape of a panorama and are something else, told by their pixels.

Two fisheye circles side by side, and panoramas for two eyes at half their height or width, are 2:1
as a full sphere is. A strip of six squares need not be a cube map. What is told here is told with
certainty; `is_doubtful` is for a person to look at.
"""

import cv2
import numpy as np

from panovlm.geometry.sphere import Floats, Pixels

_ROWS, _COLUMNS = 32, 64
"""The picture is looked at as this many pixels."""
_LEAST_ROWS = 16
_BLANK_LEVELS, _SEEN_LEVELS = 24.0, 40.0
"""How far pixels are at most, and at least, from the colour around a fisheye circle."""
_EYES_DIFFER, _LEAST_DEVIATION = 0.3, 6.0
"""How far two eyes' pictures differ at most, in deviations of one, which is at least so much."""
_ALONE = 90.0
"""How far a pixel of one eye is at most, in levels, from all those near its place in the other."""
_FACES_DIFFER, _LEAST_DIFFERENCE = 0.3, 4.0
"""How far edges that meet differ at most, in differences of others, where it is so much."""
_SEAM_STEPS, _POLE_SPREAD = 2.5, 20.0
"""Doubtful: a seam of so many times the step between columns, and a pole of such a deviation."""


def lookalike(pixels: Pixels) -> str | None:
    """Recognise a picture of 2:1 that is something else than a full sphere.

    Args:
        pixels: uint8 [H, W, 3].

    Returns:
        Its name for a message; None for what may be a full sphere.
    """
    if len(pixels) < _LEAST_ROWS:
        return None
    small = _reduced(pixels)
    if _is_dual_fisheye(small):
        return "a dual fisheye, two circles of raw camera pictures side by side"
    if _are_two_eyes(small[: _ROWS // 2], small[_ROWS // 2 :]):
        return "two panoramas for two eyes, one above the other at half their height"
    if _are_two_eyes(small[:, : _COLUMNS // 2], small[:, _COLUMNS // 2 :]):
        return "two panoramas for two eyes, side by side at half their width"
    return None


def is_doubtful(pixels: Pixels) -> bool:
    """Check for signs that a picture of 2:1 is no full sphere, as a wide photograph is none.

    A sphere's left and right edge continue each other, and its top and bottom row are one place
    each. A picture whose edges do not, and whose top or bottom row shows many things, is doubtful;
    a few spheres are too.

    Args:
        pixels: uint8 [H, W, 3].
    """
    if len(pixels) < _LEAST_ROWS:
        return False
    small = cv2.resize(pixels, (_COLUMNS, _ROWS), interpolation=cv2.INTER_AREA).astype(np.float64)
    steps = np.abs(np.diff(small, axis=1)).mean(axis=(0, 2))
    seam = np.abs(small[:, 0] - small[:, -1]).mean()
    spread = max(small[row].std(axis=0).mean() for row in (0, -1))
    return bool(seam > _SEAM_STEPS * np.median(steps) and spread > _POLE_SPREAD)


def _reduced(pixels: Pixels) -> Floats:
    """Reduce a picture to `_ROWS` x `_COLUMNS`, of evenly spaced rows alone: those are enough."""
    rows = ((np.arange(_ROWS) + 0.5) * len(pixels) / _ROWS).astype(np.intp)
    small = cv2.resize(pixels[rows], (_COLUMNS, _ROWS), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32)


_ACROSS = (np.arange(_ROWS) + 0.5) / (_ROWS / 2) - 1
_RADIUS = np.hypot(_ACROSS[None], _ACROSS[:, None])
_OUTSIDE = np.tile(_RADIUS > 1.12, 2)
"""Pixels beyond both circles."""
_ABOVE = (np.abs(_ACROSS[None]) < 0.25) & (_ACROSS[:, None] < -0.5) & (_RADIUS < 0.9)
"""Pixels near the top of a half and inside its circle."""


def _is_dual_fisheye(small: Floats) -> bool:
    """Check for one colour all around two circles that fill the halves.

    On a sphere whose poles are that blank, the top and bottom of the circles would be blank too.
    """
    blank = small[0, 0]
    if not (blank.max() < _SEEN_LEVELS or blank.min() > 255 - _SEEN_LEVELS):
        return False
    off = np.abs(small - blank).max(axis=2)
    if (off[_OUTSIDE] > _BLANK_LEVELS).mean() > 0.05:
        return False
    halves = off[:, :_ROWS], off[:, _ROWS:]
    return all(
        max((half[zone] > _SEEN_LEVELS).mean() for zone in (_ABOVE, _ABOVE[::-1])) > 0.6
        for half in halves
    )


def _are_two_eyes(first: Floats, second: Floats) -> bool:
    """Check whether two halves show the same with the small shifts of two eyes.

    Pictures that repeat within a half, as grids do, show the same everywhere and count as one.
    """
    difference = np.abs(first - second).mean()
    if difference > _EYES_DIFFER * first.std():  # soon done, and so with almost all pictures
        return False
    deviation = min((first - first.mean(axis=axis, keepdims=True)).std() for axis in (0, 1))
    if deviation < _LEAST_DEVIATION or difference > _EYES_DIFFER * deviation:
        return False
    shifted = [
        np.abs(first - np.roll(first, shift, axis)).mean()
        for axis in (0, 1)
        for shift in range(first.shape[axis] // 8, 1 + first.shape[axis] // 2)
    ]
    return bool(min(shifted) > 2 * difference) and _most_alone(first, second) < _ALONE


def _most_alone(first: Floats, second: Floats) -> float:
    """Compute how far a pixel of one half is at most from all those near its place in the other.

    Both eyes see every thing, a little aside. Two ends of a plain room are alike, but for the
    things that stand at one of them.
    """
    near = np.ones((3, 3), np.uint8)
    return max(
        float(np.maximum(a - cv2.dilate(b, near), cv2.erode(b, near) - a).max())
        for a, b in ((first, second), (second, first))
    )


def faces_meet(faces: Pixels) -> bool:
    """Check whether the faces of a cube map continue one another across its edges.

    Args:
        faces: uint8 [6, S, S, 3] in the order of `ViewLayout.cubemap`.

    Returns:
        False if edges that should meet differ about as much as any others: these are no faces, or
        in another order.
    """
    first, second = (
        np.stack([_edge(faces[index], *side) for index, *side in sides])
        for sides in zip(*_MEETING, strict=True)
    )
    met = np.abs(first - second).mean()
    others = np.mean([np.abs(first - np.roll(second, k, axis=0)).mean() for k in range(1, 12)])
    return bool(met < _LEAST_DIFFERENCE or met < _FACES_DIFFER * others)


_MEETING = (
    ((0, "right", False), (1, "left", False)),
    ((1, "right", False), (2, "left", False)),
    ((2, "right", False), (3, "left", False)),
    ((3, "right", False), (0, "left", False)),
    ((4, "bottom", False), (0, "top", False)),
    ((4, "right", True), (1, "top", False)),
    ((4, "top", True), (2, "top", False)),
    ((4, "left", False), (3, "top", False)),
    ((5, "top", False), (0, "bottom", False)),
    ((5, "right", False), (1, "bottom", False)),
    ((5, "bottom", True), (2, "bottom", False)),
    ((5, "left", True), (3, "bottom", False)),
)
"""The twelve edges of a cube: of two faces the sides that meet, and which is read backwards."""


def _edge(face: Pixels, side: str, is_backwards: bool) -> Floats:
    """Return the colours along a side of a face, averaged to 8 places."""
    sides = {"top": face[0], "bottom": face[-1], "left": face[:, 0], "right": face[:, -1]}
    pixels = sides[side][::-1] if is_backwards else sides[side]
    places = np.array_split(pixels.astype(np.float64), min(8, len(pixels)))
    return np.stack([place.mean(axis=0) for place in places])
