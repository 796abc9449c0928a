"""Regions of the sphere: where something is, as (yaw, pitch, width, height) of a field of view.

A bounding field of view is what a camera facing a thing just holds. Its four sides are great
circles, so it has no seam, no poles and no stretched rows, and its overlap with another is exact.
"""

from dataclasses import dataclass

import numpy as np

from panovlm.errors import PanoVLMError
from panovlm.geometry.places import border_places
from panovlm.geometry.polygons import clip_polygon, polygon_area_sr, side_normals
from panovlm.geometry.sphere import Floats, Mask, angles_from_rays, wrap_deg
from panovlm.geometry.views import View, require_pitch

Bounds = tuple[float, float, float, float]
"""(yaw, pitch, width, height) in degrees."""

_STEPS = 1000
"""Tries to find a half of the sphere that holds all points."""
_RECENTRINGS = 64
_CENTRED_RAD = 1e-12


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
        require_pitch(self.pitch_deg)

    @classmethod
    def around(cls, rays: Floats) -> "Region":
        """Return the field of view that just holds rays [M, 3] and has one on each of its sides.

        Rays that no half of the sphere holds raise a PanoVLMError.
        """
        view = _view_towards(_central_ray(rays))
        for _ in range(_RECENTRINGS):
            low, high = _reach(view, rays)
            across, down = (1 + np.tan((low + high) / 2)) / 2
            centred = _view_towards(view.rays_at(across, down))
            if np.abs(low + high).max() < _CENTRED_RAD or np.isnan(_reach(centred, rays)).any():
                break
            view = centred
        return cls.holding(rays, view.yaw_deg, view.pitch_deg)

    @classmethod
    def holding(cls, rays: Floats, yaw_deg: float, pitch_deg: float) -> "Region":
        """Return the field of view with a given middle that just holds rays [M, 3].

        Rays of 90° or more from the middle raise a PanoVLMError.
        """
        low, high = _reach(View(yaw_deg, pitch_deg), rays)
        if np.isnan(low).any():
            raise _too_far_apart()
        width_deg, height_deg = (2 * float(a) for a in np.degrees(np.maximum(-low, high)))
        return cls(yaw_deg, pitch_deg, width_deg, height_deg)

    def outline(self, points_per_side: int = 1) -> Floats:
        """Compute unit rays along the border, clockwise from the upper left, [4·points, 3]."""
        right, lower = (
            (1 + (2 * place - 1) * np.tan(np.radians(angle_deg) / 2)) / 2
            for place, angle_deg in zip(
                border_places(points_per_side), (self.width_deg, self.height_deg), strict=True
            )
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

    def contains(self, rays: Floats) -> Mask:
        """Check whether rays [..., 3] lie inside or on the border, [...]."""
        return np.asarray(np.all(rays @ side_normals(self.outline()).T >= 0, axis=-1))

    def iou(self, other: "Region") -> float:
        """Compute the area two regions share over the area they cover, in [0, 1].

        Source:
            Dai et al., "Unbiased IoU for Spherical Image Object Detection", AAAI 2022. The shared
            area is that of one outline clipped by the other's four great circles.
        """
        shared = self.outline()
        for side in side_normals(other.outline()):
            shared = clip_polygon(shared, side)
        area = polygon_area_sr(shared)
        return area / (self.solid_angle_sr + other.solid_angle_sr - area)


def interval_iou(first: Bounds, second: Bounds, *, by_solid_angle: bool = False) -> float:
    """Compute the overlap of two boxes on the (yaw, pitch) chart, as benchmarks report it.

    It takes (yaw, pitch, width, height) for an interval of yaw times an interval of pitch, which a
    field of view is only near the horizon: for the true overlap see `Region.iou`.

    Args:
        first: (yaw, pitch, width, height) in degrees, as `dataclasses.astuple` returns of a region;
            sizes at least 0. What lies beyond a pole or 360° is cut off.
        second: The other.
        by_solid_angle: Whether the chart's rows count as the area they have on the sphere.

    Returns:
        Intersection over union in [0, 1], 0 where both are empty.

    Source:
        PanoSpace-Bench ("PanoWorld", arXiv 2605.13169): degrees of yaw times degrees of pitch in
        its training code, times the difference of the sines of pitch in its scorer.
    """
    yaws = _shared_yaw_deg(first, second)
    lows, highs = np.array([_pitches_deg(box) for box in (first, second)]).T
    if by_solid_angle:
        lows, highs = (np.sin(np.radians(pitches)) for pitches in (lows, highs))
    shared = yaws * max(0.0, highs.min() - lows.max())
    sizes = [min(box[2], 360.0) for box in (first, second)] * (highs - lows)
    union = float(sizes.sum() - shared)
    return float(shared / union) if union > 0 else 0.0


def _shared_yaw_deg(first: Bounds, second: Bounds) -> float:
    """Compute the yaw that two boxes share, which may be in two pieces."""
    widths = [min(box[2], 360.0) for box in (first, second)]
    apart = abs(wrap_deg(first[0] - second[0]))
    pieces = (sum(widths) / 2 - distance for distance in (apart, 360.0 - apart))
    return sum(min(max(piece, 0.0), *widths) for piece in pieces)


def _pitches_deg(box: Bounds) -> tuple[float, float]:
    """Compute the lowest and the highest pitch of a box, within the poles."""
    return max(box[1] - box[3] / 2, -90.0), min(box[1] + box[3] / 2, 90.0)


def _central_ray(rays: Floats) -> Floats:
    """Find a ray less than 90° from all rays [M, 3], their mean if it is one.

    Source:
        Rosenblatt's perceptron: adding what is on the wrong side ends in finding such a ray.
    """
    centre: Floats = rays.mean(axis=0)
    for _ in range(_STEPS):
        facing = rays @ centre
        if facing.min() > 0:
            return centre
        centre = centre + rays[facing.argmin()]
    raise _too_far_apart()


def _view_towards(ray: Floats) -> View:
    """Return the upright view whose centre is a ray; its places 0 and 1 are tangents of 45°."""
    yaw_deg, pitch_deg = (float(angle) for angle in np.degrees(angles_from_rays(ray)))
    return View(yaw_deg, pitch_deg)


def _reach(view: View, rays: Floats) -> tuple[Floats, Floats]:
    """Compute the least and the largest angles in radians right of and below a view's centre."""
    angles = np.arctan(2 * np.stack(view.places_of(rays)) - 1)
    return angles.min(axis=1), angles.max(axis=1)


def _too_far_apart() -> PanoVLMError:
    return PanoVLMError(
        "found points more than 90° from their middle, expected points on one side of the sphere; "
        "split them"
    )
