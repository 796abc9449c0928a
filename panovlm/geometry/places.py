"""Places: conversions between pixels of the panorama, pixels of views and angles.

A place (x, y) is measured in pixels from the upper left edge of a picture, so that pixel k covers
k to k + 1 and its centre is k + 0.5: the convention of `sphere.py`. Every function takes numbers or
arrays that broadcast together, [...], and returns arrays [...]. Everywhere

- x is any number in a panorama, as columns go around, and y lies in [0, H];
- yaw is any number, positive to the right, and pitch, positive up, lies in [-90, 90];
- `height` and `width` are the panorama's rows H and columns W.

Shapes: V views, S x S pixels each, H x W panorama.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panovlm.geometry.sphere import Floats, Mask, angles_between, angles_from_rays, rays_from_angles
from panovlm.geometry.views import View


def panorama_to_angles(
    x: ArrayLike, y: ArrayLike, height: int, width: int
) -> tuple[Floats, Floats]:
    """Convert places of the panorama to (yaw, pitch), in (-180, 180] and [-90, 90] degrees."""
    x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
    yaw_deg = (x % width / width - 0.5) * 360.0
    return np.where(yaw_deg == -180.0, 180.0, yaw_deg), (0.5 - y / height) * 180.0


def angles_to_panorama(
    yaw_deg: ArrayLike, pitch_deg: ArrayLike, height: int, width: int
) -> tuple[Floats, Floats]:
    """Convert angles to places (x, y) of the panorama, in [0, W) and [0, H]."""
    yaw_deg, pitch_deg = np.broadcast_arrays(np.asarray(yaw_deg, float), pitch_deg)
    return (yaw_deg / 360.0 + 0.5) * width % width, (0.5 - pitch_deg / 180.0) * height


def panorama_to_rays(x: ArrayLike, y: ArrayLike, height: int, width: int) -> Floats:
    """Convert places of the panorama to unit rays [..., 3]."""
    return _rays(*panorama_to_angles(x, y, height, width))


def rays_to_panorama(rays: Floats, height: int, width: int) -> tuple[Floats, Floats]:
    """Convert rays of any length [..., 3] to places of the panorama."""
    yaw_rad, pitch_rad = angles_from_rays(rays)
    return angles_to_panorama(np.degrees(yaw_rad), np.degrees(pitch_rad), height, width)


def view_to_panorama(
    view: View, view_size: int, x: ArrayLike, y: ArrayLike, height: int, width: int
) -> tuple[Floats, Floats]:
    """Convert places of a view, 0 to S inside it, to the places of the panorama it shows there."""
    across, down = (np.asarray(place, float) / view_size for place in (x, y))
    return rays_to_panorama(view.rays_at(across, down), height, width)


def panorama_to_view(
    view: View, view_size: int, x: ArrayLike, y: ArrayLike, height: int, width: int
) -> tuple[Floats, Floats]:
    """Convert places of the panorama to those of a view, the inverse of `view_to_panorama`.

    Returns:
        (x, y) in pixels of the view, 0 to S where it sees the place, beyond where its picture would
        have to be larger, and NaN behind it.
    """
    across, down = view.places_of(panorama_to_rays(x, y, height, width))
    return across * view_size, down * view_size


def views_that_see(views: Sequence[View], yaw_deg: ArrayLike, pitch_deg: ArrayLike) -> Mask:
    """Check whether each of V views sees each direction, its border included, [V, ...]."""
    rays = _rays(yaw_deg, pitch_deg)
    return np.stack([view.sees(rays) for view in views])


def nearest_view(
    views: Sequence[View], yaw_deg: ArrayLike, pitch_deg: ArrayLike
) -> NDArray[np.intp]:
    """Find the view that sees a direction nearest to its centre.

    Returns:
        The view's index for each direction, the first of equals, -1 where no view sees it, [...].
    """
    rays, seen = _rays(yaw_deg, pitch_deg), views_that_see(views, yaw_deg, pitch_deg)
    distances = np.stack([angles_between(rays, view.rays(1, 1)[0, 0]) for view in views])
    rounded = np.round(distances, 9)  # equals differ by rounding, and the first of them is meant
    nearest = np.argmin(np.where(seen, rounded, np.inf), axis=0)
    return np.where(seen.any(axis=0), nearest, -1)


def border_places(points_per_side: int) -> tuple[Floats, Floats]:
    """Return points along the border of a picture, clockwise from its upper left corner.

    Args:
        points_per_side: The corner where a side begins among them.

    Returns:
        (across, down) from 0 to 1, as `View.rays_at` takes them, each [4·points].
    """
    side = np.arange(points_per_side) / points_per_side
    low, high = np.zeros(points_per_side), np.ones(points_per_side)
    across = np.concatenate([side, high, 1 - side, low])
    down = np.concatenate([low, side, high, 1 - side])
    return across, down


def _rays(yaw_deg: ArrayLike, pitch_deg: ArrayLike) -> Floats:
    """Convert angles in degrees to unit rays [..., 3]."""
    return rays_from_angles(
        np.radians(np.asarray(yaw_deg, float)), np.radians(np.asarray(pitch_deg, float))
    )
