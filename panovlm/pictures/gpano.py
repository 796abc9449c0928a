"""Google's Photo Sphere XMP in a picture: its projection, cropped area and tilt.

XMP comes from strangers. It is read by a streaming parser that keeps only the properties named
here, refuses document types (and with them entities) and a size no camera writes. Invalid XMP
raises a warning, and the picture counts as one without XMP.

Source:
    https://developers.google.com/streetview/spherical-metadata
"""

import math
import warnings
from dataclasses import dataclass
from xml.parsers import expat

NAMESPACE = "http://ns.google.com/photos/1.0/panorama/"
MAX_XMP_BYTES = 1 << 20
"""The longest XMP that is parsed; a JPEG holds 64 KiB of it."""

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
        full_height: Rows of the full sphere; means nothing for a cylinder.
        left: First column of the picture.
        top: First row of the picture. For a cylinder it is counted from the horizon down.
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


def read_photo_sphere(xmp: bytes, name: str) -> PhotoSphere | None:
    """Read the Photo Sphere properties of an XMP packet, written as attributes or as elements.

    Args:
        xmp: The packet.
        name: What warnings call the picture.

    Returns:
        The properties; None where there are none, or, with a warning, where the packet is invalid.
    """
    try:
        return _photo_sphere(_properties(xmp))
    except (expat.ExpatError, ValueError, LookupError) as error:
        warnings.warn(
            f"{name}: found invalid XMP ({error}), expected Photo Sphere properties; they are "
            "ignored and the picture's shape decides (remove or rewrite the XMP)",
            stacklevel=2,
        )
        return None


def _properties(xmp: bytes) -> dict[str, str]:
    """Collect the properties of the namespace by name; the first of each counts."""
    if len(xmp) > MAX_XMP_BYTES:
        raise ValueError(f"{len(xmp)} bytes, more than {MAX_XMP_BYTES}")
    found: dict[str, str] = {}
    texts: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        texts.clear()
        for attribute, value in attributes.items():
            keep(attribute, value)

    def end(tag: str) -> None:
        keep(tag, "".join(texts))
        texts.clear()

    def keep(tag: str, value: str) -> None:
        namespace, _, local = tag.rpartition(" ")
        if namespace == NAMESPACE and local in _KEPT:
            found.setdefault(local, value.strip())

    def refuse(*_: object) -> None:
        raise ValueError("a document type")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = texts.append
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(xmp.strip(b"\0 \t\r\n"), True)
    return found


def _photo_sphere(properties: dict[str, str]) -> PhotoSphere | None:
    """Convert texts to numbers; a ValueError names the one that is invalid."""
    if not properties:
        return None
    projection = properties.get("ProjectionType", "equirectangular").lower()
    numbers = {key: _number(properties[key], key) for key in properties if key != "ProjectionType"}
    for key, limit_deg in _TILT_LIMITS_DEG.items():
        if abs(numbers.get(key, 0.0)) > limit_deg:
            raise ValueError(f"{key} {numbers[key]:g}, beyond {limit_deg:g}")
    pitch_deg, roll_deg = (numbers.get(key, 0.0) for key in _TILT_LIMITS_DEG)
    return PhotoSphere(projection, _area(numbers, projection), pitch_deg, roll_deg)


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
