"""Mutated pictures: read rightly or refused in one clear line, in little room; never a crash.

Containers are taken apart, their parts changed, dropped, doubled or swapped, and joined again; XMP,
profiles and EXIF hold values of all kinds. MUTATED_PICTURES sets how many are tried.
"""

import os
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_pictures import (
    DISPLAY_P3,
    GREY_LINEAR,
    PROPHOTO,
    WORLD,
    cmyk_profile,
    dual_fisheye,
    saved,
)
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from test_hostile_pictures import check
from xmp_packets import AREA, PART, packet

from panovlm.errors import PanoVLMError
from panovlm.pictures.gpano import XMPWarning, read_photo_spheres
from panovlm.pictures.panorama import is_read_as_ever, read_panorama
from panovlm.pictures.png_chunks import png_without_metadata

EXAMPLES = int(os.environ.get("MUTATED_PICTURES", "120"))
TRACED_BYTES = 64 << 20
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="MUTATED_PICTURES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)

PICTURES = [WORLD[::2, ::2], PART, WORLD[::2, ::2], PART, dual_fisheye(32), WORLD[:40, :240]]
PROFILES = [PROPHOTO, DISPLAY_P3, GREY_LINEAR, cmyk_profile()]
NUMBERS = st.one_of(
    st.integers(-400, 5000).map(str),
    st.floats(width=32).map(str),
    st.sampled_from(["", "1e308", "9" * 50, "0x10", "½", "12,5", "359", "-0", "NaN", "&lt;"]),
)


@st.composite
def gpano(draw):
    """XMP of true, odd and missing values, once or several times, maybe mutated."""
    values = dict(AREA)
    for key in draw(st.lists(st.sampled_from(list(AREA)), max_size=2)):
        values.pop(key, None)
    for key in draw(st.lists(st.sampled_from([*AREA, "PosePitchDegrees", "PoseRollDegrees"]))):
        values[key] = draw(NUMBERS)
    if draw(st.booleans()):
        values["ProjectionType"] = draw(st.sampled_from(["cylindrical", "fisheye", "cubemap", ""]))
    xmp = packet(values, elements=draw(st.booleans()), prefix=draw(st.sampled_from(["GPano", "p"])))
    wide = xmp.decode().encode("utf-16")
    xmp = draw(st.sampled_from([xmp, xmp + xmp, xmp + b"\0rest", xmp[:300], wide]))
    return draw(changed_bytes(xmp)) if draw(st.booleans()) else xmp


@st.composite
def changed_bytes(draw, data, most=4):
    """Bytes of which a few are changed, or a piece is cut, doubled or moved."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, max(len(changed) - 1, 0)))
        kind = draw(st.sampled_from(["set", "set", "flip", "cut", "double", "number"]))
        if kind == "set":
            changed[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == "flip":
            changed[at : at + 1] = bytes(value ^ 1 << at % 8 for value in changed[at : at + 1])
        elif kind == "cut":
            del changed[at : at + draw(st.integers(1, 40))]
        elif kind == "double":
            changed[at:at] = changed[at : at + draw(st.integers(1, 200))]
        else:
            size = draw(st.sampled_from(["<H", ">H", "<I", ">I"]))
            value = draw(st.sampled_from([0, 1, 0x7FFF, 0xFFFF])) * (0x10001 if "I" in size else 1)
            changed[at : at + struct.calcsize(size)] = struct.pack(size, value)
    return bytes(changed)


@st.composite
def exif(draw):
    """EXIF of an orientation of any type and value, maybe mutated."""
    entries = Image.Exif()
    entries[0x0112] = draw(st.integers(0, 65535) | st.integers(0, 9))
    data = entries.tobytes()
    return draw(changed_bytes(data)) if draw(st.booleans()) else data


def jpeg_parts(data):
    """The segments of a JPEG, the last with the pixels and what follows."""
    parts, at = [data[:2]], 2
    while data[at : at + 1] == b"\xff" and data[at + 1] != 0xDA:
        length = 2 + struct.unpack_from(">H", data, at + 2)[0]
        parts.append(data[at : at + length])
        at += length
    return [*parts, data[at:]]


def png_parts(data):
    parts, at = [data[:8]], 8
    while at < len(data):
        length = 12 + struct.unpack_from(">I", data, at)[0]
        parts.append(data[at : at + length])
        at += length
    return parts


def riff_parts(data):
    parts, at = [data[:12]], 12
    while at < len(data):
        length = 8 + struct.unpack_from("<I", data, at + 4)[0]
        parts.append(data[at : at + length + length % 2])
        at += length + length % 2
    return parts


def box_parts(data):
    parts, at = [], 0
    while at < len(data):
        length = struct.unpack_from(">I", data, at)[0] or len(data)
        parts.append(data[at : at + length])
        at += length
    return parts


def tiff_parts(data):
    """The entries of a TIFF's first directory, what lies before it and behind."""
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    first = start + 2
    entries = [data[at : at + 12] for at in range(first, first + 12 * count, 12)]
    return [data[:first], *entries, data[first + 12 * count :]]


PARTS = {
    "JPEG": jpeg_parts,
    "MPO": jpeg_parts,
    "PNG": png_parts,
    "WEBP": riff_parts,
    "AVIF": box_parts,
    "TIFF": tiff_parts,
}


def right_sum(part):
    """A PNG chunk with the sum of its changed content."""
    return part[:-4] + struct.pack(">I", zlib.crc32(part[4:-4])) if len(part) > 12 else part


@st.composite
def mutated_pictures(draw):
    """A picture with metadata of all kinds, taken apart, changed and joined again."""
    kind = draw(st.sampled_from(list(PARTS)))
    image = Image.fromarray(np.ascontiguousarray(draw(st.sampled_from(PICTURES))))
    modes = {"JPEG": ["L", "CMYK"], "MPO": ["RGB"], "WEBP": ["RGBA"], "AVIF": ["RGBA"]}
    image = image.convert(draw(st.sampled_from(["RGB", *modes.get(kind, ["L", "P", "RGBA"])])))
    options = {"xmp": draw(gpano())}
    if kind == "TIFF":
        options = {"tiffinfo": {700: options["xmp"]}}
    if draw(st.booleans()):
        profile = draw(st.sampled_from(PROFILES))
        options["icc_profile"] = draw(changed_bytes(profile)) if draw(st.booleans()) else profile
    if draw(st.booleans()) and kind not in ("TIFF", "AVIF"):  # whose writers check it
        options["exif"] = draw(exif())
    if kind == "PNG":
        info = PngInfo()
        info.add(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + options.pop("xmp"))
        options["pnginfo"] = info
    if kind == "MPO":
        options |= {"save_all": True, "append_images": [image.resize((16, 8))]}
    data = saved(image, kind, **options)
    parts = PARTS[kind](data)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(parts) - 1))
        change = draw(st.sampled_from(["change", "change", "sum", "drop", "double", "swap"]))
        if change in ("change", "sum"):
            part = draw(changed_bytes(parts[at]))
            parts[at] = right_sum(part) if change == "sum" and kind == "PNG" else part
        elif change == "drop" and len(parts) > 1:
            del parts[at]
        elif change == "double":
            parts.insert(at, parts[at])
        else:
            other = draw(st.integers(0, len(parts) - 1))
            parts[at], parts[other] = parts[other], parts[at]
    return b"".join(parts)


@FUZZ
@given(data=mutated_pictures(), min_width=st.sampled_from([1, 64, 256, 512]))
def test_a_mutated_picture_is_read_rightly_or_refused_in_little_room(
    tmp_path_factory, data, min_width
):
    path = tmp_path_factory.getbasetemp() / "mutated"
    path.write_bytes(data)
    tracemalloc.start()  # not while the next picture is made: it slows that
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            check(read_panorama(path, min_width))
        except PanoVLMError as error:
            assert "expected" in str(error)
            assert "\n" not in str(error)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        is_read_as_ever(path)
    assert peak < TRACED_BYTES


@FUZZ
@given(st.binary(max_size=300) | gpano() | st.text(max_size=200).map(str.encode))
def test_no_xmp_raises_anything(xmp):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", XMPWarning)
        for found in read_photo_spheres([xmp, xmp], "photo"):
            assert abs(found.pitch_deg) <= 90
            assert abs(found.roll_deg) <= 180


@FUZZ
@given(
    st.binary(max_size=200),
    st.lists(
        st.tuples(st.sampled_from([b"IDAT", b"tEXt", b"iTXt", b"zTXt", b"iCCP"]), st.binary()),
        max_size=5,
    ),
)
def test_taking_a_png_apart_leaves_all_that_counts(head, chunks):
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in chunks:
        data += struct.pack(">I", len(content)) + kind + content
        data += struct.pack(">I", zlib.crc32(kind + content))
    kept, info = png_without_metadata(data)
    pixels = b"".join(c for k, c in chunks if k == b"IDAT")
    assert b"".join(part[8:-4] for part in png_parts(kept)[1:]) == pixels
    assert set(info) <= {"xmp", "icc_profile", "exif"}
    png_without_metadata(head)
    png_without_metadata(data + head)
