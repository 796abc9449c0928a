"""Recognising what a picture shows: all of the sphere, a part of it, a cylinder or a cube map.

What the caller declares counts first, then the file's Photo Sphere XMP, then the picture's shape.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import Floats
from panovlm.geometry.views import View
from panovlm.pictures.cubemaps import cubemap_cells
from panovlm.pictures.declaring import Declaration
from panovlm.pictures.gpano import CroppedArea, PhotoSphere, XMPWarning, read_photo_spheres
from panovlm.pictures.surfaces import Cylindrical, Equirectangular, Projection, camera_axes

ASPECT_TOLERANCE = 0.02
"""How far width / height may be from 2, and from what the XMP says."""
MAX_STRETCH = 4.0
"""How many times as high as wide, or as wide as high, the pixels of a declared picture may be."""
TILT_TOLERANCE_DEG = 0.01
"""A camera tilted by less counts as level."""
MIN_SHARE = 1e-3
"""The least share of the 360°, or of the height, that a partial panorama may show."""

Size = tuple[int, int]
"""Width and height."""


@dataclass(frozen=True)
class Cubemap:
    """A cube map.

    Attributes:
        cells: Cells of the picture across and down.
        is_declared: Whether the caller declares it; a shape alone may be a photograph's.
        is_full_sphere: False: it becomes one by projection.
    """

    cells: tuple[int, int]
    is_declared: bool
    is_full_sphere: ClassVar[bool] = False


@dataclass(frozen=True)
class Placement:
    """How a picture lies on the sphere.

    Attributes:
        projection: Its projection; None for a picture that is taken as stretched.
        axes: The camera's axes as the columns of a rotation [3, 3]; None for a level one.
    """

    projection: Projection | Cubemap | None
    axes: Floats | None = None


def is_full_sphere(width: float, height: float) -> bool:
    """Check whether a picture of this size is 2:1 within the tolerance."""
    return abs(width - 2 * height) <= ASPECT_TOLERANCE * height


def placement_by_xmp(packets: Sequence[bytes], size: Size, name: str, *, strict: bool) -> Placement:
    """Place a picture by the first of its XMP packets that fits it, or else by its shape.

    Raises:
        PanoVLMError: If (strict) it is neither 2:1 nor described, or its XMP contradicts it.
    """
    spheres = read_photo_spheres(packets, name) if packets else []
    found = [(each, *_described_projection(each, size)) for each in spheres]
    if not found:
        return placement_by_shape(size, name, strict=strict)
    fitting = [each for each in found if each[2] is None]
    described, projection, contradiction = [*fitting, *found][0]
    if contradiction:
        _refuse_or_warn(contradiction, size, name, strict=strict)
    if projection is None:
        shape = placement_by_shape(size, name, strict=strict)
        if not isinstance(shape.projection, Equirectangular):
            return shape
        projection = shape.projection
    tilt_deg = described.pitch_deg, described.roll_deg
    tilted = max(map(abs, tilt_deg)) > TILT_TOLERANCE_DEG
    return Placement(projection, camera_axes(*tilt_deg) if tilted else None)


def placement_by_shape(size: Size, name: str, *, strict: bool) -> Placement:
    """Place a picture by its shape; whether a cross is one shows once it is decoded.

    Raises:
        PanoVLMError: If it has another shape and is (strict) not to be taken as stretched.
    """
    if is_full_sphere(*size):
        return Placement(Equirectangular())
    cells = cubemap_cells(*size)
    if cells is not None:
        return Placement(Cubemap(cells, is_declared=False))
    if strict:
        raise not_a_sphere(size, name)
    return Placement(None)


def not_a_sphere(size: Size, name: str) -> PanoVLMError:
    """Return the error of a picture that nothing says to be a panorama."""
    aspect = size[0] / size[1]
    kinds = [kind for other, kind in _OTHER_SHAPES.items() if abs(aspect / other - 1) < 0.02]
    kind = f". It has the shape of {kinds[0]}" if kinds else ""
    return PanoVLMError(
        f"{name}: found {size[0]}x{size[1]}, expected width = 2 x height; crop or pad the picture "
        "to a full sphere, or declare it (by options, or `declared` of a record or request): "
        f'projection="cylindrical" with hfov_deg=..., or projection="cubemap"{kind}'
    )


_MISORDERED = "a cube map, whose faces do not meet in the order front, right, back, left, up, down"
_OTHER_SHAPES = {
    1.0: "a little planet, a fisheye circle, or panoramas for two eyes, one above the other",
    4.0: "panoramas for two eyes, side by side, or of a strip",
    0.5: "two fisheye circles, one above the other",
    4 / 3: "a photograph, or of a cube map as a cross, whose corners are not blank",
    3 / 2: "a photograph, or of a cube map of 3 x 2 faces",
    2 / 3: "a photograph, or of a cube map of 2 x 3 faces",
    16 / 9: "a photograph or a frame of a video",
    6.0: f"{_MISORDERED}, or of a strip",
    1 / 6: _MISORDERED,
}
"""What has another width over height; only a person can tell which of them it is."""


def _described_projection(
    described: PhotoSphere, size: Size
) -> tuple[Projection | None, str | None]:
    """Return the projection that XMP describes, None if it describes none, and what is wrong."""
    if described.projection not in ("equirectangular", "cylindrical"):
        return None, f"the projection {described.projection[:30]!r}"
    is_cylinder, area = described.projection == "cylindrical", described.area
    if area is None:
        return None, "a cylinder of unknown angle" if is_cylinder else None
    contradiction = _contradiction(area, size, is_cylinder=is_cylinder)
    if contradiction:
        return None, contradiction
    projection = _cylinder(area) if is_cylinder else _rectangle(area)
    if min(projection.width, projection.height) < MIN_SHARE:
        return None, f"less than {MIN_SHARE:.1%} of the full 360° or height"
    return projection, None


def _rectangle(area: CroppedArea) -> Equirectangular:
    """Convert the pixels of a cropped area to shares of the sphere."""
    return Equirectangular(
        area.left / area.full_width,
        area.top / area.full_height,
        area.width / area.full_width,
        area.height / area.full_height,
    )


def _cylinder(area: CroppedArea) -> Cylindrical:
    """Convert the pixels of a cropped area to tangents.

    Programs count its top from the horizon down, or, as that of a sphere, from the top of the full
    picture, whose middle is the horizon. A full height that holds the area says which.
    """
    radius = area.full_width / (2 * math.pi)
    is_from_top = area.top >= 0 and area.top + area.height <= area.full_height + 1
    upper = (area.full_height / 2 - area.top if is_from_top else -area.top) / radius
    left, width = area.left / area.full_width, area.width / area.full_width
    return Cylindrical(left, width, upper, upper - area.height / radius)


def _contradiction(area: CroppedArea, size: Size, *, is_cylinder: bool) -> str | None:
    """Describe what is wrong with a cropped area; one row too many may be rounding."""
    if min(area.full_width, area.width, area.height) < 1:
        return "a size below one pixel"
    if not 0 <= area.left < area.full_width or area.width > area.full_width:
        return f"columns beyond the full panorama's {area.full_width:g}"
    aspect, written = size[0] / size[1], area.width / area.height
    if abs(aspect - written) > ASPECT_TOLERANCE * written:
        return f"a cropped area of {area.width:g}x{area.height:g}"
    if is_cylinder:
        return _off_horizon(area)
    if area.full_height < 1 or not is_full_sphere(area.full_width, area.full_height):
        return f"a full panorama of {area.full_width:g}x{area.full_height:g}"
    if area.top < 0 or area.top + area.height > area.full_height + 1:
        return f"rows beyond the full panorama's {area.full_height:g}"
    return None


def _off_horizon(area: CroppedArea) -> str | None:
    """Describe a cylinder that would lie below the horizon: its top is counted from elsewhere."""
    if area.top < 0 or area.top + area.height <= area.full_height + 1:
        return None
    return f"a cylinder that begins {area.top:g} rows below the horizon"


def _refuse_or_warn(contradiction: str, size: Size, name: str, *, strict: bool) -> None:
    """Refuse a picture that contradicts its XMP, or warn where its shape can decide instead."""
    text = (
        f"{name}: found XMP that says {contradiction} for a picture of {size[0]}x{size[1]}, "
        "expected numbers that fit it"
    )
    if strict and not is_full_sphere(*size):
        raise PanoVLMError(
            f"{text}; correct or remove its Photo Sphere XMP, or declare the projection and "
            "hfov_deg"
        )
    warnings.warn(f"{text}; the XMP is ignored (correct or remove it)", XMPWarning, stacklevel=2)


def declared_placement(declared: Declaration, size: Size, name: str) -> Placement:
    """Place a picture as it is declared; its projection must be.

    Raises:
        PanoVLMError: If the picture contradicts what is declared.
    """
    projection = _declared_projection(declared, size, name)
    yaw_deg, pitch_deg, roll_deg = declared.yaw_deg, declared.pitch_deg, declared.roll_deg
    is_part = not isinstance(projection, Cubemap) and not projection.is_full_sphere
    if pitch_deg or roll_deg or (yaw_deg and not is_part):
        return Placement(projection, View(yaw_deg, pitch_deg, roll_deg).axes())
    if isinstance(projection, Cubemap):
        return Placement(projection)
    if is_part:  # a shift copies whole columns exactly, where a rotation would sample them
        return Placement(replace(projection, left=(projection.left + yaw_deg / 360.0) % 1.0))
    # A full sphere of other sides is sampled to 2:1, by a rotation that changes nothing.
    return Placement(projection, None if is_full_sphere(*size) else np.eye(3))


def _declared_projection(declared: Declaration, size: Size, name: str) -> Projection | Cubemap:
    if declared.projection == "cubemap":
        return _declared_cubemap(size, name)
    if declared.projection == "cylindrical":
        return _declared_cylinder(declared, size, name)
    return _declared_rectangle(declared, size, name)


def _declared_cubemap(size: Size, name: str) -> Cubemap:
    cells = cubemap_cells(*size, grids=True)
    if cells is None:
        raise PanoVLMError(
            f"{name}: found {size[0]}x{size[1]}, expected a cube map of 6:1, 1:6, 4:3, 3:2 or 2:3 "
            "whole faces; crop it or change projection"
        )
    return Cubemap(cells, is_declared=True)


def _declared_cylinder(declared: Declaration, size: Size, name: str) -> Cylindrical:
    """Return a cylinder with the horizon in the middle, of square pixels if one angle is given."""
    if declared.hfov_deg is None and declared.vfov_deg is None:
        raise PanoVLMError(
            f"{name}: found a cylindrical panorama of unknown angle, expected the angle between "
            "its left and right edge; set hfov_deg"
        )
    rows_per_column = size[1] / size[0]
    if declared.vfov_deg is None:
        width = (declared.hfov_deg or 360.0) / 360.0
        half_height = math.pi * width * rows_per_column
    else:
        half_height = math.tan(math.radians(declared.vfov_deg / 2))
        width = _width(declared, half_height / (math.pi * rows_per_column), size, name)
    return Cylindrical((1 - width) / 2, width, half_height, -half_height)


def _declared_rectangle(declared: Declaration, size: Size, name: str) -> Equirectangular:
    """Return a rectangle around the middle, of square pixels if one angle is given, or all."""
    hfov_deg, vfov_deg = declared.hfov_deg, declared.vfov_deg
    if hfov_deg in (None, 360.0) and vfov_deg in (None, 180.0) and is_full_sphere(*size):
        return Equirectangular()
    width = 1.0 if hfov_deg is None else hfov_deg / 360.0
    height = 2 * width * size[1] / size[0]
    if vfov_deg is not None:
        height = vfov_deg / 180.0
        width = _width(declared, height * size[0] / size[1] / 2, size, name)
    elif hfov_deg is None or height > 1 + ASPECT_TOLERANCE:
        raise PanoVLMError(
            f"{name}: found {size[0]}x{size[1]}, expected width = 2 x height for the full 360°; "
            "set hfov_deg to the angle between its left and right edge"
        )
    height = min(height, 1.0)
    return Equirectangular((1 - width) / 2, (1 - height) / 2, width, height)


def _width(declared: Declaration, of_square_pixels: float, size: Size, name: str) -> float:
    """Return the share of 360° that is declared, or else the one that makes pixels square."""
    found = f"{name}: found {size[0]}x{size[1]} and vfov_deg {declared.vfov_deg:g}"
    if declared.hfov_deg is None:
        if of_square_pixels > 1 + ASPECT_TOLERANCE:
            raise PanoVLMError(
                f"{found}, which makes {360.0 * of_square_pixels:.0f}° across, expected at most "
                "360°; lower vfov_deg, or set hfov_deg as well if its pixels are not square"
            )
        return min(of_square_pixels, 1.0)
    width = declared.hfov_deg / 360.0
    stretch = max(width / of_square_pixels, of_square_pixels / width)
    if stretch > MAX_STRETCH:
        raise PanoVLMError(
            f"{found} beside hfov_deg {declared.hfov_deg:g}, which makes one side of a pixel "
            f"{stretch:.1f} times the other, expected at most {MAX_STRETCH:g}; correct hfov_deg "
            "or vfov_deg"
        )
    return width
