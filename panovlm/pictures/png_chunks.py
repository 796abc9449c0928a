"""PNG chunks beside the pixels: XMP and the colour profile, read within bounds; texts left out.

Pillow refuses a PNG whose texts unpack to more than it allows. Editors write such texts, and they
have nothing to do with the picture: here they are not unpacked at all.

Source:
    https://www.w3.org/TR/png-3/, chapters 5 and 11.3.
"""

import re
import struct
import zlib
from typing import Any

MAX_UNPACKED_BYTES = 1 << 24
"""The longest XMP or profile that is unpacked."""

_SIGNATURE_BYTES = 8
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
_RAW_PROFILE = re.compile(rb"Raw profile type (exif|APP1|xmp)\0")
_EXIF = b"Exif\0\0"
_LEFT_OUT = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")


def png_without_metadata(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """Take texts and profile out of a PNG.

    Args:
        data: The file.

    Returns:
        The file without its texts and its profile, and those of them that count as Pillow's `info`
        names them: `xmp`, all packets in one, `exif` and `icc_profile`. Damaged chunks stay in the
        file, for the decoder to find.
    """
    kept: list[bytes | memoryview] = []
    info: dict[str, Any] = {}
    view, at, kept_from = memoryview(data), _SIGNATURE_BYTES, 0
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        following = at + 12 + length
        if following > len(data):
            break
        if kind in _LEFT_OUT and _is_whole(view[at + 4 : following]):
            _keep(kind, bytes(view[at + 8 : following - 4]), info)
            kept.append(view[kept_from:at])
            kept_from = following
        at = following
    return (b"".join([*kept, view[kept_from:]]) if kept else data), info


def _is_whole(chunk: memoryview) -> bool:
    """Check a chunk's sum: of its kind and content, behind them."""
    return zlib.crc32(chunk[:-4]) == int.from_bytes(chunk[-4:], "big")


def _keep(kind: bytes, content: bytes, info: dict[str, Any]) -> None:
    """Add what a chunk holds to `info`, if it counts."""
    if kind == b"iCCP":
        profile = _unpacked(content.partition(b"\0")[2][1:])  # name, method, packed profile
        if profile:
            info["icc_profile"] = profile
    elif kind == b"iTXt" and content.startswith(_XMP_KEYWORD):
        is_packed, rest = content[len(_XMP_KEYWORD)], content[len(_XMP_KEYWORD) + 2 :]
        text = rest.split(b"\0", 2)[-1]  # after language and translated keyword
        packet = _unpacked(text) if is_packed else text
        _keep_packet(packet, info)
    elif kind in (b"tEXt", b"zTXt") and (named := _RAW_PROFILE.match(content)):
        text = content[named.end() :]
        profile = _from_hex(_unpacked(text[1:]) if kind == b"zTXt" else text)
        if profile.startswith(_EXIF):
            info["exif"] = profile
        elif named[1] == b"xmp":
            _keep_packet(profile, info)


def _keep_packet(packet: bytes | None, info: dict[str, Any]) -> None:
    if packet:
        info["xmp"] = info.get("xmp", b"") + packet


def _from_hex(text: bytes | None) -> bytes:
    """Read a profile as ImageMagick writes it: its name, its length, and hexadecimal digits."""
    try:
        _, _, length, digits = (text or b"").split(b"\n", 3)
        return bytes.fromhex(digits.decode("ascii"))[: int(length)]
    except ValueError:
        return b""


def _unpacked(packed: bytes) -> bytes | None:
    """Unpack; None for what is damaged or longer than `MAX_UNPACKED_BYTES`."""
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(packed, MAX_UNPACKED_BYTES)
    except zlib.error:
        return None
    return unpacked if unpacker.eof else None
