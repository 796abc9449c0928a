"""Recognising what a picture shows: all of the sphere, a part of it, a cylinder or a cube map.

The caller's word counts first, then the file's Photo Sphere XMP, then the picture's shape.
"""

import math
import warnings
from dataclasses import dataclass
from typing import Literal

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import Floats
from panovlm.pictures.cubemaps import cubemap_cells
from panovlm.pictures.gpano import CroppedArea, PanoFacts, read_facts
from panovlm.pictures.surfaces import Cylinder, Patch, Projection, camera_axes

ProjectionName = Literal["equirectangular", "cylindrical", "cubemap"]

ASPECT_TOLERANCE = 0.02
"""How far width / height may be from 2, and from what the XMP says."""
TILT_TOLERANCE_DEG = 0.01
"""A camera tilted by less counts as level."""
MIN_SHARE = 1e-3
"""The least share of the turn, or of the height, that a partial panorama may show."""


@dataclass(frozen=True)
class Cube:
    """A cube map.

    Attributes:
        cells: Faces' places across and down.
        is_declared: Whether the caller says so; a shape alone may be a photograph's.
    """

    cells: tuple[int, int]
    is_declared: bool


@dataclass(frozen=True)
class Reading:
    """How a picture is to be taken.

    Attributes:
        projection: How it lies on the sphere; None for one that is taken as stretched.
        axes: The camera's axes as the columns of a rotation [3, 3]; None for a level one.
    """

    projection: Projection | Cube | None
    axes: Floats | None = None


def is_full_sphere(width: float, height: float) -> bool:
    """Whether a picture of this size is 2:1 within the tolerance."""
    return abs(width - 2 * height) <= ASPECT_TOLERANCE * height


def by_xmp(xmp: bytes | None, size: tuple[int, int], name: str, *, strict: bool) -> Reading:
    """Take a picture for what its XMP says, or else for what its shape says.

    Args:
        xmp: The packet; None if the file has none.
        size: The picture's width and height.
        name: What warnings and errors call it.
        strict: Whether a picture that is neither 2:1 nor described is refused.

    Raises:
        PanoVLMError: If (strict) nothing says what it is, or its XMP contradicts it.
    """
    facts = read_facts(xmp, name) if xmp else None
    if facts is None:
        return by_shape(size, name, strict=strict)
    projection, doubt = _from_facts(facts, size)
    if doubt:
        _tell_doubt(doubt, size, name, strict=strict)
    if projection is None:
        shown = by_shape(size, name, strict=strict)
        if not isinstance(shown.projection, Patch):
            return shown
        projection = shown.projection
    tilted = max(abs(facts.pitch_deg), abs(facts.roll_deg)) > TILT_TOLERANCE_DEG
    return Reading(projection, camera_axes(facts.pitch_deg, facts.roll_deg) if tilted else None)


def by_shape(size: tuple[int, int], name: str, *, strict: bool) -> Reading:
    """Take a picture for what its shape says; a cross is looked at again once it is decoded.

    Args:
        size: Its width and height.
        name: What errors call it.
        strict: Whether another shape is refused instead of taken as stretched.

    Raises:
        PanoVLMError: If it is refused.
    """
    if is_full_sphere(*size):
        return Reading(Patch())
    cells = cubemap_cells(*size)
    if cells is not None:
        return Reading(Cube(cells, is_declared=False))
    if strict:
        raise not_a_sphere(size, name)
    return Reading(None)


def not_a_sphere(size: tuple[int, int], name: str) -> PanoVLMError:
    """Word the refusal of a picture that nothing says to be a panorama."""
    return PanoVLMError(
        f"{name}: found {size[0]}x{size[1]}, expected width = 2 x height; crop or pad the picture "
        'to a full sphere, or read it with read_panorama(..., projection="cylindrical", '
        'hfov_deg=...) or projection="cubemap"'
    )


def _from_facts(facts: PanoFacts, size: tuple[int, int]) -> tuple[Projection | None, str | None]:
    """Give the projection that XMP describes, None if it describes none, and what is wrong."""
    if facts.projection not in ("equirectangular", "cylindrical"):
        return None, f"the projection {facts.projection[:30]!r}"
    area = facts.area
    if area is None:
        cylinder = facts.projection == "cylindrical"
        return None, "a cylinder of unknown angle" if cylinder else None
    doubt = _contradiction(area, size)
    if facts.projection == "equirectangular":
        doubt = doubt or _contradiction_in_height(area)
    if doubt:
        return None, doubt
    cylindrical = facts.projection == "cylindrical"
    projection = _cylinder(area) if cylindrical else _patch(area)
    if min(projection.width, projection.height) < MIN_SHARE:
        return None, f"less than {MIN_SHARE:.1%} of the full turn or height"
    return projection, None


def _patch(area: CroppedArea) -> Patch:
    """Turn the pixels of a cropped area into shares of the sphere."""
    return Patch(
        area.left / area.full_width,
        area.top / area.full_height,
        area.width / area.full_width,
        area.height / area.full_height,
    )


def _cylinder(area: CroppedArea) -> Cylinder:
    """Turn the pixels of a cropped area, its top counted from the horizon, into tangents."""
    radius = area.full_width / (2 * math.pi)
    upper = -area.top / radius
    left, width = area.left / area.full_width, area.width / area.full_width
    return Cylinder(left, width, upper, upper - area.height / radius)


def _contradiction(area: CroppedArea, size: tuple[int, int]) -> str | None:
    """Say what is wrong with a cropped area of any projection."""
    if min(area.full_width, area.width, area.height) < 1:
        return "a size below one pixel"
    if not 0 <= area.left < area.full_width or area.width > area.full_width:
        return f"columns beyond the full panorama's {area.full_width:g}"
    aspect, written = size[0] / size[1], area.width / area.height
    if abs(aspect - written) > ASPECT_TOLERANCE * written:
        return f"a cropped area of {area.width:g}x{area.height:g}"
    return None


def _contradiction_in_height(area: CroppedArea) -> str | None:
    """Say what is wrong with the rows of an equirectangular cropped area; one may be rounding."""
    if area.full_height < 1 or not is_full_sphere(area.full_width, area.full_height):
        return f"a full panorama of {area.full_width:g}x{area.full_height:g}"
    if area.top < 0 or area.top + area.height > area.full_height + 1:
        return f"rows beyond the full panorama's {area.full_height:g}"
    return None


def _tell_doubt(doubt: str, size: tuple[int, int], name: str, *, strict: bool) -> None:
    """Refuse a picture that contradicts its XMP, or warn where its shape can decide instead."""
    text = (
        f"{name}: found XMP that says {doubt} for a picture of {size[0]}x{size[1]}, expected "
        "numbers that fit it"
    )
    if strict and not is_full_sphere(*size):
        raise PanoVLMError(
            f"{text}; correct or remove its Photo Sphere XMP, or say what it is by projection and "
            "hfov_deg of read_panorama"
        )
    warnings.warn(f"{text}; the XMP is ignored (correct or remove it)", stacklevel=2)


def declared(
    projection: ProjectionName, hfov_deg: float | None, size: tuple[int, int], name: str
) -> Projection | Cube:
    """Take a picture for what the caller says.

    Args:
        projection: What it is.
        hfov_deg: Angle between its left and right edge; None where it is not said.
        size: Its width and height.
        name: What errors call it.

    Raises:
        PanoVLMError: If its size does not fit what was said.
    """
    if hfov_deg is not None and not 360.0 * MIN_SHARE <= hfov_deg <= 360.0:
        raise PanoVLMError(
            f"found an angle of {hfov_deg:g}° for {name}, expected {360.0 * MIN_SHARE:g}° to 360°; "
            "change hfov_deg"
        )
    if projection == "cubemap":
        return _declared_cube(size, name)
    if projection == "cylindrical":
        return _declared_cylinder(hfov_deg, size, name)
    if projection == "equirectangular":
        return _declared_patch(hfov_deg, size, name)
    raise PanoVLMError(
        f"found the projection {projection!r} for {name}, expected equirectangular, cylindrical or "
        "cubemap; change projection"
    )


def _declared_cube(size: tuple[int, int], name: str) -> Cube:
    cells = cubemap_cells(*size, grids=True)
    if cells is None:
        raise PanoVLMError(
            f"{name}: found {size[0]}x{size[1]}, expected a cube map of 6:1, 1:6, 4:3, 3:2 or 2:3 "
            "whole faces; crop it or change projection"
        )
    return Cube(cells, is_declared=True)


def _declared_cylinder(hfov_deg: float | None, size: tuple[int, int], name: str) -> Cylinder:
    """Give a cylinder of square pixels with the horizon in the middle."""
    if hfov_deg is None:
        raise PanoVLMError(
            f"{name}: found a cylindrical panorama of unknown angle, expected the angle between "
            "its left and right edge; set hfov_deg"
        )
    turn = hfov_deg / 360.0
    half_height = math.pi * turn * size[1] / size[0]
    return Cylinder((1 - turn) / 2, turn, half_height, -half_height)


def _declared_patch(hfov_deg: float | None, size: tuple[int, int], name: str) -> Patch:
    """Give a patch of square pixels around the middle, or the full sphere."""
    if hfov_deg in (None, 360.0) and is_full_sphere(*size):
        return Patch()
    turn = 1.0 if hfov_deg is None else hfov_deg / 360.0
    share = 2 * turn * size[1] / size[0]
    if hfov_deg is None or share > 1 + ASPECT_TOLERANCE:
        raise PanoVLMError(
            f"{name}: found {size[0]}x{size[1]}, expected width = 2 x height for the full turn; "
            "set hfov_deg to the angle between its left and right edge"
        )
    share = min(share, 1.0)
    return Patch((1 - turn) / 2, (1 - share) / 2, turn, share)
