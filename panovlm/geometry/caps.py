"""Caps: discs of one angular radius on the sphere, the same wherever they lie.

A cap over the seam or over a pole is like any other: what it covers depends on angles alone.

Shapes: C caps.
"""

from dataclasses import dataclass

import numpy as np

from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import Floats, Mask, angles_from_rays, rays_from_angles

_GOLDEN_ANGLE_RAD = np.pi * (3 - np.sqrt(5))
_BORDER_TOLERANCE = 1e-12
"""Of a cosine: a ray on the border must not fall in or out by rounding as the sphere rotates."""


@dataclass(frozen=True, eq=False)
class Caps:
    """Discs of one size on the sphere.

    Attributes:
        centres: Unit rays [C, 3] in the panorama's frame.
        radius_deg: Angle from a centre to its border, in (0, 90].
    """

    centres: Floats
    radius_deg: float

    def __post_init__(self) -> None:
        if not 0.0 < self.radius_deg <= 90.0:
            raise PanoVLMError(
                f"found caps with a radius of {self.radius_deg:g}°, expected more than 0° and at "
                "most 90°, half the sphere; change the radius"
            )

    def __len__(self) -> int:
        return len(self.centres)

    def __getitem__(self, some: slice) -> "Caps":
        """Return some of the caps."""
        return Caps(self.centres[some], self.radius_deg)

    @property
    def centres_deg(self) -> Floats:
        """(yaw, pitch) of the centres in degrees, [C, 2]."""
        return np.degrees(np.stack(angles_from_rays(self.centres), axis=-1))

    def cover(self, rays: Floats) -> Mask:
        """Check whether each cap covers unit rays [..., 3], its border included, [C, ...]."""
        return self._above_border(rays) >= -_BORDER_TOLERANCE

    def weights(self, rays: Floats) -> Floats:
        """Compute the weight of each cap at unit rays [..., 3], [C, ...].

        It is 1 in the middle, 0 from the border on, and falls with the cosine of the distance in
        between: seen from straight above, with its square.
        """
        height = 1 - np.cos(np.radians(self.radius_deg))
        return np.maximum(self._above_border(rays), 0.0) / height

    def _above_border(self, rays: Floats) -> Floats:
        """Compute how far rays [..., 3] rise above the plane of each cap's border, [C, ...]."""
        cosines = np.moveaxis(rays @ self.centres.T, -1, 0)
        above: Floats = cosines - np.cos(np.radians(self.radius_deg))
        return above


def even_rays(count: int) -> Floats:
    """Spread unit rays [count, 3] evenly over the sphere, from the upper pole to the lower.

    Each stands for the same area: a band of equal height, a golden angle on from the last one.

    Source:
        The Fibonacci lattice: González, "Measurement of areas on a sphere using Fibonacci and
        latitude-longitude lattices", Mathematical Geosciences 42 (2010), arXiv:0912.4540.
    """
    index = np.arange(count)
    return rays_from_angles(index * _GOLDEN_ANGLE_RAD, np.arcsin(1 - (2 * index + 1) / count))


def caps_over_views(
    layout: ViewLayout, radius_deg: float = 20.0, step_deg: float | None = None
) -> Caps:
    """Spread caps evenly over what a layout's perspective views see.

    A global view sees everything and counts only where it stands alone.

    Args:
        layout: The views.
        radius_deg: Of each cap, in [1, 90].
        step_deg: How far apart centres lie: each stands for an area of this squared. From 1 to
            `radius_deg`, so that nothing is left between caps (at the border of narrow views
            something may be); half the radius if left out, at least 1.

    Raises:
        PanoVLMError: If a value is out of its range, or no centre is seen.
    """
    if not 1.0 <= radius_deg <= 90.0:
        raise PanoVLMError(
            f"found caps with a radius of {radius_deg:g}°, expected 1° to 90°; change the radius"
        )
    step_deg = max(radius_deg / 2, 1.0) if step_deg is None else step_deg
    if not 1.0 <= step_deg <= radius_deg:
        raise PanoVLMError(
            f"found caps {step_deg:g}° apart, expected 1° to their radius of {radius_deg:g}°, "
            "so that nothing lies between them; change the step or the radius"
        )
    rays = even_rays(round(4 * np.pi / np.radians(step_deg) ** 2))
    seen = layout.sees(rays)
    if not seen.any():
        raise PanoVLMError(
            f"found no cap's centre in any view at {step_deg:g}° from cap to cap, expected one or "
            "more; lower the step"
        )
    return Caps(rays[seen], radius_deg)
