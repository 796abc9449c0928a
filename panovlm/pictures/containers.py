"""Containers: from a file to the one picture in it that counts, only its header read.

The kind of a file is detected from its bytes, whatever its name. Cameras and editors put more into
a file than one picture: a JPEG may be followed by others (MPF, as Pillow's "MPO"), a TIFF may hold
thumbnails as pages, a PNG texts of any length. None of these is an error.
"""

import io
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import cv2
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from panovlm.errors import PanoVLMError
from panovlm.pictures.png_chunks import png_without_metadata
from panovlm.pictures.radiance import RadianceFile

Source = str | Path | BinaryIO
"""A picture file's path, or the file itself, opened for reading bytes."""
MAX_PIXELS = 150_000_000
"""The largest picture decoded: a panorama of 16384 x 8192 passes, a decompression bomb does not."""
FORMATS = ("JPEG", "PNG", "WebP", "TIFF", "AVIF", "HEIC", "Radiance HDR")
"""The picture formats that are opened; fewer decoders, fewer holes."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MOVING_FORMATS = ("PNG", "WEBP", "AVIF")
"""Formats whose second frame makes an animation."""
_VIDEO_BRANDS = (b"isom", b"iso2", b"mp41", b"mp42", b"avc1", b"qt  ", b"M4V ")
_HEAD_BYTES = 64
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
"""What the segments of a JPEG with XMP begin with."""
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
_MAX_PAGES = 64
"""Pages of a TIFF among which the picture is looked for."""
_SUBFILE_TYPE, _NO_MAIN_PICTURE = 254, 1 | 4
"""The TIFF tag that marks a page, and its bits: a reduced copy, a transparency mask."""
_SUB_DIRECTORIES = 330
"""The TIFF tag under which raw files keep the picture itself."""
_OTHER_KINDS = {
    b"v/1\x01": ("an OpenEXR file", "tone-map it to 8 bits, or save it as Radiance HDR"),
    b"version https://git-lfs": ("a pointer of Git LFS", "fetch the file: git lfs pull"),
    b"GIF8": ("a GIF", "convert it"),
    b"BM": ("a BMP", "convert it"),
    b"8BPS": ("a Photoshop file", "export it as JPEG or PNG"),
    b"%PDF": ("a PDF", "export its picture"),
    b"\0\0\0\x0cjP  ": ("a JPEG 2000", "convert it"),
    b"\0\0\0\x0cJXL ": ("a JPEG XL", "convert it"),
    b"\xff\x0a": ("a JPEG XL", "convert it"),
}
"""What other files begin with, what they are and what to do."""
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    RuntimeError,
    EOFError,
    AssertionError,
    ArithmeticError,
    AttributeError,
    struct.error,
    Image.DecompressionBombError,
    cv2.error,
)
"""What decoders raise on broken files."""
_TOO_LARGE = "too large a picture, expected at most {:g} megapixels; scale it down"
_ERROR_TEXTS: dict[type[Exception], str] = {
    FileNotFoundError: "found no such file, expected a panorama picture; check the path",
    Image.DecompressionBombError: f"found {_TOO_LARGE.format(MAX_PIXELS / 1e6)}",
    UnidentifiedImageError: "found no readable picture, expected a whole "
    f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]} file; convert, re-copy or remove it",
    PermissionError: "found a file that may not be read, expected a panorama picture; change its "
    "permissions",
    # Pillow's own text may hold addresses and does not help the user.
    Exception: "found a truncated or damaged file, expected a whole picture; re-copy or remove it",
}
"""What an error of a decoder means, the first that fits."""
_UNREAD_VARIANT = ("cannot handle", "unknown pixel mode", "not supported", "not available")
"""What Pillow says of whole files that it cannot decode."""
_UNREAD_TEXT = (
    "found a variant of its format that is not read, expected 8 or 16 bits per channel and a usual "
    "compression; convert it"
)


def open_picture(source: Source, name: str) -> Image.Image:
    """Open a picture file and read its header only.

    Args:
        source: Its path, or the file itself.
        name: What errors call it.

    Returns:
        The main picture, not decoded yet, with its metadata in `info`.

    Raises:
        PanoVLMError: If there is no such file, or it holds no picture of `FORMATS`, or a moving
            one.
    """
    with decoder_errors(name):
        head = _head(source, name)
        if head.startswith(b"\xff\xd8\xff"):  # not by Image.open: what follows it must not matter
            return JpegImageFile(source)
        image = _open_other(source, head, name)
    num_frames = getattr(image, "n_frames", 1) if image.format in _MOVING_FORMATS else 1
    if num_frames > 1:
        raise PanoVLMError(
            f"{name}: found a moving picture of {num_frames} frames, expected one panorama; "
            "save one of its frames"
        )
    return image


@contextmanager
def decoder_errors(name: str) -> Iterator[None]:
    """Convert whatever a decoder raises to one clear line."""
    try:
        yield
    except PanoVLMError:
        raise
    except _DECODER_ERRORS as error:
        if any(words in str(error) for words in _UNREAD_VARIANT):
            text = _UNREAD_TEXT
        else:
            text = next(text for kind, text in _ERROR_TEXTS.items() if isinstance(error, kind))
        raise PanoVLMError(f"{name}: {text}") from error


def check_pixels(image: Image.Image, name: str, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse a picture of more pixels than are allowed, or of none, before it is decoded."""
    width, height = image.size
    if width * height == 0:
        raise PanoVLMError(f"{name}: found a picture without pixels, expected some; re-copy it")
    if width * height > max_pixels:
        too_large = _TOO_LARGE.format(max_pixels / 1e6)
        raise PanoVLMError(f"{name}: found {width}x{height}, {too_large}")


def xmp_packets(image: Image.Image) -> list[bytes]:
    """Return all XMP packets of an opened picture, as they are in the file."""
    if isinstance(image, JpegImageFile):
        segments = [data for marker, data in image.applist if marker == "APP1"]
        standard = [data.removeprefix(_XMP) for data in segments if data.startswith(_XMP)]
        return standard + _extended_xmp(segments)
    xmp = image.info.get("xmp")
    return [xmp] if isinstance(xmp, bytes) else []


def _extended_xmp(segments: list[bytes]) -> list[bytes]:
    """Join the parts of packets too long for one segment; those that lack a part are left out.

    Source:
        XMP Specification Part 3, 1.1.3.1: GUID [32], full length, offset, data.
    """
    parts: dict[bytes, dict[int, bytes]] = {}
    lengths: dict[bytes, int] = {}
    first = len(_EXTENDED_XMP) + 40
    for segment in segments:
        if segment.startswith(_EXTENDED_XMP) and len(segment) >= first:
            guid = segment[first - 40 : first - 8]
            lengths[guid], offset = struct.unpack(">II", segment[first - 8 : first])
            parts.setdefault(guid, {})[offset] = segment[first:]
    joined = {guid: b"".join(found[at] for at in sorted(found)) for guid, found in parts.items()}
    return [packet for guid, packet in joined.items() if len(packet) == lengths[guid]]


def _head(source: Source, name: str) -> bytes:
    """Read how a file begins."""
    if isinstance(source, str | Path):
        _check_regular(source, name)
        with open(source, "rb") as file:
            return file.read(_HEAD_BYTES)
    head = source.read(_HEAD_BYTES)
    source.seek(0)
    return head


def _check_regular(path: str | Path, name: str) -> None:
    """Refuse what is no file: opening a pipe would wait for ever."""
    try:
        mode = Path(path).stat().st_mode
    except (FileNotFoundError, PermissionError):
        raise
    except (OSError, ValueError, RuntimeError) as error:  # too long, with a null, a circle of links
        raise PanoVLMError(
            f"{name[:200]!r}: found a path that leads nowhere, expected that of a picture file; "
            "check the path"
        ) from error
    if stat.S_ISDIR(mode):
        raise PanoVLMError(f"{name}: found a directory, expected a picture file; name a file in it")
    if not stat.S_ISREG(mode):
        raise PanoVLMError(
            f"{name}: found a pipe, socket or device, expected a picture file; copy it to a file"
        )


def _open_other(source: Source, head: bytes, name: str) -> Image.Image:
    """Open a picture that is no JPEG, or say what the file is instead."""
    if head.startswith(b"\x89PNG"):
        return _open_png(source)
    if head.startswith((b"#?RADIANCE", b"#?RGBE")):
        return RadianceFile(source)
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS and b"avif" not in head:
        return _open_heic(source, name)
    if head[4:8] == b"ftyp" and head[8:12] in _VIDEO_BRANDS:
        raise PanoVLMError(
            f"{name}: found a video, expected one panorama; save one of its frames, or several by "
            "panovlm convert --every 2s"
        )
    for start, (kind, fix) in _OTHER_KINDS.items():
        if head.startswith(start):
            raise PanoVLMError(f"{name}: found {kind}, expected one of {', '.join(FORMATS)}; {fix}")
    if head.startswith(_TIFF):
        return _open_tiff(source, name)
    return _opened(source, ("WEBP", "AVIF"))


def _opened(source: Source, formats: tuple[str, ...]) -> Image.Image:
    with warnings.catch_warnings():
        # Pillow warns from 89 megapixels on, where ours is a limit, not a warning.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(source, formats=formats)


def _open_png(source: Source) -> Image.Image:
    """Open a PNG with its XMP and profile, of whatever length, and no other texts."""
    data = source.read() if not isinstance(source, str | Path) else Path(source).read_bytes()
    pixels, info = png_without_metadata(data)
    image = _opened(io.BytesIO(pixels), ("PNG",))
    image.info.update(info)
    return image


def _open_heic(source: Source, name: str) -> Image.Image:
    """Open a HEIC, whose decoder is an extra."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise PanoVLMError(
            f"{name}: found a HEIC, expected the library that reads it; install pillow-heif (the "
            "extra `heif`), or convert the picture"
        ) from error
    image: Image.Image = HeifImageFile(source)
    return image


def _open_tiff(source: Source, name: str) -> Image.Image:
    """Open the picture among the pages of a TIFF: the largest that is no thumbnail and no mask."""
    with TiffImageFile(source) as image:
        is_raw = _SUB_DIRECTORIES in image.tag_v2
        pages = _ranked_pages(image)
    best = max(pages)
    if is_raw and not best[0]:
        raise PanoVLMError(
            f"{name}: found a thumbnail alone, as in raw files, expected a panorama; develop it to "
            "JPEG or TIFF"
        )
    if sum(page[:2] == best[:2] for page in pages) > 1:
        warnings.warn(
            f"{name}: found several pages of one size in a TIFF, expected one panorama; the first "
            "is read (save the others as files of their own)",
            stacklevel=2,
        )
    if not isinstance(source, str | Path):
        source.seek(0)
    main = TiffImageFile(source)  # anew: metadata of a page stay when another is turned to
    main.seek(-best[2])
    return main


def _ranked_pages(image: TiffImageFile) -> list[tuple[bool, int, int]]:
    """Rank the pages of a TIFF; what cannot be read behind the first does not matter."""
    pages = [_rank(image, 0)]
    with suppress(*_DECODER_ERRORS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while len(pages) < _MAX_PAGES:
            image.seek(len(pages))
            pages.append(_rank(image, len(pages)))
    return pages


def _rank(image: TiffImageFile, index: int) -> tuple[bool, int, int]:
    """Rank a page: a main picture before any other, then by pixels, then the earlier."""
    mark = image.tag_v2.get(_SUBFILE_TYPE, 0)
    is_main = not (isinstance(mark, int) and mark & _NO_MAIN_PICTURE)
    return is_main, image.size[0] * image.size[1], -index
