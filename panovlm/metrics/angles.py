"""Errors of directions: wrapped, on the sphere and in sectors."""

import numpy as np

from panovlm.geometry.sphere import (
    DIRECTIONS,
    angles_between,
    direction_index,
    rays_from_angles,
    wrap_deg,
)


def yaw_error_deg(yaw_deg: float, correct_deg: float) -> float:
    """Compute how far a yaw is from the correct one the short way around, in [0, 180] degrees."""
    return abs(wrap_deg(yaw_deg - correct_deg))


def great_circle_error_deg(
    yaw_deg: float, pitch_deg: float, correct_yaw_deg: float, correct_pitch_deg: float
) -> float:
    """Compute the angle between two directions, in [0, 180] degrees."""
    angles = np.radians([[yaw_deg, pitch_deg], [correct_yaw_deg, correct_pitch_deg]])
    rays = rays_from_angles(angles[:, 0], angles[:, 1])
    return float(np.degrees(angles_between(rays[0], rays[1])))


def sector(yaw_deg: float) -> str:
    """Return the word of the 45° sector that holds a yaw, one of `DIRECTIONS`."""
    return DIRECTIONS[direction_index(yaw_deg)]
