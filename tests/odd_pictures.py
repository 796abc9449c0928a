"""Pictures as cameras, editors and other programs leave them, for the tests of all that reads them.

Everything is built from its specification: ICC profiles, PNG chunks, JPEG segments, fisheyes.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms
from xmp_packets import colours

from panovlm.geometry.sphere import panorama_rays

WORLD = colours(panorama_rays(128, 256))


def s15(value):
    return struct.pack(">i", round(value * 65536))


def xyz(*values):
    return b"XYZ \0\0\0\0" + b"".join(map(s15, values))


def curve(gamma):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def icc_profile(space, tags, kind=b"mntr", connection=b"XYZ "):
    """An ICC profile of version 2: header, table of tags, tags."""
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78)
    white = xyz(0.9642, 1.0, 0.8249)
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0none\0\0\0\0", b"wtpt": white} | tags
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = start + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"none", 0x02200000, kind, space, connection)
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += b"".join(map(s15, (0.9642, 1.0, 0.8249)))
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def rgb_profile(red, green, blue, gamma):
    """A profile of three primaries (X, Y, Z at D50) and a gamma."""
    primaries = {b"rXYZ": xyz(*red), b"gXYZ": xyz(*green), b"bXYZ": xyz(*blue)}
    return icc_profile(
        b"RGB ", primaries | {name: curve(gamma) for name in (b"rTRC", b"gTRC", b"bTRC")}
    )


PROPHOTO = rgb_profile((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249), 1.8)
DISPLAY_P3 = rgb_profile(
    (0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841), 2.2
)
GREY_LINEAR = icc_profile(b"GRAY", {b"kTRC": curve(1.0)})


def cmyk_profile():
    """A profile of CMYK by a table of 2 x 2 x 2 x 2 colours: as inks of a plain formula look."""
    inks = np.stack(np.meshgrid(*[[0.0, 1.0]] * 4, indexing="ij"), axis=-1).reshape(16, 4)
    shown = (1 - inks[:, :3]) * (1 - 0.7 * inks[:, 3:])  # black ink alone is a dark grey
    sheet = Image.fromarray(np.rint(shown * 255).astype(np.uint8)[None])
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.applyTransform(sheet, ImageCms.buildTransform(srgb, lab, "RGB", "LAB"))
    table = np.asarray(converted).reshape(16, 3).astype(np.uint8)
    table[:, 1:] ^= 128  # Pillow keeps a* and b* signed, the profile from 0
    ramp = bytes(range(256))
    matrix = b"".join(map(s15, np.eye(3).ravel()))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + table.tobytes() + ramp * 3
    return icc_profile(b"CMYK", {b"A2B0": lut}, kind=b"prtr", connection=b"Lab ")


def encoded_in(pixels, profile, mode="RGB"):
    """A picture whose values mean the same colours in a profile as `pixels` do in sRGB."""
    own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    srgb = ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(Image.fromarray(pixels), srgb, own, outputMode=mode)


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(pixels, *chunks, behind=False):
    """A PNG with further chunks before, or behind, its pixels."""
    data = saved(Image.fromarray(pixels), "PNG")
    place = len(data) - 12 if behind else 33
    return data[:place] + b"".join(chunks) + data[place:]


def xmp_chunk(packet, *, packed=False):
    text = zlib.compress(packet) if packed else packet
    return png_chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes([packed, 0, 0, 0]) + text)


def jpeg_with(pixels, *segments):
    """A JPEG with APP segments (number, content) before all others."""
    data = saved(Image.fromarray(pixels), "JPEG", quality=97, subsampling=0)
    head = b"".join(
        bytes([0xFF, 0xE0 + number]) + struct.pack(">H", len(content) + 2) + content
        for number, content in segments
    )
    return data[:2] + head + data[2:]


def xmp_segment(packet):
    return 1, b"http://ns.adobe.com/xap/1.0/\0" + packet


def extended_xmp_segments(packet, guid=b"0123456789ABCDEF" * 2, size=60_000):
    """The segments of a packet too long for one."""
    head = b"http://ns.adobe.com/xmp/extension/\0" + guid
    return [
        (1, head + struct.pack(">II", len(packet), at) + packet[at : at + size])
        for at in range(0, len(packet), size)
    ]


def fisheye(side, fov_deg, yaw_deg, blank=0):
    """One circle of a fisheye lens that fills a square, of the coloured world."""
    place = (np.arange(side) + 0.5) / (side / 2) - 1
    radius = np.hypot(place[None], place[:, None])
    around = np.arctan2(-place[:, None], place[None])
    from_axis = radius * np.radians(fov_deg / 2)
    right, up = np.sin(from_axis) * np.cos(around), np.sin(from_axis) * np.sin(around)
    forward, yaw = np.cos(from_axis), np.radians(yaw_deg)
    rays = np.stack(
        [
            right * np.cos(yaw) + forward * np.sin(yaw),
            up,
            forward * np.cos(yaw) - right * np.sin(yaw),
        ],
        axis=-1,
    )
    return np.where((radius <= 1)[..., None], colours(rays), blank).astype(np.uint8)


def dual_fisheye(side=128, fov_deg=195.0, blank=0):
    return np.hstack([fisheye(side, fov_deg, yaw, blank) for yaw in (0.0, 180.0)])
