"""Decoding: from an opened picture or an array to upright uint8 sRGB pixels [H, W, 3].

Pillow decodes, or, for the same pixels faster, libjpeg-turbo's own interface where simplejpeg is
installed (the extra `fast`).
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import Pixels
from panovlm.pictures.colour import pixels_to_srgb, to_srgb
from panovlm.pictures.containers import decoder_errors

try:
    from simplejpeg import decode_jpeg
except ImportError:
    decode_jpeg = None

_ORIENTATION = 0x0112
_SWAPPING_ORIENTATIONS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""
_STRAIGHT_MODES = {"La": "LA", "RGBa": "RGBA"}
"""What modes of colours multiplied by alpha become first."""


def upright_size(image: Image.Image, name: str) -> tuple[int, int]:
    """Return (width, height) of an opened picture, upright by its EXIF orientation."""
    with decoder_errors(name):
        swaps = image.getexif().get(_ORIENTATION, 1) in _SWAPPING_ORIENTATIONS
    width, height = image.size
    return (height, width) if swaps else (width, height)


def decode(image: Image.Image, name: str, min_width: int | None = None) -> Pixels:
    """Decode an opened picture, make it upright and convert it to sRGB.

    Args:
        image: The picture.
        name: What errors call it.
        min_width: Columns of the upright picture that are enough. Of the scales at which a JPEG
            can be decoded the smallest that keeps them is taken; None decodes at full size.

    Raises:
        PanoVLMError: If the picture is damaged or of a kind that is not read.
    """
    with decoder_errors(name):
        if min_width is not None:
            # `draft` takes the smallest scale that keeps both sides; 1 leaves the other side free.
            swaps = upright_size(image, name) != image.size
            image.draft(image.mode, (1, min_width) if swaps else (min_width, 1))
        if (pixels := _decode_turbo(image)) is not None:
            return pixels_to_srgb(pixels, image, name)
        image.load()
        if image.getexif().get(_ORIENTATION, 1) != 1:  # transposing copies even what is upright
            image = ImageOps.exif_transpose(image)
        return _to_rgb(image, name)


def _decode_turbo(image: Image.Image) -> Pixels | None:
    """Decode a plain upright JPEG at the size that `draft` chose; None leaves it to Pillow.

    What libjpeg-turbo finds invalid is left to Pillow too, whose verdict counts.
    """
    if decode_jpeg is None or not isinstance(image, JpegImageFile) or not image.tile:
        return None
    if image.mode != "RGB" or image.getexif().get(_ORIENTATION, 1) != 1 or image.fp is None:
        return None
    image.fp.seek(0)
    try:
        pixels: Pixels = decode_jpeg(
            image.fp.read(), "RGB", min_width=image.width, min_height=image.height
        )
    except ValueError:
        return None
    return pixels if pixels.shape[1::-1] == image.size else None


def _to_rgb(image: Image.Image, name: str) -> Pixels:
    """Convert a decoded picture of any mode to uint8 sRGB [H, W, 3]."""
    if image.mode == "F":
        raise PanoVLMError(
            f"{name}: found floating-point pixels, expected 8 or 16 bits per channel; tone-map the "
            "picture first"
        )
    if image.mode in _STRAIGHT_MODES:
        image = image.convert(_STRAIGHT_MODES[image.mode])
    if image.mode.startswith("I"):  # I;16 and its kin, and I where the file held 16 bits
        grey = np.asarray(image).astype(np.int64).clip(0, 65535)
        profile = image.info.get("icc_profile")
        image = Image.fromarray(_to_uint8(grey.astype(np.uint16), name))
        image.info["icc_profile"] = profile
    image = to_srgb(image, name)
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def from_array(array: NDArray[np.generic], name: str) -> Pixels:
    """Convert an array [H, W] or [H, W, C] to uint8 RGB [H, W, 3]."""
    pixels = _to_uint8(array, name)
    channels = 1 if pixels.ndim == 2 else pixels.shape[-1]
    if pixels.ndim not in (2, 3) or channels not in (1, 2, 3, 4) or pixels.size == 0:
        raise PanoVLMError(
            f"{name}: found an array of shape {array.shape}, expected [H, W] or [H, W, C] with C "
            "in 1 to 4; put the channels last"
        )
    if channels == 3:
        return np.ascontiguousarray(pixels)
    if channels == 1:
        return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    return _to_rgb(Image.fromarray(pixels), name)


def _to_uint8(array: NDArray[np.generic], name: str) -> Pixels:
    """Scale the values of an array to 0..255."""
    if array.dtype == np.uint8:
        return array.astype(np.uint8, copy=False)
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if np.issubdtype(array.dtype, np.floating):
        values = array.astype(np.float64)
        if bool(np.all((values >= 0.0) & (values <= 1.0))):  # false for NaN too
            return np.rint(values * 255).astype(np.uint8)
    raise PanoVLMError(
        f"{name}: found an array of {array.dtype} out of range, expected uint8, uint16, bool or "
        "float in [0, 1]; convert it first"
    )
