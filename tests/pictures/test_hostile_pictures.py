"""Hostile and damaged files: refused in one line or read as a sound array, in little room.

"Little room": whatever a small file claims, no more memory is taken than `TRACED_BYTES`.
"""

import os
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image
from test_gpano import entity_bomb
from test_panorama import AREA, PART, photo, save_with_xmp
from xmp_packets import packet

from panovlm.errors import PanoVLMError
from panovlm.pictures.panorama import read_panorama

SUFFIXES = (".jpg", ".png", ".webp", ".tif", ".avif")
TRACED_BYTES = 64 * 2**20
MIN_WIDTH = 256


def whole_files(folder):
    """One sound file of each format, a partial panorama with XMP."""
    return [save_with_xmp(folder / f"whole{suffix}", PART, packet(AREA)) for suffix in SUFFIXES]


def truncated(folder):
    for path in whole_files(folder):
        whole = path.read_bytes()
        for number, share in enumerate(np.linspace(0, 0.97, 10)):
            damaged = folder / f"cut{number}{path.suffix}"
            damaged.write_bytes(whole[: int(share * len(whole))])
            yield damaged


def flipped(folder):
    rng = np.random.default_rng(0)
    for path in whole_files(folder):
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for number in range(24):
            bits = whole.copy()
            bits[rng.integers(0, len(whole), 1 + number % 4)] ^= np.uint8(1 << number % 8)
            damaged = folder / f"flip{number}{path.suffix}"
            damaged.write_bytes(bits.tobytes())
            yield damaged


def lying_xmp(folder):
    numbers = ("0", "-1", "1", "1e308", "-1e308", "nan", "9" * 400, "2147483648", "0x10", "", "½")
    keys = [key for key in AREA if key != "ProjectionType"] + ["PosePitchDegrees"]
    for key in keys:
        for number in numbers:
            yield save_with_xmp(
                folder / f"{key}{abs(hash(number))}.png", PART, packet(AREA | {key: number})
            )
    for number, xmp in enumerate(
        [
            entity_bomb(),
            b"<x>" * 20_000,
            b"<x " + b"a='b' " * 10_000 + b"/>",
            b'<?xml version="1.0" encoding="utf-16"?><x/>',
            b"\0" * 60_000,
            packet(AREA | {"ProjectionType": "cylindrical", "CroppedAreaTopPixels": "-1e12"}),
            packet(AREA | {"ProjectionType": "cylindrical", "CroppedAreaTopPixels": "1e12"}),
            packet(AREA | {"ProjectionType": "&lt;" * 5_000}),
            packet(AREA | {"PosePitchDegrees": 90, "PoseRollDegrees": 180}),
            packet(
                AREA
                | {"FullPanoWidthPixels": 50_000, "FullPanoHeightPixels": 25_000}
                | {"CroppedAreaLeftPixels": 49_999, "CroppedAreaTopPixels": 24_960}
            ),
        ]
    ):
        yield save_with_xmp(folder / f"lying{number}.webp", PART, xmp)


def png_of(width, height, bit_depth=8, colour=2):
    """A PNG whose header claims a size and whose data are a few bytes."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


def nested_tiff(little=True):
    """A TIFF directory (EXIF is one) whose every entry points at a directory, in a circle."""
    entries = [(256, 4, 1, 64), (257, 4, 1, 32), (330, 4, 1, 8), (34665, 4, 1, 8), (34853, 4, 1, 8)]
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + b"\0" * 4


def odd_files(folder):
    (folder / "not.jpg").write_text("not a picture")
    (folder / "html.png").write_text("<!DOCTYPE html><html></html>")
    (folder / "zeros.jpg").write_bytes(b"\0" * 5_000)
    (folder / "random.webp").write_bytes(np.random.default_rng(1).bytes(5_000))
    (folder / "empty.tif").touch()
    (folder / "magic.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "zip.avif").write_bytes(b"PK\x03\x04" + b"\0" * 99)
    (folder / "circle.tif").write_bytes(nested_tiff())
    for number, size in enumerate(
        [(60_000, 30_000), (0, 0), (2, 0), (2**31 - 1, 1), (1, 2**31 - 1), (2**31, 2**31), (2, 1)]
    ):
        (folder / f"claims{number}.png").write_bytes(png_of(*size))
    jpeg = whole_files(folder)[0].read_bytes()
    frame = jpeg.index(b"\xff\xc0")
    claims = jpeg[: frame + 5] + struct.pack(">HH", 30_000, 60_000) + jpeg[frame + 9 :]
    (folder / "claims.jpg").write_bytes(claims)
    exif = b"Exif\0\0" + nested_tiff()
    Image.fromarray(photo(32, 64)).save(folder / "nested.jpg", exif=exif)
    Image.fromarray(photo(32, 64)).save(folder / "long.jpg", exif=exif + b"\xff" * 60_000)
    for number, size in enumerate([(1, 1), (2, 1), (1, 2), (4, 3), (6, 1), (1, 6), (3, 2)]):
        Image.new("RGB", size).save(folder / f"tiny{number}.png")
    whole_files(folder)[0].rename(folder / "really_a_jpeg.png")
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "dangling.jpg").symlink_to(folder / "nowhere.jpg")
    yield from (path for path in folder.iterdir())
    yield from (folder / "absent.jpg", folder / ("x" * 300), folder / "null\0.jpg", "/dev/null")


def check(panorama):
    """Whether a panorama is a full sphere, black where its mask says so."""
    height, width = panorama.pixels.shape[:2]
    assert panorama.pixels.dtype == np.uint8
    assert panorama.pixels.shape[2] == 3
    assert abs(width - 2 * height) <= 0.02 * height
    if panorama.mask is not None:
        assert panorama.mask.shape == (height, width)
        assert not panorama.pixels[~panorama.mask].any()


@pytest.fixture
def traced_read():
    """Reads a file and gives the panorama and the most memory that was held."""

    def read(path, min_width=None):
        tracemalloc.reset_peak()
        panorama = read_panorama(path, min_width)
        return panorama, tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of invalid XMP, and Pillow's
        yield read
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("files", "least", "least_refused"),
    [(truncated, 50, 45), (flipped, 120, 20), (lying_xmp, 80, 50), (odd_files, 35, 25)],
)
def test_hostile_files_are_refused_or_read_rightly_in_little_room(
    tmp_path, traced_read, files, least, least_refused
):
    read = refused = 0
    for path in files(tmp_path):
        try:
            panorama, peak = traced_read(path, MIN_WIDTH)
        except PanoVLMError as error:
            assert "expected" in str(error), path
            assert "\n" not in str(error)
            peak = tracemalloc.get_traced_memory()[1]
            refused += 1
        else:
            check(panorama)
            read += 1
        assert peak < TRACED_BYTES, path
    assert read + refused >= least
    assert refused >= least_refused


def test_without_a_width_a_small_file_still_takes_no_more_than_the_widest_sphere(
    tmp_path, traced_read
):
    claims = {
        "FullPanoWidthPixels": 60_000,
        "FullPanoHeightPixels": 30_000,
        "CroppedAreaLeftPixels": 30_000,
    }
    panorama, peak = traced_read(save_with_xmp(tmp_path / "part.png", PART, packet(AREA | claims)))
    assert panorama.pixels.shape == (4096, 8192, 3)
    assert panorama.mask.any()
    assert peak < 4 * 4096 * 8192 + TRACED_BYTES  # pixels and mask, and what drawing needs
