"""Views: the direction and the field of view of each square picture made from a panorama.

A `View` is a pinhole picture, a `GlobalView` the whole sphere; `layouts.py` has the sets of them.
Both compute rays in the panorama's frame (`sphere.py`); nothing else computes where a view lies.

Shapes: h x w grid of pixels or tokens.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import Floats, Mask, angles_from_rays, rays_from_angles

_BORDER_TOLERANCE = 1e-12
"""Of a view's side: a ray on the border of two views must not slip between them by rounding."""
_PROBES_PER_SIDE = 33
"""Points along a view's side at which its sharpness is probed; the corners are among them."""


class _SquareView(ABC):
    """What both kinds of view compute; positions run from 0 to 1 across and down the picture."""

    @abstractmethod
    def rays_at(self, across: Floats, down: Floats) -> Floats:
        """Compute the unit rays of points of the picture.

        Args:
            across: Position from the left border (0) to the right border (1), any shape [...].
            down: Position from the top border (0) to the bottom border (1), broadcastable to it.

        Returns:
            Unit vectors [..., 3] in the panorama's frame.
        """

    @abstractmethod
    def places_of(self, rays: Floats) -> tuple[Floats, Floats]:
        """Compute where rays meet the picture, the inverse of `rays_at`.

        Args:
            rays: Vectors of any length [..., 3] in the panorama's frame.

        Returns:
            (across, down), each [...], from 0 to 1 inside the view.
        """

    @abstractmethod
    def sees(self, rays: Floats) -> Mask:
        """Check whether rays [..., 3] fall inside the view, border included, [...]."""

    @abstractmethod
    def finest_step_rad(self, view_size: int) -> float:
        """Compute the smallest angle on the (yaw, pitch) chart that one pixel steps over.

        A panorama whose pixels are no wider than this carries all the detail the view can show.

        Args:
            view_size: Pixels along a side of the view.

        Returns:
            Radians per pixel.
        """

    def rays(self, height: int, width: int) -> Floats:
        """Compute the unit rays of a grid of pixels or tokens, from their centres.

        Args:
            height: Rows of the grid, h, row 0 at the top.
            width: Columns of the grid, w.

        Returns:
            Unit vectors [h, w, 3] in the panorama's frame.
        """
        across, down = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
        return self.rays_at(across[None, :], down[:, None])


@dataclass(frozen=True)
class View(_SquareView):
    """One square pinhole picture cut from a panorama.

    Its pixels are equally spaced on the image plane, so tangent-spaced in angle.

    Attributes:
        yaw_deg: Direction of its centre, positive to the right.
        pitch_deg: Direction of its centre, positive up, in [-90, 90].
        roll_deg: Rotation about its optical axis; positive lowers the camera's right side.
        fov_deg: Angle between its left and right edge at mid height, in (0, 180).
        is_global: False: it has four borders and sees what lies between them.
    """

    yaw_deg: float
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    fov_deg: float = 90.0
    is_global: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _require_finite("yaw", self.yaw_deg)
        _require_finite("roll", self.roll_deg)
        if not 0.0 < self.fov_deg < 180.0:
            raise PanoVLMError(
                f"found a field of view of {self.fov_deg:g}°, expected more than 0° and less than "
                "180°; change fov_deg"
            )
        require_pitch(self.pitch_deg)

    def rays_at(self, across: Floats, down: Floats) -> Floats:
        """Compute the unit rays of points of the image plane, [..., 3]."""
        points = self._plane_points(across, down)
        rays: Floats = points / np.linalg.norm(points, axis=-1, keepdims=True)
        return rays

    def places_of(self, rays: Floats) -> tuple[Floats, Floats]:
        """Compute where rays meet the image plane; NaN for rays that point away from it."""
        right, up, forward = np.moveaxis(rays @ self.axes(), -1, 0)
        reach = np.where(forward > 0, forward, np.nan) * self._half_side
        return (right / reach + 1) / 2, (1 - up / reach) / 2

    def sees(self, rays: Floats) -> Mask:
        """Check whether rays [..., 3] fall inside the view, border included, [...]."""
        low, high = -_BORDER_TOLERANCE, 1 + _BORDER_TOLERANCE
        across, down = self.places_of(rays)
        return (across >= low) & (across <= high) & (down >= low) & (down <= high)

    def finest_step_rad(self, view_size: int) -> float:
        """Compute the smallest step of a pixel; a level view of 90° has it in the corners.

        It is the smallest singular value, over the view, of the Jacobian of (yaw, pitch) by
        (pixel column, pixel row).
        """
        side = np.linspace(0.0, 1.0, _PROBES_PER_SIDE)
        x, y, z = np.moveaxis(self._plane_points(side[None, :], side[:, None]), -1, 0)
        level_squared = x**2 + z**2
        away_from_pole = level_squared > 1e-9  # yaw has no derivative at a pole
        x, y, z, level_squared = (part[away_from_pole] for part in (x, y, z, level_squared))
        pixel = 2 * self._half_side / view_size
        steps = self.axes()[:, :2].T * pixel  # one pixel to the right, one pixel up
        yaw_steps = [(z * dx - x * dz) / level_squared for dx, _, dz in steps]
        pitch_steps = [
            (dy * level_squared - y * (x * dx + z * dz))
            / ((level_squared + y**2) * np.sqrt(level_squared))
            for dx, dy, dz in steps
        ]
        jacobian = np.moveaxis(np.array([yaw_steps, pitch_steps]), -1, 0)
        return float(np.linalg.svd(jacobian, compute_uv=False)[:, -1].min())

    @property
    def _half_side(self) -> float:
        """Half the side of the image plane at distance 1."""
        return float(np.tan(np.radians(self.fov_deg) / 2))

    def _plane_points(self, across: Floats, down: Floats) -> Floats:
        """Place points of the unit square on the image plane at distance 1, [..., 3]."""
        right, up = np.broadcast_arrays(2 * across - 1, 1 - 2 * down)
        forward = np.ones(right.shape)
        local = np.stack([right * self._half_side, up * self._half_side, forward], axis=-1)
        points: Floats = local @ self.axes().T
        return points

    def axes(self) -> Floats:
        """Compute the right, up and forward axes as the columns of a rotation, [3, 3]."""
        yaw, pitch, roll = np.radians([self.yaw_deg, self.pitch_deg, self.roll_deg])
        about_z = np.array(
            [[np.cos(roll), np.sin(roll), 0], [-np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
        )
        about_x = np.array(
            [[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]]
        )
        about_y = np.array(
            [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
        )
        axes: Floats = about_y @ about_x @ about_z
        return axes


@dataclass(frozen=True)
class GlobalView(_SquareView):
    """The whole equirectangular panorama scaled to one square picture.

    It shows everything at low resolution: a column spans twice the angle of a row. Its left and
    right border are one and the same meridian, behind it, and the picture repeats beyond them.

    Attributes:
        yaw_deg: What lies in its middle column, positive to the right.
        pitch_deg: 0, the pitch of its middle row.
        roll_deg: 0.
        fov_deg: 360, the angle between its left and right border at mid height.
        is_global: True: it sees every direction and wraps around from its right to its left border.
    """

    yaw_deg: float = 0.0
    pitch_deg: ClassVar[float] = 0.0
    roll_deg: ClassVar[float] = 0.0
    fov_deg: ClassVar[float] = 360.0
    is_global: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require_finite("yaw", self.yaw_deg)

    def rays_at(self, across: Floats, down: Floats) -> Floats:
        """Compute the unit rays of points of the picture, equally spaced in yaw and pitch."""
        yaw_rad = np.radians(self.yaw_deg) + (across - 0.5) * 2 * np.pi
        return rays_from_angles(yaw_rad, (0.5 - down) * np.pi)

    def places_of(self, rays: Floats) -> tuple[Floats, Floats]:
        """Compute where rays meet the picture: across in [0, 1), down in [0, 1]."""
        yaw_rad, pitch_rad = angles_from_rays(rays)
        across = (yaw_rad - np.radians(self.yaw_deg)) / (2 * np.pi) + 0.5
        across = across - np.floor(across)
        # A sliver left of the border rounds up to 1, which is the left border.
        return np.where(across < 1.0, across, 0.0), 0.5 - pitch_rad / np.pi

    def sees(self, rays: Floats) -> Mask:
        """Return True for all rays [..., 3], [...]."""
        return np.ones(rays.shape[:-1], np.bool_)

    def finest_step_rad(self, view_size: int) -> float:
        """Compute the step of a row, half that of a column."""
        return np.pi / view_size


AnyView = View | GlobalView
"""What a layout is made of."""


def require_pitch(pitch_deg: float) -> None:
    """Raise a PanoVLMError for a pitch beyond the poles."""
    if not -90.0 <= pitch_deg <= 90.0:
        raise PanoVLMError(
            f"found a pitch of {pitch_deg:g}°, expected -90° to 90°; change pitch_deg"
        )


def _require_finite(name: str, angle_deg: float) -> None:
    if not math.isfinite(angle_deg):
        raise PanoVLMError(
            f"found a {name} of {angle_deg:g}°, expected a finite number; change {name}_deg"
        )
