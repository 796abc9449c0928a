"""Views and view layouts: which way each perspective picture of a panorama looks.

A `View` is one square pinhole picture, a `ViewLayout` the set of them. Both give rays in the
panorama's frame (`sphere.py`); nothing else in the package works out where a view looks.

Shapes: V views, h x w grid of pixels or tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import PanoVLMError
from .sphere import Floats, panorama_rays, wrap_deg

_ANGLE_TOLERANCE_DEG = 1e-6
_PROBES_PER_SIDE = 33
"""Points along a view's side at which its sharpness is probed; the corners are among them."""


@dataclass(frozen=True)
class View:
    """One square pinhole picture cut from a panorama.

    Attributes:
        yaw_deg: Where it looks, positive to the right.
        pitch_deg: Where it looks, positive up, in [-90, 90].
        roll_deg: Turn about its own line of sight; positive lowers the camera's right side.
        fov_deg: Angle between its left and right edge at mid height, in (0, 180).
    """

    yaw_deg: float
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    fov_deg: float = 90.0

    def __post_init__(self) -> None:
        if not 0.0 < self.fov_deg < 180.0:
            raise PanoVLMError(
                f"found a field of view of {self.fov_deg:g}°, expected more than 0° and less than "
                "180°; change fov_deg"
            )
        if not -90.0 <= self.pitch_deg <= 90.0:
            raise PanoVLMError(
                f"found a pitch of {self.pitch_deg:g}°, expected -90° to 90°; change pitch_deg"
            )

    def rays(self, height: int, width: int) -> Floats:
        """Give the unit rays of a grid of cell centres on the image plane.

        Cells are pixels or tokens: equally spaced on the plane (so tangent-spaced in angle), their
        centres at half-integers, row 0 at the top.

        Args:
            height: Rows of the grid, h.
            width: Columns of the grid, w.

        Returns:
            Unit vectors [h, w, 3] in the panorama's frame.
        """
        across = (np.arange(width) + 0.5) / width
        down = (np.arange(height) + 0.5) / height
        return self.rays_at(across[None, :], down[:, None])

    def rays_at(self, across: Floats, down: Floats) -> Floats:
        """Give the unit rays of points on the image plane.

        Args:
            across: Position from the left edge (0) to the right edge (1), any shape [...].
            down: Position from the top edge (0) to the bottom edge (1), broadcastable to `across`.

        Returns:
            Unit vectors [..., 3] in the panorama's frame.
        """
        points = self._plane_points(across, down)
        rays: Floats = points / np.linalg.norm(points, axis=-1, keepdims=True)
        return rays

    def places_of(self, rays: Floats) -> tuple[Floats, Floats]:
        """Give where rays meet the image plane, the inverse of `rays_at`.

        Args:
            rays: Vectors of any length [..., 3] in the panorama's frame.

        Returns:
            (across, down), each [...], from 0 to 1 inside the view; NaN for rays that point away
            from the plane.
        """
        right, up, forward = np.moveaxis(rays @ self.axes(), -1, 0)
        reach = np.where(forward > 0, forward, np.nan) * self._half_side
        return (right / reach + 1) / 2, (1 - up / reach) / 2

    def sees(self, rays: Floats) -> NDArray[np.bool_]:
        """Whether rays [..., 3] fall inside the view, border included, [...]."""
        across, down = self.places_of(rays)
        return (across >= 0) & (across <= 1) & (down >= 0) & (down <= 1)

    def finest_step_rad(self, view_size: int) -> float:
        """Give the smallest angle on the (yaw, pitch) chart that one pixel of the view steps over.

        A panorama whose pixels are no wider than this carries all the detail the view can show. For
        a level view of 90° it is reached in the corners.

        Args:
            view_size: Pixels along a side of the view.

        Returns:
            Radians per pixel: the smallest singular value, over the view, of the Jacobian of
            (yaw, pitch) by (pixel column, pixel row).
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
        """Give the right, up and forward axes as the columns of a rotation, [3, 3]."""
        yaw, pitch, roll = np.radians([self.yaw_deg, self.pitch_deg, self.roll_deg])
        rolled = np.array(
            [[np.cos(roll), np.sin(roll), 0], [-np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
        )
        pitched = np.array(
            [[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]]
        )
        turned = np.array(
            [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
        )
        axes: Floats = turned @ pitched @ rolled
        return axes


@dataclass(frozen=True)
class ViewLayout:
    """The views cut from every panorama, in the order of the V axis.

    Layouts are compared and hashed by value, so that maps can be cached per layout.

    Attributes:
        views: The V views.
        view_size: Pixels along a side of each view.
    """

    views: tuple[View, ...]
    view_size: int

    def __post_init__(self) -> None:
        if not self.views:
            raise PanoVLMError("found a view layout without views, expected one or more; add views")
        if self.view_size < 1:
            raise PanoVLMError(
                f"found a view size of {self.view_size} px, expected 1 or more; change view_size"
            )

    @classmethod
    def ring(
        cls,
        num_views: int = 8,
        fov_deg: float = 90.0,
        view_size: int = 224,
        pitches_deg: Sequence[float] = (0.0,),
    ) -> "ViewLayout":
        """Give views all around by increasing yaw, view 0 to the front, one row for each pitch.

        In a level row the right columns of view v look at the left columns of view v+1, and the
        last view's right neighbour is view 0.

        Args:
            num_views: Views in a row, 2 or more.
            fov_deg: Field of view of each, in (0, 180) degrees.
            view_size: Pixels along a side of each view.
            pitches_deg: Where the rows look, positive up, each in [-90, 90] degrees; a second row
                adds a ceiling or the ground.

        Raises:
            PanoVLMError: If a value is out of its range.
        """
        if num_views < 2:
            raise PanoVLMError(
                f"found a ring of {num_views} views, expected 2 or more; change num_views"
            )
        yaws_deg = [wrap_deg(index * 360.0 / num_views) for index in range(num_views)]
        looks = [(yaw_deg, pitch_deg) for pitch_deg in pitches_deg for yaw_deg in yaws_deg]
        return cls(tuple(View(yaw, pitch, fov_deg=fov_deg) for yaw, pitch in looks), view_size)

    @classmethod
    def cubemap(cls, view_size: int = 224) -> "ViewLayout":
        """Give the six faces of a cube, which see every direction once.

        In order: front, right, back, left, up, down; the last two have the front at their bottom
        and at their top, as one sees them bending the head.

        Args:
            view_size: Pixels along a side of each face.
        """
        around = [View(yaw_deg) for yaw_deg in (0.0, 90.0, 180.0, -90.0)]
        return cls((*around, View(0.0, 90.0), View(0.0, -90.0)), view_size)

    @property
    def num_views(self) -> int:
        """How many views, V."""
        return len(self.views)

    @property
    def yaws_deg(self) -> tuple[float, ...]:
        """Where the views look, V yaws in degrees."""
        return tuple(view.yaw_deg for view in self.views)

    @property
    def is_ring(self) -> bool:
        """Whether the views are level, alike, evenly spaced and ordered by yaw all around."""
        first, stride_deg = self.views[0], 360.0 / self.num_views
        level = first.pitch_deg == first.roll_deg == 0.0
        expected = (
            View(first.yaw_deg + i * stride_deg, fov_deg=first.fov_deg)
            for i in range(self.num_views)
        )
        return self.num_views > 1 and level and all(map(_look_alike, self.views, expected))

    @property
    def stride_deg(self) -> float:
        """Yaw from one view of a ring to the next, 360°/V.

        Raises:
            PanoVLMError: If the views are no even ring.
        """
        self._require_ring()
        return 360.0 / self.num_views

    @property
    def overlap_ratio(self) -> float:
        """Share of a view's angle its right neighbour sees too, (fov - stride)/fov, at least 0.

        Raises:
            PanoVLMError: If the views are no even ring.
        """
        fov_deg = self.views[0].fov_deg
        return max(0.0, (fov_deg - self.stride_deg) / fov_deg)

    def overlap_columns(self, columns: int) -> int:
        """Give how many of a view's columns belong to the overlap with one neighbour.

        Args:
            columns: Columns of the token or pixel grid, w.

        Returns:
            k = int(w * overlap_ratio).

        Raises:
            PanoVLMError: If no whole column is left, or the views are no even ring.
        """
        # The sliver keeps 15 * (1/3) from becoming 4 through rounding.
        overlap = int(columns * self.overlap_ratio + 1e-9)
        if overlap < 1:
            raise PanoVLMError(
                f"found an overlap of {self.overlap_ratio:.3g} of a view, which is no whole column "
                f"of {columns}, expected 1 or more; raise num_views ({self.num_views}) or fov_deg "
                f"({self.views[0].fov_deg:g})"
            )
        return overlap

    def rays(self, height: int, width: int) -> Floats:
        """Give the unit rays of every view's grid of cell centres, [V, height, width, 3]."""
        return np.stack([view.rays(height, width) for view in self.views])

    def coverage(self, rows: int = 360) -> float:
        """Give the share of the sphere that at least one view sees.

        Args:
            rows: Rows of the grid of directions it is counted on; each counts by its solid angle.
        """
        rays = panorama_rays(rows, 2 * rows)
        seen = np.any([view.sees(rays) for view in self.views], axis=0)
        solid_angle = np.hypot(rays[:, :1, 0], rays[:, :1, 2])  # cos of the row's pitch
        return float((seen * solid_angle).mean() / solid_angle.mean())

    def describe(self) -> str:
        """Give the layout in one line of text."""
        if self.is_ring:
            return (
                f"ring of {self.num_views} views of {self.view_size} px, "
                f"{self.views[0].fov_deg:g}° wide, {self.stride_deg:g}° apart, "
                f"neighbours share {self.overlap_ratio:.0%}"
            )
        places = ", ".join(f"({view.yaw_deg:g}°, {view.pitch_deg:g}°)" for view in self.views)
        return f"{self.num_views} views of {self.view_size} px at (yaw, pitch) {places}"

    def _require_ring(self) -> None:
        if not self.is_ring:
            raise PanoVLMError(
                f"found a view layout that is no even ring ({self.describe()}), expected level "
                "views equally spaced all around; use ViewLayout.ring where neighbours must overlap"
            )


def _look_alike(view: View, other: View) -> bool:
    """Whether two views look the same way through the same angle."""
    angles = (
        wrap_deg(view.yaw_deg - other.yaw_deg),
        view.pitch_deg - other.pitch_deg,
        view.roll_deg - other.roll_deg,
        view.fov_deg - other.fov_deg,
    )
    return all(abs(angle) < _ANGLE_TOLERANCE_DEG for angle in angles)
