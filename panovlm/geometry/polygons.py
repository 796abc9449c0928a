"""Convex polygons on the sphere: corners joined by great circles, clockwise as seen from inside.

Every side is shorter than 180°. Corners are unit vectors [M, 3]; side m goes from corner m to the
next.
"""

import numpy as np

from panovlm.geometry.sphere import Floats, angles_from_rays

_SLIVER = 1e-9
"""Radians that count as nothing."""


def side_normals(corners: Floats) -> Floats:
    """Compute the unit normals of the planes of the sides, pointing inwards, [M, 3]."""
    normals = np.cross(np.roll(corners, -1, axis=0), corners)
    lengths: Floats = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(normals / lengths)


def clip_polygon(corners: Floats, normal: Floats) -> Floats:
    """Cut a polygon to the half of the sphere that a normal of any length [3] points to.

    Returns:
        The corners of what is left, [M', 3]; none where nothing is.
    """
    kept: list[Floats] = []
    above = corners @ normal
    for place, corner in enumerate(corners):
        if above[place] >= 0:
            kept.append(corner)
        following = (place + 1) % len(corners)
        if above[place] * above[following] < 0:
            met = corner * abs(above[following]) + corners[following] * abs(above[place])
            kept.append(met / np.linalg.norm(met))
    return np.array(kept).reshape(-1, 3)


def polygon_area_sr(corners: Floats) -> float:
    """Compute the area of a polygon in steradians; fewer than three corners have none.

    Source:
        Van Oosterom and Strackee, "The Solid Angle of a Plane Triangle", 1983, for each triangle of
        a fan; exact for the smallest areas too.
    """
    if len(corners) < 3:
        return 0.0
    first, second, third = corners[0], corners[1:-1], corners[2:]
    volume = np.abs(np.cross(second, third) @ first)
    spread = 1 + second @ first + third @ first + (second * third).sum(axis=1)
    return float(np.sum(2 * np.arctan2(volume, spread)))


def yaw_range_rad(corners: Floats) -> tuple[float, float]:
    """Compute the yaw where a polygon begins on its left and how far it reaches to the right.

    Returns:
        Left yaw in [-π, π] and width in (0, 2π], in radians; a polygon that holds a pole, on its
        border too, goes all around.
    """
    if _holds_pole(corners, 1) or _holds_pole(corners, -1):
        return -np.pi, 2 * np.pi
    yaw_rad, _ = angles_from_rays(corners)
    # Along a side yaw only rises or only falls, by less than 180°: the corners bound it.
    steps = (np.diff(yaw_rad) + np.pi) % (2 * np.pi) - np.pi
    along = np.concatenate([[0.0], np.cumsum(steps)])
    left_rad = float(yaw_rad[0] + along.min())
    return (left_rad + np.pi) % (2 * np.pi) - np.pi, float(along.max() - along.min())


def pitch_range_rad(corners: Floats) -> tuple[float, float]:
    """Compute the lowest and the highest pitch that a polygon reaches, in radians.

    A side is highest at a corner or, where it passes it, at the apex of its great circle.
    """
    normals, following = side_normals(corners), np.roll(corners, -1, axis=0)
    apexes = np.array([0.0, 1.0, 0.0]) - normals * normals[:, 1:2]
    tilted = np.linalg.norm(apexes, axis=1) > _SLIVER  # the equator has no apex
    points = [corners]
    for extremes in (apexes, -apexes):
        behind = np.sum(np.cross(extremes, corners) * normals, axis=1) >= 0
        ahead = np.sum(np.cross(following, extremes) * normals, axis=1) >= 0
        points.append(extremes[tilted & behind & ahead])
    _, pitch_rad = angles_from_rays(np.concatenate(points))
    lowest = -np.pi / 2 if _holds_pole(corners, -1) else float(pitch_rad.min())
    highest = np.pi / 2 if _holds_pole(corners, 1) else float(pitch_rad.max())
    return lowest, highest


def _holds_pole(corners: Floats, up: int) -> bool:
    """Check whether the upper (1) or lower (-1) pole lies in a polygon or on its border."""
    return bool(np.all(side_normals(corners)[:, 1] * up >= -_SLIVER))
