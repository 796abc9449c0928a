"""Reading what a conversion alone takes: raw camera pictures, stereo, frames of videos."""

from pathlib import Path
from typing import Any

from panovlm.geometry.sphere import Pixels
from panovlm.pictures.containers import check_pixels, open_picture
from panovlm.pictures.conversion.settings import ConversionSettings
from panovlm.pictures.conversion.videos import read_frame
from panovlm.pictures.decoding import decode
from panovlm.pictures.dual_fisheye import sphere_from_dual_fisheye
from panovlm.pictures.panorama import sphere_from_pixels
from panovlm.pictures.stereo import STEREO_PROJECTIONS, left_eye


def read_frame_sphere(
    path: Path, time_s: float, min_width: int | None, settings: ConversionSettings
) -> Pixels:
    """Read a frame of a video as a sphere; what is declared counts before its metadata.

    Raises:
        PanoVLMError: If it cannot be decoded, or is not what was declared or found.
    """
    is_declared = settings.projection is not None
    frame = read_frame(path, time_s, use_metadata=settings.use_xmp and not is_declared)
    projection = settings.projection or frame.projection
    return _sphere(frame.pixels, projection, f"{path} at {time_s:g} s", min_width, settings)


def read_raw_sphere(path: Path, min_width: int | None, settings: ConversionSettings) -> Pixels:
    """Read a picture of `RAW_PROJECTIONS` as a sphere.

    Raises:
        PanoVLMError: If it cannot be decoded, or has not the shape of what was declared.
    """
    name = str(path)
    with open_picture(path, name) as image:
        check_pixels(image, name)
        pixels = decode(image, name)
    return _sphere(pixels, settings.projection, name, min_width, settings)


def _sphere(
    pixels: Pixels,
    projection: str | None,
    name: str,
    min_width: int | None,
    settings: ConversionSettings,
) -> Pixels:
    """Project pixels [H, W, 3] onto the sphere."""
    declared: dict[str, Any] = {"projection": projection, "hfov_deg": settings.hfov_deg}
    if projection == "dual-fisheye":
        assert settings.lens_fov_deg is not None  # the settings see to it
        return sphere_from_dual_fisheye(pixels, settings.lens_fov_deg, name, min_width)
    if projection in STEREO_PROJECTIONS:
        pixels = left_eye(pixels, projection, name, is_part=settings.hfov_deg is not None)
        declared["projection"] = "equirectangular"
    return sphere_from_pixels(pixels, name, min_width, **declared)
