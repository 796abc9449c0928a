"""Reading what a conversion alone takes: raw camera pictures, stereo, frames of videos."""

from dataclasses import replace
from pathlib import Path

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
    declared, raw = settings.declared, settings.raw_projection
    is_declared = bool(declared.projection or raw)
    frame = read_frame(path, time_s, use_metadata=declared.use_xmp and not is_declared)
    return _sphere(
        frame.pixels, raw or frame.projection, f"{path} at {time_s:g} s", min_width, settings
    )


def read_raw_sphere(path: Path, min_width: int | None, settings: ConversionSettings) -> Pixels:
    """Read a picture of `RAW_PROJECTIONS` as a sphere.

    Raises:
        PanoVLMError: If it cannot be decoded, or has not the shape of what was declared.
    """
    name = str(path)
    with open_picture(path, name) as image:
        check_pixels(image, name)
        pixels = decode(image, name)
    return _sphere(pixels, settings.raw_projection, name, min_width, settings)


def _sphere(
    pixels: Pixels,
    raw_projection: str | None,
    name: str,
    min_width: int | None,
    settings: ConversionSettings,
) -> Pixels:
    """Project pixels [H, W, 3] onto the sphere."""
    declared = settings.declared
    if raw_projection == "dual-fisheye":
        assert settings.lens_fov_deg is not None  # the settings see to it
        return sphere_from_dual_fisheye(pixels, settings.lens_fov_deg, name, min_width)
    if raw_projection in STEREO_PROJECTIONS:
        is_part = declared.hfov_deg is not None or declared.vfov_deg is not None
        pixels = left_eye(pixels, raw_projection, name, is_part=is_part)
        declared = replace(declared, projection=declared.projection or "equirectangular")
    return sphere_from_pixels(pixels, name, min_width, declared)
