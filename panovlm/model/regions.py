"""Regions of the sphere: where something is, as (yaw, pitch, width, height) of a field of view.

A bounding field of view is what a camera that looks at a thing just holds. Its four sides are great
circles, so it has no seam, no poles and no stretched rows, and its overlap with another is exact.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import PanoVLMError
from .sphere import Floats, angles_from_rays
from .views import View


@dataclass(frozen=True)
class Region:
    """A bounding field of view.

    Attributes:
        yaw_deg: Of its middle, positive to the right.
        pitch_deg: Of its middle, positive up, in [-90, 90].
        width_deg: Angle between the middles of its left and right side, in (0, 180).
        height_deg: Angle between the middles of its upper and lower side, in (0, 180).
    """

    yaw_deg: float
    pitch_deg: float
    width_deg: float
    height_deg: float

    def __post_init__(self) -> None:
        for name in ("width_deg", "height_deg"):
            if not 0.0 < getattr(self, name) < 180.0:
                raise PanoVLMError(
                    f"found a region of {name} = {getattr(self, name):g}, expected more than 0 and "
                    f"less than 180; change {name}"
                )
        if not -90.0 <= self.pitch_deg <= 90.0:
            raise PanoVLMError(
                f"found a pitch of {self.pitch_deg:g}°, expected -90° to 90°; change pitch_deg"
            )

    @classmethod
    def around(cls, rays: Floats) -> "Region":
        """Give the field of view that looks at the mean of rays [M, 3] and just holds them all.

        Raises:
            PanoVLMError: If a ray lies 90° or more from their mean.
        """
        yaw_rad, pitch_rad = angles_from_rays(rays.mean(axis=0))
        yaw_deg, pitch_deg = float(np.degrees(yaw_rad)), float(np.degrees(pitch_rad))
        places = np.stack(View(yaw_deg, pitch_deg).places_of(rays))  # 90° wide: tangents of 45°
        if np.isnan(places).any():
            raise PanoVLMError(
                "found points more than 90° from their middle, expected points on one side of the "
                "sphere; split them"
            )
        half_width, half_height = np.abs(2 * places - 1).max(axis=1)
        width_deg, height_deg = (
            2 * float(np.degrees(np.arctan(half))) for half in (half_width, half_height)
        )
        return cls(yaw_deg, pitch_deg, width_deg, height_deg)

    def outline(self, points_per_side: int = 1) -> Floats:
        """Give unit rays along the border, clockwise from the upper left, [4·points, 3]."""
        side = np.arange(points_per_side) / points_per_side
        low, high = np.zeros(points_per_side), np.ones(points_per_side)
        across = np.concatenate([side, high, 1 - side, low])
        down = np.concatenate([low, side, high, 1 - side])
        right, lower = (
            (1 + (2 * place - 1) * np.tan(np.radians(angle_deg) / 2)) / 2
            for place, angle_deg in ((across, self.width_deg), (down, self.height_deg))
        )
        return View(self.yaw_deg, self.pitch_deg).rays_at(right, lower)

    @property
    def solid_angle_sr(self) -> float:
        """Area on the unit sphere, in steradians, in (0, 2π).

        Source:
            The solid angle of a right pyramid, 4·asin(sin(width/2)·sin(height/2)).
        """
        half_width, half_height = np.radians([self.width_deg, self.height_deg]) / 2
        return float(4 * np.arcsin(np.sin(half_width) * np.sin(half_height)))

    def contains(self, rays: Floats) -> NDArray[np.bool_]:
        """Whether rays [..., 3] lie inside or on the border, [...]."""
        return np.asarray(np.all(rays @ self._sides().T >= 0, axis=-1))

    def iou(self, other: "Region") -> float:
        """Give the area two regions share over the area they cover, in [0, 1].

        Source:
            Dai et al., "Unbiased IoU for Spherical Image Object Detection", AAAI 2022. The shared
            area is that of one outline clipped by the other's four great circles.
        """
        shared = self.outline()
        for side in other._sides():
            shared = _clip(shared, side)
        area = _area(shared)
        return area / (self.solid_angle_sr + other.solid_angle_sr - area)

    def _sides(self) -> Floats:
        """Give the normals of the planes of the four sides, pointing inwards, [4, 3]."""
        corners = self.outline()
        return np.cross(np.roll(corners, -1, axis=0), corners)


def _clip(corners: Floats, normal: Floats) -> Floats:
    """Cut a convex spherical polygon [M, 3] to the half of the sphere that a normal points to."""
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


def _area(corners: Floats) -> float:
    """Give the area of a convex spherical polygon in steradians; under three corners have none.

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
