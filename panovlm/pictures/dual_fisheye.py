"""Dual fisheye pictures: the raw circles of two lenses side by side, projected onto a sphere.

The left circle looks forward, the right one backward; both are upright and fill their halves. The
lenses are taken as equidistant and as one point: real ones deviate by some degrees and stand apart,
so that without the camera's calibration near things do not fit at the seam.

Shapes: h x w pixels each half, sphere H x 2H.
"""

import numpy as np

from panovlm.errors import PanoVLMError
from panovlm.geometry.cutting import resize_by_area
from panovlm.geometry.sphere import Floats, Pixels
from panovlm.pictures.recognising import is_full_sphere
from panovlm.pictures.surfaces import MAX_SPHERE_WIDTH, sample_bilinear, sphere_bands

_MAX_BLEND_RAD = np.radians(10.0)
"""The widest zone in which the lenses are blended: a wider one shows near things twice."""
_RIM_PIXELS = 1.5
"""How far from the edge of a circle it is sampled: nearer, the black around it shows."""


def sphere_from_dual_fisheye(
    pixels: Pixels, lens_fov_deg: float, name: str, min_width: int | None = None
) -> Pixels:
    """Project two fisheye circles onto the sphere.

    Within 5° of the seam, or as far as both lenses see, one picture passes into the other.

    Args:
        pixels: uint8 [h, 2w, 3], about 2:1.
        lens_fov_deg: Angle across each circle, in [180, 360).
        name: What errors call the picture.
        min_width: Columns of the sphere that are enough. A picture of twice as many is reduced
            first; None keeps the lenses' resolution, up to `MAX_SPHERE_WIDTH` columns.

    Returns:
        uint8 [H, 2H, 3]; the middle of the left circle is yaw 0 on the horizon.

    Raises:
        PanoVLMError: If the picture is not 2:1.

    Source:
        The equidistant projection r = f · θ, of Kannala and Brandt, "A Generic Camera Model and
        Calibration Method for Conventional, Wide-Angle, and Fish-Eye Lenses" (2006), eq. 3.
    """
    height, width = pixels.shape[:2]
    if not is_full_sphere(width, height) or height < 8:
        raise PanoVLMError(
            f"{name}: found {width}x{height}, expected two fisheye circles that fill the halves of "
            "a picture of width = 2 x height; crop it"
        )
    own_width = 360.0 / lens_fov_deg * min(height, width // 2)
    is_enough = min_width is not None and own_width >= 2 * min_width
    wanted = min(min_width if min_width and is_enough else own_width, MAX_SPHERE_WIDTH)
    factor = min(wanted / own_width, 1.0)
    size = round(height * factor), round(width // 2 * factor)
    halves = pixels[:, : width // 2], pixels[:, -(width // 2) :]
    front, back = (resize_by_area(half, *(max(side, 8) for side in size)) for half in halves)
    return _blend_lenses(front, back, np.radians(lens_fov_deg), max(round(wanted / 2), 1))


def _blend_lenses(front: Pixels, back: Pixels, fov_rad: float, height: int) -> Pixels:
    """Sample the lenses' pictures [h, w, 3] for every pixel of a sphere, [height, 2·height, 3]."""
    blend_rad = max(min(fov_rad - np.pi, _MAX_BLEND_RAD), 1e-9)
    sphere = np.empty((height, 2 * height, 3), np.uint8)
    for band, yaw_rad, pitch_rad in sphere_bands(height):
        level, up = np.cos(pitch_rad), np.sin(pitch_rad)
        right, forward = np.sin(yaw_rad) * level, np.cos(yaw_rad) * level
        across = np.hypot(right, up)
        from_axis = np.arctan2(across, forward)
        ahead = _sample_lens(front, right / across, up / across, from_axis, fov_rad)
        behind = _sample_lens(back, -right / across, up / across, np.pi - from_axis, fov_rad)
        share = np.clip(0.5 + (np.pi / 2 - from_axis) / blend_rad, 0, 1)[..., None]
        sphere[band] = np.rint(share * ahead + (1 - share) * behind)
    return sphere


def _sample_lens(
    lens: Pixels, right: Floats, up: Floats, from_axis: Floats, fov_rad: float
) -> Pixels:
    """Sample a lens at angles from its axis, in directions (right, up) of length 1 around it."""
    height, width = lens.shape[:2]
    radius = min(height, width) / 2
    distance = np.minimum(from_axis / (fov_rad / 2) * radius, radius - _RIM_PIXELS)
    columns, rows = (width - 1) / 2 + distance * right, (height - 1) / 2 - distance * up
    return sample_bilinear(lens, columns, rows)
