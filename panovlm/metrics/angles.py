"""Errors of directions: wrapped, on the sphere and in sectors."""

import numpy as np

from panovlm.geometry.sphere import (
    DIRECTIONS,
    angles_between,
    direction_index,
    rays_from_angles,
    wrap_deg,
)


def yaw_error_deg(yaw_deg: float, right_deg: float) -> float:
    """Give how far a yaw is from the right one the short way around, in [0, 180] degrees."""
    return abs(wrap_deg(yaw_deg - right_deg))


def great_circle_error_deg(
    yaw_deg: float, pitch_deg: float, right_yaw_deg: float, right_pitch_deg: float
) -> float:
    """Give the angle between two directions, in [0, 180] degrees."""
    angles = np.radians([[yaw_deg, pitch_deg], [right_yaw_deg, right_pitch_deg]])
    rays = rays_from_angles(angles[:, 0], angles[:, 1])
    return float(np.degrees(angles_between(rays[0], rays[1])))


def sector(yaw_deg: float) -> str:
    """Give the word of the 45° sector that holds a yaw, one of `DIRECTIONS`."""
    return DIRECTIONS[direction_index(yaw_deg)]
