"""How pictures of a part of the sphere lie on it, and drawing them as a full sphere.

A projection says where in its picture a direction is seen. Drawing asks it for every pixel of the
sphere, so that cropping, cylinders and a tilted camera are undone by one resampling.

Shapes: picture h x w, sphere H x 2H.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from panovlm.geometry.sphere import Floats, Pixels
from panovlm.geometry.views import View

MAX_DRAWN_WIDTH = 8192
"""Columns of the widest sphere that is drawn: a small file cannot ask for much memory."""
_BAND_PIXELS = 1 << 18
"""Pixels drawn at once; bounds the memory for angles."""
_MAX_SIDE = 32_000
"""OpenCV addresses the pixels of a source by 16 bits."""


@dataclass(frozen=True)
class Patch:
    """A rectangle of an equirectangular panorama, in shares of the full one.

    Attributes:
        left: Its left edge, in [0, 1); a patch may reach across the seam.
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
        return self == Patch()

    def places(self, yaw_rad: Floats, pitch_rad: Floats) -> tuple[Floats, Floats]:
        """Give where directions are seen, from 0 to 1 across and down; outside of it beyond."""
        return _across(self, yaw_rad), (0.5 - pitch_rad / np.pi - self.top) / self.height


@dataclass(frozen=True)
class Cylinder:
    """A cylindrical panorama: columns are equal angles, rows are equal steps of the tangent.

    Attributes:
        left: Its left edge as a share of the turn, in [0, 1); it may reach across the seam.
        width: Its width as a share of the turn, in (0, 1].
        upper_tangent: Tangent of the pitch at the upper edge.
        lower_tangent: Tangent of the pitch at the lower edge.
    """

    left: float
    width: float
    upper_tangent: float
    lower_tangent: float

    @property
    def height(self) -> float:
        """Share of the sphere's 180° between its edges."""
        return (math.atan(self.upper_tangent) - math.atan(self.lower_tangent)) / math.pi

    @property
    def is_full_sphere(self) -> bool:
        """False: a cylinder never reaches the poles."""
        return False

    def places(self, yaw_rad: Floats, pitch_rad: Floats) -> tuple[Floats, Floats]:
        """Give where directions are seen, from 0 to 1 across and down; outside of it beyond."""
        # A pole is seen nowhere, and its tangent would be a number too large for the sampling.
        tangent = np.tan(np.clip(pitch_rad, -1.57, 1.57))
        reach = self.upper_tangent - self.lower_tangent
        return _across(self, yaw_rad), (self.upper_tangent - tangent) / reach


Projection = Patch | Cylinder


def _across(projection: Projection, yaw_rad: Floats) -> Floats:
    """Give where yaws are seen from the left edge (0) to the right edge (1), on around the turn."""
    beyond = yaw_rad / (2 * np.pi) + (0.5 - projection.left)
    across: Floats = (beyond - np.floor(beyond)) / projection.width  # NumPy's % 1 is far slower
    return across


def camera_axes(pitch_deg: float, roll_deg: float) -> Floats:
    """Give a tilted camera's right, up and forward axes as the columns of a rotation, [3, 3].

    Args:
        pitch_deg: How far above the horizon it looks.
        roll_deg: How far it is then turned clockwise about its line of sight, as it sees it: its
            right side is lowered, and the horizon in its picture turns counter-clockwise.

    Source:
        The Euler angles of https://developers.google.com/streetview/spherical-metadata, without the
        heading: yaw 0 stays the direction the camera faced.
    """
    return View(0.0, pitch_deg, roll_deg).axes()


def fits(picture: Pixels, projection: Projection) -> bool:
    """Whether a picture's sides, reduced to the widest sphere drawn, can be addressed."""
    height, width = picture.shape[:2]
    factor = max(width / projection.width / MAX_DRAWN_WIDTH, 1.0)
    return max(height, width) / factor <= _MAX_SIDE


def draw_sphere(
    picture: Pixels,
    projection: Projection,
    axes: Floats | None = None,
    min_width: int | None = None,
) -> tuple[Pixels, NDArray[np.bool_] | None]:
    """Draw a picture of a part of the sphere where it belongs, black elsewhere.

    The sphere has the picture's own resolution, but at most `MAX_DRAWN_WIDTH` columns; at whole
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
    width = _drawn_width(own_width, projection, min_width)
    height = max(round(width / 2), 1)
    source = _continued(_reduced(picture, width / own_width), projection)
    sphere = np.empty((height, 2 * height, 3), np.uint8)
    mask = np.empty((height, 2 * height), np.bool_)
    yaw_rad = ((np.arange(2 * height) + 0.5) / (2 * height) - 0.5) * 2 * np.pi
    rows = max(_BAND_PIXELS // (2 * height), 1)
    for top in range(0, height, rows):
        band = slice(top, min(top + rows, height))
        pitch_rad = (0.5 - (np.arange(band.start, band.stop) + 0.5) / height) * np.pi
        angles = _seen_angles(yaw_rad[None], pitch_rad[:, None], axes)
        sphere[band], mask[band] = _drawn_band(source, projection, *angles)
    return sphere, None if projection.is_full_sphere else mask


def _seen_angles(yaw_rad: Floats, pitch_rad: Floats, axes: Floats | None) -> tuple[Floats, Floats]:
    """Turn directions of the level sphere into the camera's yaw and pitch.

    The rays are `rays_from_angles(yaw_rad, pitch_rad) @ axes`; here each of their components is a
    sum of two outer products, which is many times faster.

    Args:
        yaw_rad: Of the columns, [1, W].
        pitch_rad: Of the rows, [h, 1].
        axes: The camera's axes [3, 3] as its columns; None is a level camera.
    """
    if axes is None:
        return yaw_rad, pitch_rad
    level, rise = np.cos(pitch_rad), np.sin(pitch_rad)
    right, up, forward = (
        level * (np.sin(yaw_rad) * axis[0] + np.cos(yaw_rad) * axis[2]) + rise * axis[1]
        for axis in axes.T
    )
    return np.arctan2(right, forward), np.arctan2(up, np.sqrt(right**2 + forward**2))


def _drawn_band(
    source: Pixels, projection: Projection, yaw_rad: Floats, pitch_rad: Floats
) -> tuple[Pixels, NDArray[np.bool_]]:
    """Draw the pixels that look at some angles from a picture continued by a pixel around."""
    across, down = np.broadcast_arrays(*projection.places(yaw_rad, pitch_rad))
    if projection.is_full_sphere:
        inside = np.ones(across.shape, np.bool_)
    else:
        inside = (across <= 1) & (down >= 0) & (down <= 1)
    if not inside.any():
        return np.zeros((*inside.shape, 3), np.uint8), inside
    height, width = source.shape[0] - 2, source.shape[1] - 2
    columns = np.clip(across, 0, 1) * width + 0.5  # half a pixel back, and one for the border
    lines = np.clip(down, 0, 1) * height + 0.5
    band = cv2.remap(
        source, columns.astype(np.float32), lines.astype(np.float32), cv2.INTER_LINEAR
    ).astype(np.uint8, copy=False)
    band[~inside] = 0
    return band, inside


def _drawn_width(own_width: float, projection: Projection, min_width: int | None) -> float:
    """Give the columns of the sphere to draw for a picture that has enough for `own_width`."""
    # The picture must not vanish on a sphere that is only drawn to prove that it can be read.
    least = 4 / min(projection.width, projection.height)
    wanted = own_width if min_width is None else max(min_width, least)
    return min(wanted if own_width >= 2 * wanted else own_width, MAX_DRAWN_WIDTH)


def _reduced(picture: Pixels, factor: float) -> Pixels:
    """Average a picture down by a factor of at most 1."""
    height, width = picture.shape[:2]
    if factor >= 1.0:
        return picture
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _continued(picture: Pixels, projection: Projection) -> Pixels:
    """Add a pixel all around a picture: what lies there on the sphere, or else its border."""
    sideways = cv2.BORDER_WRAP if projection.width == 1.0 else cv2.BORDER_REPLICATE
    framed = cv2.copyMakeBorder(picture, 1, 1, 0, 0, cv2.BORDER_REPLICATE)
    if projection.is_full_sphere:  # the row beyond a pole is the same row on the other side
        half_turn = picture.shape[1] // 2
        framed[0], framed[-1] = (np.roll(picture[row], half_turn, axis=0) for row in (0, -1))
    return cv2.copyMakeBorder(framed, 0, 0, 1, 1, sideways).astype(np.uint8, copy=False)
