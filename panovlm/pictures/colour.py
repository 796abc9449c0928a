"""Colours as sRGB: a picture's ICC profile is applied when it is read.

The values of a picture without a profile are taken as sRGB, as viewers take them; those of CMYK
without one are converted by Pillow's plain formula.

Source:
    ICC.1:2022, https://www.color.org/specification/ICC.1-2022-05.pdf; the perceptual intent, which
    every profile has.
"""

import io
import warnings
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from panovlm.geometry.sphere import Pixels

_CONVERTED_MODES = {"1": "L", "P": "RGB", "YCbCr": "RGB", "HSV": "RGB", "LA": "L", "RGBA": "RGB"}
"""The mode in which a picture meets its profile, where not its own; alpha is carried beside it."""
_TOLERANCE = 2
"""Levels by which a profile may differ from sRGB and count as it: variants of sRGB differ so."""
_CIELAB = b"CIELAB"
"""Stands for the profile of pictures in CIE L*a*b*, whose values need none to be read."""
_PROFILE_DATE = slice(24, 36)


def _srgb_profile() -> bytes:
    """Return an sRGB profile, the same bytes whenever it is made."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[_PROFILE_DATE] = bytes.fromhex("07d0" + "0001" * 2 + "0000" * 3)  # 1 January 2000
    return bytes(profile)


SRGB_PROFILE = _srgb_profile()
"""What is written beside pixels in sRGB."""


def to_srgb(image: Image.Image, name: str) -> Image.Image:
    """Apply the ICC profile of a decoded picture.

    Args:
        image: A decoded picture of any mode.
        name: What the warning about a profile that cannot be applied calls it.

    Returns:
        The picture in sRGB, "RGB" or "RGBA"; itself where it has no profile, or that of sRGB.
    """
    transform = _transform_of(image, name)
    if transform is None:
        return image
    opaque = image if image.mode == transform.input_mode else image.convert(transform.input_mode)
    converted = transform.apply(opaque)
    if image.has_transparency_data:
        converted.putalpha(image.convert("RGBA").getchannel("A"))
    return converted


def pixels_to_srgb(pixels: Pixels, image: Image.Image, name: str) -> Pixels:
    """Apply the ICC profile of an opened picture to its pixels, uint8 RGB [H, W, 3]."""
    transform = _transform_of(image, name)
    return pixels if transform is None else np.array(transform.apply(Image.fromarray(pixels)))


def is_srgb(image: Image.Image, name: str) -> bool:
    """Check whether an opened picture's values are taken as sRGB as they are."""
    return _transform_of(image, name) is None


def _transform_of(image: Image.Image, name: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform to sRGB; None for what is sRGB, has no profile or an unusable one."""
    profile = image.info.get("icc_profile")
    if image.mode == "LAB":
        profile = _CIELAB
    if not isinstance(profile, bytes) or not profile:
        return None
    mode = _CONVERTED_MODES.get(image.mode, image.mode)
    transform = _transform(profile, mode)
    if isinstance(transform, str):
        warnings.warn(
            f"{name}: found an ICC profile that cannot be applied ({transform}), expected one for "
            f"{image.mode}; the colours are taken as sRGB (remove or rewrite the profile)",
            stacklevel=2,
        )
        return None
    return transform


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | str | None:
    """Build a profile's transform; None if it changes nothing, a text if there can be none."""
    try:
        if profile == _CIELAB:
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if mode == "L" and space == "RGB":  # grey values of a picture that was in colour
            mode = "RGB"
        target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        transform = ImageCms.ImageCmsTransform(source, target, mode, "RGB")
    except (OSError, ValueError) as error:
        return str(error) or "it is damaged"
    return None if mode in ("RGB", "L") and _changes_nothing(transform) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Try a transform from RGB or grey on colours all over the cube."""
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    if transform.input_mode == "L":
        plain = np.repeat(levels[None, :, None], 3, axis=2)
        image = Image.fromarray(levels[None])
    else:
        plain = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
        image = Image.fromarray(plain)
    converted = np.asarray(transform.apply(image)).astype(np.int16)
    return bool(np.abs(converted - plain).max() <= _TOLERANCE)
