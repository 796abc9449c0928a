"""Reading panoramas as cameras write them, in one form: the full sphere, and what of it is known.

A level picture of the full sphere stays as it was decoded; everything else is projected onto one.
"""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panovlm.errors import PanoVLMError
from panovlm.geometry.cutting import resize_by_area
from panovlm.geometry.sphere import Mask, Pixels
from panovlm.pictures.colour import is_srgb
from panovlm.pictures.containers import Source, check_pixels, open_picture, xmp_packets
from panovlm.pictures.cubemaps import sphere_from_cubemap, split_cubemap
from panovlm.pictures.declaring import (
    AS_FOUND,
    Declaration,
    DeclaredPicture,
    PictureFile,
    declaration_of,
)
from panovlm.pictures.decoding import decode, from_array, upright_size
from panovlm.pictures.lookalikes import faces_meet, lookalike
from panovlm.pictures.recognising import (
    Cubemap,
    Placement,
    Size,
    declared_placement,
    not_a_sphere,
    placement_by_shape,
    placement_by_xmp,
)
from panovlm.pictures.surfaces import (
    MAX_SPHERE_WIDTH,
    Equirectangular,
    Projection,
    is_addressable,
    project_to_sphere,
)


@dataclass(frozen=True)
class Panorama:
    """The full sphere, and where a picture of a part of it shows something.

    Attributes:
        pixels: uint8 RGB [H, W, 3], W = 2·H, black where nothing is known. A picture read with
            `strict=False` that is not 2:1 stays as it is and counts as stretched.
        mask: Whether a pixel is known, bool [H, W]; None for all of them.
    """

    pixels: Pixels
    mask: Mask | None = None


def read_panorama(
    path: str | PictureFile, min_width: int | None = None, *, strict: bool = True, **declared: Any
) -> Panorama:
    """Read a panorama of any kind from a picture file, in sRGB.

    A level picture of the full sphere is returned as decoded. The following are projected onto the
    sphere, at most 8192 columns wide:

    - a part of the sphere, or a cylinder, by the file's Photo Sphere XMP or as declared;
    - a picture whose XMP says that the camera was tilted: its horizon is levelled;
    - a cube map of 6:1, 1:6 or, as a cross with blank corners, 4:3 (`cubemaps.py` has the order of
      the faces); 3:2 and 2:3 only with `projection="cubemap"`.

    A picture of 2:1 that is seen to be something else, as a dual fisheye, is refused (`strict`) or
    read with a warning, unless its projection is declared.

    Yaw 0 is the direction at the centre column of the full sphere; the compass heading changes
    nothing. XMP that is invalid, or contradicts the picture, is ignored with a warning where the
    picture is 2:1 or `strict` is off, and refused otherwise.

    A JPEG is decoded at the smallest of the scales 1, 1/2, 1/4, 1/8 that keeps `min_width` columns:
    the decoder then skips most of the work. `cutting.required_width` computes the right number.

    Args:
        path: A file of one of `containers.FORMATS`, maybe with what is declared of it.
        min_width: Columns of the full sphere that are enough; None keeps the file's resolution.
        strict: Whether a picture is refused that is not 2:1 and not known to be anything else.
        **declared: What the file is, as fields of `Declaration`, in place of what came with it:
            projection, hfov_deg, vfov_deg, yaw_deg, pitch_deg, roll_deg, use_xmp.

    Returns:
        The panorama, upright by its EXIF orientation. Its ICC profile is applied, alpha is laid
        over black and 16 bits are scaled to 8.

    Raises:
        PanoVLMError: If the file is missing, is no picture, is damaged, too large, not 2:1, or not
            what was declared.
    """
    name, said = str(path), Declaration(**declared) if declared else declaration_of(path)
    with open_picture(Path(path), name) as image:
        check_pixels(image, name)
        size = upright_size(image, name)
        placement = _placement(image, said, size, name, strict=strict)
        pixels = decode(image, name, _columns_needed(placement.projection, size, min_width))
    if said.projection is None and _is_full_sphere(placement):
        _check_sphere(pixels, name, strict=strict)
    return _on_sphere(pixels, placement, size, name, min_width, strict=strict)


def load_panorama(
    path: str | PictureFile, min_width: int | None = None, *, strict: bool = True, **declared: Any
) -> Pixels:
    """Read the pixels of a panorama, as `read_panorama` does, which has the details.

    Args:
        path: A file of one of `containers.FORMATS`, maybe with what is declared of it.
        min_width: Columns that are enough for the caller; None decodes at full size.
        strict: Whether a picture that is not 2:1 is refused.
        **declared: What the file is, as fields of `Declaration`.

    Returns:
        uint8 RGB [H, W, 3], the full sphere, black where a partial panorama shows nothing.
    """
    return read_panorama(path, min_width, strict=strict, **declared).pixels


def declaration_error(picture: DeclaredPicture) -> str | None:
    """Read the header of a picture and return how it contradicts what is declared of it."""
    name = str(picture)
    try:
        with open_picture(picture.path, name) as image:
            size = upright_size(image, name)
    except PanoVLMError:
        return None  # whoever decodes it says so
    try:
        if picture.declared.projection:
            declared_placement(picture.declared, size, name)
    except PanoVLMError as error:
        return str(error)
    return None


def is_read_as_ever(source: Source) -> bool:
    """Check by its header whether a file is read as by every version of this package.

    That is so of level full spheres in sRGB, and holds for whatever was computed from them before.
    """
    try:
        with open_picture(source, "") as image, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            packets = xmp_packets(image)
            placement = placement_by_xmp(packets, upright_size(image, ""), "", strict=True)
            is_level = _is_full_sphere(placement) and placement.axes is None
            return is_level and len(packets) <= 1 and is_srgb(image, "")
    except PanoVLMError:
        return False


def panorama_error(path: PictureFile) -> str | None:
    """Decode a panorama as cheaply as possible and return its error; None if it has none."""
    try:
        load_panorama(path, min_width=1)
    except PanoVLMError as error:
        return str(error)
    return None


def as_panorama(picture: Image.Image | NDArray[np.generic], *, strict: bool = False) -> Pixels:
    """Convert a picture object to the array the views are cut from.

    Only its pixels count: an object may have been cropped or rotated since its metadata was
    written.

    Args:
        picture: A Pillow image of any mode but "F", or an array [H, W] or [H, W, C], C in 1 to 4
            (grey, grey + alpha, RGB, RGBA), of uint8, uint16, bool or float in [0, 1].
        strict: Whether a picture that is neither 2:1 nor a cube map is refused.

    Returns:
        uint8 RGB [H, W, 3], upright by its EXIF orientation. Alpha is laid over black and 16 bits
        are scaled to 8. A cube map is projected onto a sphere.

    Raises:
        PanoVLMError: If the picture is of another kind, damaged, too large or (strict) not 2:1.
    """
    name = "the picture given"
    if isinstance(picture, np.ndarray):
        pixels = from_array(picture, name)
    else:
        check_pixels(picture, name)
        pixels = decode(picture, name)
    size = pixels.shape[1], pixels.shape[0]
    placement = placement_by_shape(size, name, strict=strict)
    if _is_full_sphere(placement):
        _check_sphere(pixels, name, strict=False)
    return _on_sphere(pixels, placement, size, name, None, strict=strict).pixels


def sphere_from_pixels(
    pixels: Pixels, name: str, min_width: int | None = None, declared: Declaration = AS_FOUND
) -> Pixels:
    """Project decoded pixels onto the sphere by the rules of `read_panorama`, without metadata.

    Args:
        pixels: uint8 RGB [h, w, 3], upright.
        name: What errors call the picture.
        min_width: Columns of the full sphere that are enough.
        declared: What the picture is; without a projection its shape decides.

    Returns:
        uint8 RGB [H, W, 3], the full sphere, black where nothing is known.

    Raises:
        PanoVLMError: If the picture is no full sphere or cube map, or not what was declared.
    """
    size = pixels.shape[1], pixels.shape[0]
    if declared.projection is None:
        placement = placement_by_shape(size, name, strict=True)
        if _is_full_sphere(placement):
            _check_sphere(pixels, name, strict=True)
    else:
        placement = declared_placement(declared, size, name)
    return _on_sphere(pixels, placement, size, name, min_width, strict=True).pixels


def _placement(
    image: Image.Image, declared: Declaration, size: Size, name: str, *, strict: bool
) -> Placement:
    """Place a picture as it is declared, by its XMP or by its shape."""
    if declared.projection is not None:
        return declared_placement(declared, size, name)
    packets = xmp_packets(image) if declared.use_xmp else []
    return placement_by_xmp(packets, size, name, strict=strict)


def _is_full_sphere(placement: Placement) -> bool:
    """Check whether a picture counts as a full sphere, level or not."""
    return placement.projection is not None and placement.projection.is_full_sphere


def _check_sphere(pixels: Pixels, name: str, *, strict: bool) -> None:
    """Refuse a picture of 2:1 that is something else, or warn of it."""
    kind = lookalike(pixels)
    if kind is None:
        return
    text = f"{name}: found {kind}, expected a full sphere; "
    if strict:
        raise PanoVLMError(
            f"{text}stitch or convert it first (panovlm convert --projection), or, if it is a full "
            'sphere all the same, declare projection="equirectangular"'
        )
    warnings.warn(f"{text}it is taken as one all the same", stacklevel=2)


def _columns_needed(
    projection: Projection | Cubemap | None, size: tuple[int, int], min_width: int | None
) -> int | None:
    """Compute the columns of the picture itself that `min_width` columns of the sphere need."""
    if min_width is None or projection is None:
        return min_width
    if not isinstance(projection, Cubemap):
        least = 8 / min(projection.width, projection.height)  # keeps a narrow picture whole
        wanted = min_width if projection.is_full_sphere else max(min_width, least)
        return max(1, math.ceil(wanted * projection.width))
    across, side = projection.cells[0], size[0] // projection.cells[0]
    # A scale that does not divide the faces would move their borders.
    wanted = max(1, math.ceil(min_width / 4))
    scale = max(s for s in (1, 2, 4, 8) if s == 1 or (side % s == 0 and side // s >= wanted))
    return side // scale * across


def _on_sphere(
    pixels: Pixels,
    placement: Placement,
    size: tuple[int, int],
    name: str,
    min_width: int | None,
    *,
    strict: bool,
) -> Panorama:
    """Bring a decoded picture to the one internal form."""
    projection = placement.projection
    if isinstance(projection, Cubemap):
        faces = split_cubemap(pixels, grids=projection.is_declared)
        is_certain = projection.is_declared or projection.cells == (4, 3)  # by its blank corners
        if faces is not None and (is_certain or faces_meet(faces)):
            sphere = _sphere_of_faces(faces, min_width)
            if placement.axes is None:
                return Panorama(sphere)
            return Panorama(*project_to_sphere(sphere, Equirectangular(), placement.axes))
        if strict:
            raise not_a_sphere(size, name)
        return Panorama(pixels)
    if projection is None or (projection.is_full_sphere and placement.axes is None):
        return Panorama(pixels)
    if not is_addressable(pixels, projection):
        raise PanoVLMError(
            f"{name}: found {size[0]}x{size[1]}, too tall a picture for its angle, "
            "expected a panorama; correct hfov_deg or its Photo Sphere XMP"
        )
    return Panorama(*project_to_sphere(pixels, projection, placement.axes, min_width))


def _sphere_of_faces(faces: Pixels, min_width: int | None) -> Pixels:
    """Project a cube map, reduced first where it has far more pixels than are wanted."""
    side = faces.shape[1]
    wanted = side if min_width is None or side < min_width // 2 else math.ceil(min_width / 4)
    wanted = min(wanted, MAX_SPHERE_WIDTH // 4)
    if wanted < side:
        faces = np.stack([resize_by_area(face, wanted, wanted) for face in faces])
    return sphere_from_cubemap(faces)
