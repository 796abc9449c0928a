"""How pictures of a part of the sphere lie on it, and projecting them onto a full sphere.

A projection computes where in its picture a direction is seen. `project_to_sphere` calls it for
every pixel of the sphere, so that cropping, cylinders and a tilted camera are undone by one
resampling.

Shapes: picture h x w, sphere H x 2H.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import cv2
import numpy as np

from panovlm.geometry.cutting import resize_by_area
from panovlm.geometry.sphere import (
    Floats,
    Mask,
    Pixels,
    column_yaws_rad,
    row_pitches_rad,
    with_pole_rows,
)
from panovlm.geometry.views import View

MAX_SPHERE_WIDTH = 8192
"""Columns of the widest sphere made: a small file cannot ask for much memory."""
_BAND_PIXELS = 1 << 18
"""Pixels of the sphere worked on at once; bounds the memory for angles."""
_MAX_SIDE = 32_000
"""OpenCV addresses the pixels of a source by 16 bits."""


@dataclass(frozen=True)
class Equirectangular:
    """A rectangle of an equirectangular panorama, in shares of the full one.

    Attributes:
        left: Its left edge, in [0, 1); a rectangle may reach across the seam.
        top: Its upper edge, 0 at the upper pole.
        width: Its width, in (0, 1]; 1 is 360°.
        height: Its height, in (0, 1]; 1 is 180°.
    """

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0

    @property
    def is_full_sphere(self) -> bool:
        """Whether nothing is missing."""
        return self == Equirectangular()

    def places(self, yaw_rad: Floats, pitch_rad: Floats) -> tuple[Floats, Floats]:
        """Compute where directions are seen, from 0 to 1 across and down; beyond it outside."""
        return _across(self, yaw_rad), (0.5 - pitch_rad / np.pi - self.top) / self.height


@dataclass(frozen=True)
class Cylindrical:
    """A cylindrical panorama: columns are equal angles, rows are equal steps of the tangent.

    Attributes:
        left: Its left edge as a share of 360°, in [0, 1); it may reach across the seam.
        width: Its width as a share of 360°, in (0, 1].
        upper_tangent: Tangent of the pitch at the upper edge.
        lower_tangent: Tangent of the pitch at the lower edge.
        is_full_sphere: False: a cylinder never reaches the poles.
    """

    left: float
    width: float
    upper_tangent: float
    lower_tangent: float
    is_full_sphere: ClassVar[bool] = False

    @property
    def height(self) -> float:
        """Share of the sphere's 180° between its edges."""
        return (math.atan(self.upper_tangent) - math.atan(self.lower_tangent)) / math.pi

    def places(self, yaw_rad: Floats, pitch_rad: Floats) -> tuple[Floats, Floats]:
        """Compute where directions are seen, from 0 to 1 across and down; beyond it outside."""
        # A pole is seen nowhere, and its tangent would be a number too large for the sampling.
        tangent = np.tan(np.clip(pitch_rad, -1.57, 1.57))
        reach = self.upper_tangent - self.lower_tangent
        return _across(self, yaw_rad), (self.upper_tangent - tangent) / reach


Projection = Equirectangular | Cylindrical


def _across(projection: Projection, yaw_rad: Floats) -> Floats:
    """Compute where yaws are seen from the left edge (0) to the right edge (1) and on around."""
    beyond = yaw_rad / (2 * np.pi) + (0.5 - projection.left)
    across: Floats = (beyond - np.floor(beyond)) / projection.width  # NumPy's % 1 is far slower
    return across


def camera_axes(pitch_deg: float, roll_deg: float) -> Floats:
    """Compute a tilted camera's right, up and forward axes as the columns of a rotation, [3, 3].

    Args:
        pitch_deg: Its pitch above the horizon.
        roll_deg: Its clockwise rotation about its optical axis after that, as it sees it: its
            right side is lowered, and the horizon in its picture rotates counter-clockwise.

    Source:
        The Euler angles of https://developers.google.com/streetview/spherical-metadata, without the
        heading: yaw 0 stays the direction the camera faced.
    """
    return View(0.0, pitch_deg, roll_deg).axes()


def is_addressable(picture: Pixels, projection: Projection) -> bool:
    """Check whether a picture's sides, reduced to the widest sphere made, can be addressed."""
    height, width = picture.shape[:2]
    factor = max(width / projection.width / MAX_SPHERE_WIDTH, 1.0)
    return max(height, width) / factor <= _MAX_SIDE


def project_to_sphere(
    picture: Pixels,
    projection: Projection,
    axes: Floats | None = None,
    min_width: int | None = None,
) -> tuple[Pixels, Mask | None]:
    """Project a picture of a part of the sphere to where it belongs, black elsewhere.

    The sphere has the picture's own resolution, but at most `MAX_SPHERE_WIDTH` columns; at whole
    columns and rows the pixels are copied exactly.

    Args:
        picture: uint8 [h, w, 3].
        projection: How it lies on the sphere.
        axes: The camera's axes [3, 3] as its columns, see `camera_axes`; None is a level one.
        min_width: Columns of the sphere that are enough. A picture of twice as many is reduced
            first; None keeps them.

    Returns:
        uint8 [H, 2H, 3] and where the picture shows, bool [H, 2H]; None for all of it.
    """
    own_width = picture.shape[1] / projection.width
    width = _sphere_width(own_width, projection, min_width)
    height = max(round(width / 2), 1)
    source = _with_border(_reduce(picture, width / own_width), projection)
    sphere = np.empty((height, 2 * height, 3), np.uint8)
    mask = np.empty((height, 2 * height), np.bool_)
    for band, yaw_rad, pitch_rad in sphere_bands(height):
        angles = _camera_angles(yaw_rad, pitch_rad, axes)
        sphere[band], mask[band] = _project_band(source, projection, *angles)
    return sphere, None if projection.is_full_sphere else mask


def sphere_bands(height: int) -> Iterator[tuple[slice, Floats, Floats]]:
    """Yield bands of the rows of a sphere H x 2H, with yaws [1, 2H] and pitches [rows, 1]."""
    yaw_rad = column_yaws_rad(2 * height)[None]
    num_rows = max(_BAND_PIXELS // (2 * height), 1)
    for top in range(0, height, num_rows):
        rows = slice(top, min(top + num_rows, height))
        yield rows, yaw_rad, row_pitches_rad(height, rows)[:, None]


def _camera_angles(
    yaw_rad: Floats, pitch_rad: Floats, axes: Floats | None
) -> tuple[Floats, Floats]:
    """Convert yaws [1, W] and pitches [h, 1] of the level sphere to a tilted camera's.

    The rays are `rays_from_angles(yaw_rad, pitch_rad) @ axes`; here each of their components is a
    sum of two outer products, which is many times faster.
    """
    if axes is None:
        return yaw_rad, pitch_rad
    level, rise = np.cos(pitch_rad), np.sin(pitch_rad)
    right, up, forward = (
        level * (np.sin(yaw_rad) * axis[0] + np.cos(yaw_rad) * axis[2]) + rise * axis[1]
        for axis in axes.T
    )
    return np.arctan2(right, forward), np.arctan2(up, np.sqrt(right**2 + forward**2))


def _project_band(
    source: Pixels, projection: Projection, yaw_rad: Floats, pitch_rad: Floats
) -> tuple[Pixels, Mask]:
    """Sample a picture with a border of one pixel at some angles, and where they lie inside."""
    across, down = np.broadcast_arrays(*projection.places(yaw_rad, pitch_rad))
    if projection.is_full_sphere:
        inside = np.ones(across.shape, np.bool_)
    else:
        inside = (across <= 1) & (down >= 0) & (down <= 1)
    if not inside.any():
        return np.zeros((*inside.shape, 3), np.uint8), inside
    height, width = source.shape[0] - 2, source.shape[1] - 2
    columns = np.clip(across, 0, 1) * width + 0.5  # half a pixel back, and one for the border
    rows = np.clip(down, 0, 1) * height + 0.5
    band = sample_bilinear(source, columns, rows)
    band[~inside] = 0
    return band, inside


def sample_bilinear(picture: Pixels, columns: Floats, rows: Floats) -> Pixels:
    """Sample a picture at places [...] counted from its first pixel centre, [..., 3]."""
    sampled = cv2.remap(
        picture, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR
    )
    return sampled.astype(np.uint8, copy=False)


def _sphere_width(own_width: float, projection: Projection, min_width: int | None) -> float:
    """Choose the columns of the sphere for a picture that has enough for `own_width`."""
    # The picture must not vanish on a sphere that is only made to prove that it can be read.
    least = 4 / min(projection.width, projection.height)
    wanted = own_width if min_width is None else max(min_width, least)
    return min(wanted if own_width >= 2 * wanted else own_width, MAX_SPHERE_WIDTH)


def _reduce(picture: Pixels, factor: float) -> Pixels:
    """Average a picture down by a factor of at most 1."""
    if factor >= 1.0:
        return picture
    return resize_by_area(picture, *(max(1, round(side * factor)) for side in picture.shape[:2]))


def _with_border(picture: Pixels, projection: Projection) -> Pixels:
    """Add a pixel all around a picture: what lies there on the sphere, or else its border."""
    if projection.is_full_sphere:
        rows = with_pole_rows(picture)
    else:
        rows = np.pad(picture, ((1, 1), (0, 0), (0, 0)), "edge")
    sides: Literal["wrap", "edge"] = "wrap" if projection.width == 1.0 else "edge"
    return np.pad(rows, ((0, 0), (1, 1), (0, 0)), sides)
