"""Where rays meet a solid, in its own frame.

The camera is at the origin: x to the right, y up, z along the ground from the camera to the solid.
"""

from collections.abc import Callable
from math import radians

import numpy as np

from panovlm.geometry.sphere import Floats
from panovlm.scenes.world import Solid

Hits = tuple[Floats, Floats]
"""Distance along each ray [h, w], NaN where it misses, and the outward unit normal [h, w, 3]."""


def intersect(rays: Floats, solid: Solid, camera_m: float) -> Hits:
    """Compute where rays meet a solid, and its normals there.

    Args:
        rays: Unit vectors [h, w, 3] in the solid's frame.
        solid: It stands on the ground.
        camera_m: Height of the camera above the ground.

    Returns:
        Distances [h, w] in metres, NaN where a ray misses, and outward unit normals [h, w, 3].
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return _HITS[solid.shape](rays, solid, camera_m)


def spin_axes(solid: Solid) -> Floats:
    """Return the axes of a solid as it is spun, in its frame: the rows of a rotation [3, 3]."""
    spin_rad = radians(solid.spin_deg)
    cos, sin = np.cos(spin_rad), np.sin(spin_rad)
    return np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])


def _sphere_hits(rays: Floats, solid: Solid, camera_m: float) -> Hits:
    radius = solid.size_m / 2
    centre = np.array([0.0, radius - camera_m, solid.distance_m])
    along = rays @ centre
    depth = along - np.sqrt(along**2 - centre @ centre + radius**2)
    return depth, (depth[..., None] * rays - centre) / radius


def _cube_hits(rays: Floats, solid: Solid, camera_m: float) -> Hits:
    half, axes = solid.size_m / 2, spin_axes(solid)
    centre = axes @ np.array([0.0, half - camera_m, solid.distance_m])
    rays = rays @ axes.T
    to_low, to_high = (centre - half) / rays, (centre + half) / rays
    enters = np.minimum(to_low, to_high)
    enter = enters.max(axis=-1)
    leave = np.maximum(to_low, to_high).min(axis=-1)
    depth = np.where((enter > 0) & (enter <= leave), enter, np.nan)
    face = enters.argmax(axis=-1)
    facing = -np.sign(np.take_along_axis(rays, face[..., None], axis=-1))
    return depth, facing * axes[face]


def _cylinder_hits(rays: Floats, solid: Solid, camera_m: float) -> Hits:
    radius = solid.size_m / 2
    x, y, z = np.moveaxis(rays, -1, 0)
    level = x**2 + z**2
    along = solid.distance_m * z
    side = (along - np.sqrt(along**2 - level * (solid.distance_m**2 - radius**2))) / level
    side_height = camera_m + side * y
    side = np.where((side_height >= 0) & (side_height <= solid.size_m), side, np.nan)
    top = (solid.size_m - camera_m) / y
    on_top = (top > 0) & (np.hypot(top * x, top * z - solid.distance_m) <= radius)
    depth = np.fmin(side, np.where(on_top, top, np.nan))
    radial = np.stack([depth * x, np.zeros_like(y), depth * z - solid.distance_m], -1) / radius
    return depth, np.where((on_top & (depth == top))[..., None], (0.0, 1.0, 0.0), radial)


def _cone_hits(rays: Floats, solid: Solid, camera_m: float) -> Hits:
    slope_2 = 0.25  # x² + z² = slope²·y² with y from the apex; as high as its base is wide
    camera_y = camera_m - solid.size_m
    x, y, z = np.moveaxis(rays, -1, 0)
    a = x**2 + z**2 - slope_2 * y**2
    b = solid.distance_m * z + slope_2 * camera_y * y
    c = solid.distance_m**2 - slope_2 * camera_y**2
    roots = (b + np.array([-1.0, 1.0])[:, None, None] * np.sqrt(b**2 - a * c)) / a
    from_apex = camera_y + roots * y
    on_cone = (roots > 0) & (from_apex <= 0) & (from_apex >= -solid.size_m)
    depth = np.fmin(*np.where(on_cone, roots, np.nan))
    across, below, along = depth * x, -(camera_y + depth * y), depth * z - solid.distance_m
    normals = np.stack([across, slope_2 * below, along], axis=-1)
    return depth, normals / np.linalg.norm(normals, axis=-1, keepdims=True)


_HITS: dict[str, Callable[[Floats, Solid, float], Hits]] = {
    "sphere": _sphere_hits,
    "cube": _cube_hits,
    "cylinder": _cylinder_hits,
    "cone": _cone_hits,
}
