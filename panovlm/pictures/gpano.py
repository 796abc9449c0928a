"""Google's Photo Sphere XMP in a picture: its projection, cropped area and tilt.

XMP comes from strangers. It is read by a streaming parser that keeps only the properties named
here, and refuses document types (and with them entities) and a size no program writes. It is read
as programs leave it: in several packets, with other bytes before and behind, with the prefix GPano
not declared, with a bare & in a title. Invalid XMP raises a warning, and the picture counts as one
without XMP.

Source:
    https://developers.google.com/streetview/spherical-metadata. Roll is positive where the camera's
    right side is lowered, as there; files of other authors that mean the opposite cannot be told
    from these, and are read by declaring their projection.
"""

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from xml.parsers import expat

NAMESPACE = "http://ns.google.com/photos/1.0/panorama/"
MAX_XMP_BYTES = 1 << 24
"""The longest XMP that is parsed; editors keep a picture's history in it."""

_MAX_DOCUMENTS, _MAX_DEPTH = 32, 1000
_PREFIX = "GPano"
_BARE_AMPERSAND = re.compile(rb"&(?!(?:amp|lt|gt|quot|apos|#[0-9]+|#x[0-9a-fA-F]+);)")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_WIDE_TAG = re.compile(rb"<\0[?\w]\0")
_LONG_BYTES = 1 << 16
_MENTION = re.compile(rb"G\0?P\0?a\0?n\0?o|1\0?\.\0?0\0?/\0?p\0?a\0?n\0?o\0?r\0?a\0?m\0?a")
"""The usual prefix or the end of the namespace, in letters of one byte or two."""
_PACKET = re.compile(rb"<\?xpacket begin|<(?=\w+:x[am]pmeta[\s>])")
_AREA = (
    "FullPanoWidthPixels",
    "FullPanoHeightPixels",
    "CroppedAreaLeftPixels",
    "CroppedAreaTopPixels",
    "CroppedAreaImageWidthPixels",
    "CroppedAreaImageHeightPixels",
)
_TILT_LIMITS_DEG = {"PosePitchDegrees": 90.0, "PoseRollDegrees": 180.0}
_KEPT = {"ProjectionType", *_AREA, *_TILT_LIMITS_DEG}


@dataclass(frozen=True)
class CroppedArea:
    """Where a picture lies in the panorama it was cropped from, in that panorama's pixels.

    Attributes:
        full_width: Columns of the whole 360°.
        full_height: Rows of the full sphere; of a cylinder, rows of the one that was cropped, the
            horizon in their middle, or 0.
        left: First column of the picture.
        top: First row of the picture. For a cylinder without a full height that holds it, it is
            counted from the horizon down.
        width: Columns of the picture when it was cropped; it may have been scaled since.
        height: Rows of the picture when it was cropped.
    """

    full_width: float
    full_height: float
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class PhotoSphere:
    """The Photo Sphere properties of a picture.

    `UsePanoramaViewer` concerns display and is not read, and neither is the compass heading: yaw 0
    is the centre column whatever it faces.

    Attributes:
        projection: As written, in lower case, such as "equirectangular" or "cylindrical".
        area: The part of the full panorama that the picture shows; None if it is not given.
        pitch_deg: Pitch of the camera at the centre, in [-90, 90].
        roll_deg: Clockwise roll of the camera, its right side lowered, in [-180, 180].
    """

    projection: str = "equirectangular"
    area: CroppedArea | None = None
    pitch_deg: float = 0.0
    roll_deg: float = 0.0


class XMPWarning(UserWarning):
    """XMP of a picture is not used, or not all of it."""


def read_photo_spheres(packets: Sequence[bytes], name: str) -> list[PhotoSphere]:
    """Read the Photo Sphere properties of XMP packets, written as attributes or as elements.

    Args:
        packets: XMP as it is in the file.
        name: What warnings call the picture.

    Returns:
        The properties of each packet that has any. Invalid packets are left out, with a warning if
        no other has properties.
    """
    found, errors = [], []
    for xmp in packets:
        try:
            found += [_photo_sphere(each, name) for each in _properties(xmp) if each]
        except (expat.ExpatError, ValueError) as error:
            errors.append(str(error))
    if errors and not found:
        warnings.warn(
            f"{name}: found invalid XMP ({errors[0]}), expected Photo Sphere properties; they are "
            "ignored and the picture's shape decides (remove or rewrite the XMP)",
            XMPWarning,
            stacklevel=2,
        )
    return found


def _properties(xmp: bytes) -> Iterator[dict[str, str]]:
    """Yield the properties of each document in a packet and what stands behind it."""
    if len(xmp) > _LONG_BYTES and not _MENTION.search(xmp):  # histories and depth maps
        return
    if len(xmp) > MAX_XMP_BYTES:
        raise ValueError(f"{len(xmp)} bytes, more than {MAX_XMP_BYTES}")
    text = _as_utf8(xmp)
    starts = [found.start() for found in islice(_PACKET.finditer(text), _MAX_DOCUMENTS)]
    end = 0
    for start in starts or [0]:
        if start >= end:  # not inside the document before
            properties, length = _Document().parse(text[start:])
            end = start + length
            yield properties


def _as_utf8(xmp: bytes) -> bytes:
    """Return XMP of any encoding as UTF-8 that a parser takes, from its first tag on."""
    wide = _WIDE_TAG.search(xmp, 0, 64)
    encoding = "utf-8" if wide is None else ("utf-16-le", "utf-16-be")[wide.start() % 2]
    text = xmp.decode(encoding, "replace").encode("utf-8", "replace")
    text = _CONTROL.sub(b" ", _BARE_AMPERSAND.sub(b"&amp;", text))
    return text[max(text.find(b"<"), 0) :]


class _Document:
    """The Photo Sphere properties of one XML document; the first of each counts.

    Prefixes are resolved here: one that is not declared would end the parser's own resolving.
    """

    def __init__(self) -> None:
        self._found: dict[str, str] = {}
        self._texts: list[str] = []
        self._scopes = [{_PREFIX: NAMESPACE}]
        self._length: int | None = None
        self._parser = expat.ParserCreate("utf-8")
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._texts.append
        self._parser.StartDoctypeDeclHandler = self._refuse

    def parse(self, text: bytes) -> tuple[dict[str, str], int]:
        """Return the properties of the first document, and how many bytes it takes."""
        try:
            self._parser.Parse(text, True)
        except expat.ExpatError:
            if self._length is None:  # what stands behind the document does not matter
                raise
        return self._found, len(text) if self._length is None else self._length

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._texts.clear()
        if len(self._scopes) > _MAX_DEPTH:
            raise ValueError(f"elements more than {_MAX_DEPTH} deep")
        declared = {
            name[len("xmlns:") :]: value
            for name, value in attributes.items()
            if name.startswith("xmlns")
        }
        self._scopes.append(self._scopes[-1] | declared if declared else self._scopes[-1])
        for name, value in attributes.items():
            self._keep(name, value)

    def _end(self, tag: str) -> None:
        self._keep(tag, "".join(self._texts))
        self._texts.clear()
        self._scopes.pop()
        if len(self._scopes) == 1 and self._length is None:
            self._length = self._parser.CurrentByteIndex + len(tag) + 3

    def _keep(self, name: str, value: str) -> None:
        prefix, _, local = name.rpartition(":")
        if local in _KEPT and self._scopes[-1].get(prefix) == NAMESPACE:
            self._found.setdefault(local, value.strip())

    def _refuse(self, *_: object) -> None:
        raise ValueError("a document type")


def _photo_sphere(properties: dict[str, str], name: str) -> PhotoSphere:
    """Convert texts to numbers; a ValueError names the one that is invalid."""
    projection = properties.get("ProjectionType", "equirectangular").lower()
    area = {key: _number(properties[key], key) for key in _AREA if key in properties}
    pose = {key: properties.get(key, "0") for key in _TILT_LIMITS_DEG}
    try:
        pitch_deg, roll_deg = (_angle(text, key) for key, text in pose.items())
    except ValueError as error:
        warnings.warn(
            f"{name}: found XMP with {error}, expected an angle; the camera is taken as level "
            "(correct or remove it)",
            XMPWarning,
            stacklevel=2,
        )
        pitch_deg = roll_deg = 0.0
    return PhotoSphere(projection, _area(area, projection), pitch_deg, roll_deg)


def _angle(text: str, key: str) -> float:
    """Read an angle, in (-180, 180] whatever full turns were added."""
    angle = math.remainder(_number(text, key), 360.0)
    if abs(angle) > _TILT_LIMITS_DEG[key]:
        raise ValueError(f"{key} {text[:30]}, beyond {_TILT_LIMITS_DEG[key]:g}")
    return angle


def _area(numbers: dict[str, float], projection: str) -> CroppedArea | None:
    """Gather the cropped area; None if nothing of it is given."""
    if not any(key in numbers for key in _AREA):
        return None
    if projection == "cylindrical":  # has no full height
        numbers = {"FullPanoHeightPixels": 0.0} | numbers
    missing = [key for key in _AREA if key not in numbers]
    if missing:
        raise ValueError(f"no {', '.join(missing)}")
    return CroppedArea(*(numbers[key] for key in _AREA))


def _number(text: str, key: str) -> float:
    """Read a finite number; some programs write whole ones with a decimal point."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{key} {text[:30]!r}, no number")
    return number
