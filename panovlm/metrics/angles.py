"""Errors of directions: wrapped, on the sphere, in sectors and in hours of a clock."""

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


def sectors_apart(yaw_deg: float, right_deg: float) -> int:
    """Give how many 45° sectors lie between two yaws, 0 to 4."""
    steps = (direction_index(yaw_deg) - direction_index(right_deg)) % 8
    return min(steps, 8 - steps)


def clock_hour(yaw_deg: float) -> int:
    """Give the hour, 1 to 12, nearest to a yaw on a clock whose 12 is straight ahead."""
    return int(np.floor(yaw_deg / 30.0 + 0.5)) % 12 or 12


def yaw_of_clock_deg(hour: float) -> float:
    """Give the yaw of an hour on a clock whose 12 is straight ahead, in (-180, 180]."""
    return wrap_deg(hour % 12 * 30.0)
