"""The one convention for angles: pixels, yaw and pitch, rays and direction words.

Camera frame: x right, y up, z forward. Yaw 0 is the centre column of the panorama, positive to the
right, in (-180, 180]; pitch is positive up. Pixel centres lie at half-integers.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Picture = TypeVar("Picture", bound=NDArray[np.generic])

DIRECTIONS = (
    "front",
    "front-right",
    "right",
    "back-right",
    "back",
    "back-left",
    "left",
    "front-left",
)
"""The eight 45° sectors of yaw, clockwise from the front."""


def wrap_deg(yaw_deg: float) -> float:
    """Return the same yaw in (-180, 180] degrees."""
    wrapped = 180.0 - (180.0 - yaw_deg) % 360.0
    return 180.0 if wrapped == -180.0 else wrapped  # a sliver over 180 leaves a remainder of 360


def direction_index(yaw_deg: float) -> int:
    """Return the index into `DIRECTIONS` of the 45° sector that holds a yaw."""
    return int(np.floor(yaw_deg / 45.0 + 0.5)) % 8


def rays_from_angles(yaw_rad: Floats, pitch_rad: Floats) -> Floats:
    """Convert yaw and pitch to unit rays.

    Args:
        yaw_rad: Any shape [...], radians.
        pitch_rad: Broadcastable to `yaw_rad`, radians in [-π/2, π/2].

    Returns:
        Unit vectors [..., 3] as (x right, y up, z forward).
    """
    yaw_rad, pitch_rad = np.broadcast_arrays(yaw_rad, pitch_rad)
    level = np.cos(pitch_rad)
    return np.stack([np.sin(yaw_rad) * level, np.sin(pitch_rad), np.cos(yaw_rad) * level], axis=-1)


def angles_from_rays(rays: Floats) -> tuple[Floats, Floats]:
    """Convert rays of any length [..., 3] to (yaw, pitch) in radians, each [...]."""
    x, y, z = np.moveaxis(rays, -1, 0)
    return np.arctan2(x, z), np.arctan2(y, np.hypot(x, z))


def angles_between(rays: Floats, others: Floats) -> Floats:
    """Compute the great-circle distance of rays of any length, in radians, in [0, π].

    Args:
        rays: Vectors [..., 3].
        others: Vectors broadcastable to them.

    Source:
        The arc tangent of cross and dot product keeps its precision at small and at large angles,
        unlike the arc cosine: Vincenty's formula for the sphere.
    """
    across = np.linalg.norm(np.cross(rays, others), axis=-1)
    distance: Floats = np.arctan2(across, np.sum(rays * others, axis=-1))
    return distance


def column_yaws_rad(width: int) -> Floats:
    """Compute the yaw of every column of an equirectangular picture, [width]."""
    return np.asarray(((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi)


def row_pitches_rad(height: int, rows: slice = slice(None)) -> Floats:
    """Compute the pitch of the rows of an equirectangular picture of a height, [rows chosen]."""
    return np.asarray((0.5 - (np.arange(height)[rows] + 0.5) / height) * np.pi)


def panorama_rays(height: int, width: int) -> Floats:
    """Compute the unit ray of every pixel centre of a panorama, [height, width, 3]."""
    return rays_from_angles(column_yaws_rad(width)[None, :], row_pitches_rad(height)[:, None])


def angles_to_pixels(
    yaw_rad: Floats, pitch_rad: Floats, height: int, width: int
) -> tuple[Floats, Floats]:
    """Compute where angles lie in a panorama, as (column, row) counted from pixel centres."""
    columns = (yaw_rad / (2 * np.pi) + 0.5) * width - 0.5
    return columns, (0.5 - pitch_rad / np.pi) * height - 0.5


def with_pole_rows(picture: Picture) -> Picture:
    """Add the row beyond each pole to a panorama [H, W, ...]: the outermost row's other side."""
    half_circle = picture.shape[1] // 2
    above, below = (np.roll(row, half_circle, axis=1) for row in (picture[:1], picture[-1:]))
    return np.concatenate([above, picture, below])  # type: ignore[return-value]
