"""Writing pictures: whole or not at all, and known to viewers as the full sphere."""

from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import Pixels
from panovlm.pictures.colour import SRGB_PROFILE
from panovlm.pictures.marks import is_marked_picture, software_mark
from panovlm.runtime.files import write_own

CONVERT = "panovlm convert"
PILLOW_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
"""The format each ending of a name stands for."""
_MAX_SIDES = {"JPEG": 65_500, "WEBP": 16_383}
"""The most pixels along a side that a format holds."""


def write_picture(pixels: Pixels, path: Path, quality: int, *, is_sphere: bool = False) -> None:
    """Write a picture; at `path` stands either all of it or what was there before.

    The name ends in one of `PILLOW_FORMATS`. The pixels are sRGB, and the file says so. With
    `is_sphere` it has Photo Sphere metadata (GPano), by which viewers know that the picture is the
    full sphere.

    Raises:
        PanoVLMError: If the format holds no picture so large, or something is there that no
            conversion wrote.
    """
    name = PILLOW_FORMATS[path.suffix.lower()]
    height, width = pixels.shape[:2]
    most = _MAX_SIDES.get(name, max(height, width))
    if max(height, width) > most:
        raise PanoVLMError(
            f"{path}: found a picture of {width}x{height}, expected at most {most} px along a side "
            f"in a {name} file; use --format png or a smaller size"
        )
    options: dict[str, Any] = {"icc_profile": SRGB_PROFILE}
    if name != "PNG":
        options["quality"] = quality
    if name == "JPEG":
        options["subsampling"] = "4:4:4"
    if is_sphere:
        options |= _metadata(name, _gpano(width, height))
    picture = Image.fromarray(pixels)
    options["exif"] = software_mark(CONVERT)
    write_own(path, lambda partial: picture.save(partial, format=name, **options), is_converted)


def is_converted(path: Path) -> bool:
    """Return whether a conversion wrote a picture."""
    return is_marked_picture(path, CONVERT)


def _metadata(name: str, packet: str) -> dict[str, Any]:
    """Return the options that make Pillow write an XMP packet."""
    if name != "PNG":
        return {"xmp": packet.encode()}
    chunks = PngInfo()
    chunks.add_itxt("XML:com.adobe.xmp", packet)
    return {"pnginfo": chunks}


def _gpano(width: int, height: int) -> str:
    """Return the XMP packet of a panorama that shows the full sphere.

    Source:
        Photo Sphere XMP metadata, https://developers.google.com/streetview/spherical-metadata.
    """
    values = {
        "ProjectionType": "equirectangular",
        "UsePanoramaViewer": "True",
        "FullPanoWidthPixels": width,
        "FullPanoHeightPixels": height,
        "CroppedAreaImageWidthPixels": width,
        "CroppedAreaImageHeightPixels": height,
        "CroppedAreaLeftPixels": 0,
        "CroppedAreaTopPixels": 0,
    }
    lines = "".join(f"<GPano:{key}>{value}</GPano:{key}>\n" for key, value in values.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
        '<rdf:Description rdf:about="" xmlns:GPano="http://ns.google.com/photos/1.0/panorama/">\n'
        f"{lines}</rdf:Description>\n</rdf:RDF>\n</x:xmpmeta>\n"
        '<?xpacket end="w"?>'
    )
