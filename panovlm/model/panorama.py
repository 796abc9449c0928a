"""Reading panoramas: from a picture file or object to an upright uint8 RGB array [H, W, 3].

Only Pillow decodes, only four formats are opened, and the number of pixels is checked before any of
them is decoded. Every fault of a file becomes a `PanoVLMError` of one line.
"""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import PanoVLMError

Pixels = NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")
"""The picture formats that are opened; fewer decoders, fewer holes."""
MAX_PIXELS = 150_000_000
"""The largest picture decoded: a panorama of 16384 x 8192 passes, a decompression bomb does not."""
ASPECT_TOLERANCE = 0.02
"""How far width / height may be from 2."""

_ORIENTATION = 0x0112
_QUARTER_TURNS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""
_DECODER_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    RuntimeError,
    EOFError,
    struct.error,
)
"""What Pillow's decoders raise on broken files."""


def load_panorama(path: str | Path, min_width: int | None = None, *, strict: bool = True) -> Pixels:
    """Read a panorama from a picture file.

    A JPEG is decoded at the smallest of the scales 1, 1/2, 1/4, 1/8 that keeps `min_width` columns:
    the decoder then skips most of the work. `cutting.required_width` gives the right number.

    Args:
        path: A JPEG, PNG, WebP or TIFF file.
        min_width: Columns that are enough for the caller; None decodes at full size.
        strict: Whether a picture that is not 2:1 is refused.

    Returns:
        uint8 RGB [H, W, 3], turned upright by its EXIF orientation. Alpha is laid over black and
        16 bits are scaled to 8.

    Raises:
        PanoVLMError: If the file is missing, is no picture, is damaged, too large or not 2:1.
    """
    name = str(path)
    with _opened(path, name) as image:
        _check_pixels(image, name)
        with _decoding(name):
            orientation = image.getexif().get(_ORIENTATION, 1)
        swapped = orientation in _QUARTER_TURNS
        if strict:
            _check_aspect(*(image.size[::-1] if swapped else image.size), name)
        if min_width is not None:
            # `draft` takes the smallest scale that keeps both sides; 1 leaves the other side free.
            image.draft(image.mode, (1, min_width) if swapped else (min_width, 1))
        return _decoded(image, name)


def check_panorama(path: str | Path) -> None:
    """Decode a panorama as cheaply as possible, to prove that training will be able to.

    Raises:
        PanoVLMError: Whatever `load_panorama` would raise for this file.
    """
    load_panorama(path, min_width=1)


def panorama_fault(path: str | Path) -> str | None:
    """Say what keeps a file from being a panorama; None if nothing does."""
    try:
        check_panorama(path)
    except PanoVLMError as fault:
        return str(fault)
    return None


def as_panorama(picture: Image.Image | NDArray[np.generic], *, strict: bool = False) -> Pixels:
    """Turn a picture object into the array the views are cut from.

    Args:
        picture: A Pillow image of any mode but "F", or an array [H, W] or [H, W, C], C in 1 to 4
            (grey, grey + alpha, RGB, RGBA), of uint8, uint16, bool or float in [0, 1].
        strict: Whether a picture that is not 2:1 is refused.

    Returns:
        uint8 RGB [H, W, 3], turned upright by its EXIF orientation. Alpha is laid over black and
        16 bits are scaled to 8.

    Raises:
        PanoVLMError: If the picture is of another kind, damaged, too large or (strict) not 2:1.
    """
    name = "the picture given"
    if isinstance(picture, np.ndarray):
        pixels = _from_array(picture, name)
    else:
        _check_pixels(picture, name)
        pixels = _decoded(picture, name)
    if strict:
        _check_aspect(pixels.shape[1], pixels.shape[0], name)
    return pixels


def is_full_sphere(width: int, height: int) -> bool:
    """Whether a picture of this size is 2:1 within the tolerance."""
    return abs(width - 2 * height) <= ASPECT_TOLERANCE * height


def _opened(path: str | Path, name: str) -> Image.Image:
    """Open a picture file and read its header only."""
    if Path(path).is_dir():
        raise PanoVLMError(f"{name}: found a directory, expected a picture file; name a file in it")
    try:
        with warnings.catch_warnings():
            # Pillow warns from 89 megapixels on, where ours is a limit, not a warning.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(path, formats=FORMATS)
    except FileNotFoundError as error:
        raise PanoVLMError(
            f"{name}: found no such file, expected a panorama picture; check the path"
        ) from error
    except Image.DecompressionBombError as error:
        raise PanoVLMError(
            f"{name}: found too large a picture, expected at most {MAX_PIXELS / 1e6:g} megapixels; "
            "scale it down"
        ) from error
    except UnidentifiedImageError as error:
        raise PanoVLMError(
            f"{name}: found no readable picture, expected a whole {', '.join(FORMATS[:-1])} or "
            f"{FORMATS[-1]} file; convert, re-copy or remove it"
        ) from error
    except PermissionError as error:
        raise PanoVLMError(
            f"{name}: found a file that may not be read, expected a panorama picture; change its "
            "permissions"
        ) from error
    except _DECODER_FAULTS as error:
        raise _damaged(name) from error


def _decoded(image: Image.Image, name: str) -> Pixels:
    """Decode an opened picture, turn it upright and convert it to RGB."""
    with _decoding(name):
        image.load()
        upright = ImageOps.exif_transpose(image)
    return _to_rgb(upright, name)


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one clear line."""
    try:
        yield
    except _DECODER_FAULTS as error:
        raise _damaged(name) from error


def _damaged(name: str) -> PanoVLMError:
    """Word a decoder's fault; Pillow's own text may hold addresses and tells the user nothing."""
    return PanoVLMError(
        f"{name}: found a truncated or damaged file, expected a whole picture; re-copy or remove it"
    )


def _to_rgb(image: Image.Image, name: str) -> Pixels:
    """Convert a decoded picture of any mode to uint8 RGB [H, W, 3]."""
    if image.mode == "F":
        raise PanoVLMError(
            f"{name}: found floating-point pixels, expected 8 or 16 bits per channel; tone-map the "
            "picture first"
        )
    if image.mode.startswith("I"):  # I;16 and its kin, and I where the file held 16 bits
        grey = np.asarray(image).astype(np.int64).clip(0, 65535)
        return _from_array(grey.astype(np.uint16), name)
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _from_array(array: NDArray[np.generic], name: str) -> Pixels:
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


def _check_pixels(image: Image.Image, name: str) -> None:
    """Refuse a picture that would take too much memory, before it is decoded."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise PanoVLMError(
            f"{name}: found {width}x{height}, too large a picture, expected at most "
            f"{MAX_PIXELS / 1e6:g} megapixels; scale it down"
        )


def _check_aspect(width: int, height: int, name: str) -> None:
    """Refuse a picture that does not show the full sphere."""
    if not is_full_sphere(width, height):
        raise PanoVLMError(
            f"{name}: found {width}x{height}, expected width = 2 x height; crop or pad the picture "
            "to a full sphere"
        )
