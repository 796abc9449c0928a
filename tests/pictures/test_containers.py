"""One picture is found in whatever a camera or an editor writes, and other files are named."""

import io
import struct
import sys
import warnings
import zlib

import cv2
import numpy as np
import pytest
from odd_pictures import (
    PROPHOTO,
    WORLD,
    encoded_in,
    extended_xmp_segments,
    jpeg_with,
    png_chunk,
    png_with,
    saved,
    xmp_chunk,
    xmp_segment,
)
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from xmp_packets import AREA, PART, packet

from panovlm.errors import PanoVLMError
from panovlm.pictures.containers import check_pixels, open_picture, xmp_packets
from panovlm.pictures.panorama import load_panorama, panorama_error, read_panorama

SMALL = np.ascontiguousarray(WORLD[::8, ::8])
THUMBNAIL, MASK = {254: 1}, {254: 4}


def read(tmp_path, data, name="picture"):
    """The pixels of a file, read without a warning."""
    path = tmp_path / name
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_panorama(path)


def off(found):
    return np.abs(found.astype(int) - WORLD).mean()


def mpo(*others):
    pictures = [Image.fromarray(pixels) for pixels in (WORLD, *others)]
    return saved(pictures[0], "MPO", save_all=True, append_images=pictures[1:], quality=97)


@pytest.mark.parametrize("others", [[SMALL], [WORLD[::-1]], [SMALL, SMALL[::-1]]])
def test_the_first_picture_of_a_jpeg_counts(tmp_path, others):
    assert off(read(tmp_path, mpo(*others))) < 2


@pytest.mark.parametrize("damage", ["no index", "offset", "cut behind", "trailer"])
def test_what_follows_the_picture_of_a_jpeg_does_not_matter(tmp_path, damage):
    whole = mpo(SMALL)
    index = whole.index(b"MPF\0") + 4
    damaged = {
        "no index": whole[:index] + b"\xff" * 40 + whole[index + 40 :],
        "offset": whole[: index + 4] + b"\xff\xff\xff\x7f" + whole[index + 8 :],
        "cut behind": whole[:-200],
        "trailer": whole + b"SEFT" + bytes(range(256)) * 99,
    }[damage]
    assert off(read(tmp_path, damaged)) < 2


def tiff(*pages):
    """A TIFF of pages (pixels, tags)."""
    images = []
    for pixels, tags in pages:
        image, directory = Image.fromarray(pixels), ImageFileDirectory_v2()
        for tag, value in tags.items():
            directory[tag] = value
        image.encoderinfo = {"tiffinfo": directory}
        images.append(image)
    file = io.BytesIO()
    first = images[0].encoderinfo["tiffinfo"]
    images[0].save(file, "TIFF", save_all=True, append_images=images[1:], tiffinfo=first)
    return file.getvalue()


@pytest.mark.parametrize(
    "pages",
    [
        [(WORLD, {}), (SMALL, THUMBNAIL)],
        [(SMALL, THUMBNAIL), (WORLD, {})],
        [(SMALL, {}), (WORLD, {}), (SMALL, {})],
        [(WORLD, {}), (np.repeat(WORLD, 2, axis=0).repeat(2, axis=1), MASK)],
        [(WORLD, {}), (WORLD[::2, ::2], THUMBNAIL), (WORLD[::4, ::4], THUMBNAIL)],
    ],
)
def test_thumbnails_and_masks_among_the_pages_of_a_tiff_are_left(tmp_path, pages):
    np.testing.assert_array_equal(read(tmp_path, tiff(*pages)), WORLD)


def test_several_pages_of_one_size_are_said(tmp_path):
    (tmp_path / "p.tif").write_bytes(tiff((WORLD, {}), (WORLD[::-1], {})))
    with pytest.warns(UserWarning, match=r"p\.tif: found several pages.*the first is read"):
        np.testing.assert_array_equal(load_panorama(tmp_path / "p.tif"), WORLD)


def test_a_damaged_page_behind_the_picture_does_not_matter(tmp_path):
    data = saved(Image.fromarray(WORLD), "TIFF")
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    at = start + 2 + 12 * count
    damaged = data[:at] + struct.pack("<I", len(data) - 3) + data[at + 4 :]
    np.testing.assert_array_equal(read(tmp_path, damaged), WORLD)


HISTORY = b"history of a picture " * 200_000
TEXTS = {
    "text": png_chunk(b"tEXt", b"Comment\0" + HISTORY),
    "packed text": png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(HISTORY)),
    "packed international text": png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(HISTORY)),
    "many texts": b"".join(
        png_chunk(b"zTXt", b"Note\0\0" + zlib.compress(bytes(900_000))) for _ in range(80)
    ),
    "text that is no text": png_chunk(b"iTXt", b"\xff\xfe" * 9),
}


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("kind", TEXTS)
def test_texts_of_a_png_do_not_matter(tmp_path, kind, behind):
    found = read(tmp_path, png_with(WORLD, TEXTS[kind], behind=behind))
    np.testing.assert_array_equal(found, WORLD)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_long_xmp_of_a_png_is_read(tmp_path, packed, behind):
    xmp = packet(AREA).replace(b"image/jpeg", HISTORY)
    data = png_with(PART, xmp_chunk(xmp, packed=packed), behind=behind)
    (tmp_path / "p.png").write_bytes(data)
    assert read_panorama(tmp_path / "p.png").mask.sum() == PART.shape[0] * PART.shape[1]


def raw_profile(name, data, *, packed):
    """A profile as ImageMagick keeps it in the texts of a PNG."""
    text = b"\n%s\n%8d\n" % (name, len(data)) + b"\n".join(
        data.hex().encode()[at : at + 72] for at in range(0, 2 * len(data), 72)
    )
    keyword = b"Raw profile type " + name + b"\0"
    if packed:
        return png_chunk(b"zTXt", keyword + b"\0" + zlib.compress(text))
    return png_chunk(b"tEXt", keyword + text)


@pytest.mark.parametrize("packed", [False, True])
def test_profiles_in_the_texts_of_a_png_are_read(tmp_path, packed):
    exif = Image.Exif()
    exif[0x0112] = 3
    chunk = raw_profile(b"exif", exif.tobytes(), packed=packed)
    np.testing.assert_array_equal(
        read(tmp_path, png_with(np.ascontiguousarray(WORLD[::-1, ::-1]), chunk)), WORLD
    )
    chunk = raw_profile(b"xmp", packet(AREA), packed=packed)
    (tmp_path / "p.png").write_bytes(png_with(PART, chunk))
    assert read_panorama(tmp_path / "p.png").mask.sum() == PART.shape[0] * PART.shape[1]
    for bad in (b"no", b"\nexif\n  9\nzz", b"\nexif\nx\n00"):
        chunk = png_chunk(b"tEXt", b"Raw profile type exif\0" + bad)
        np.testing.assert_array_equal(read(tmp_path, png_with(WORLD, chunk)), WORLD)


def test_a_long_profile_of_a_png_is_applied(tmp_path):
    long = PROPHOTO + np.random.default_rng(0).bytes(2 << 20)  # more than Pillow unpacks
    long = struct.pack(">I", len(long)) + long[4:]
    chunk = png_chunk(b"iCCP", b"wide\0\0" + zlib.compress(long))
    found = read(tmp_path, png_with(np.asarray(encoded_in(WORLD, PROPHOTO)), chunk))
    assert np.abs(found.astype(int) - WORLD).max() <= 6


def test_a_damaged_text_makes_a_png_damaged(tmp_path):
    data = bytearray(png_with(WORLD, TEXTS["text"]))
    data[60] ^= 1
    (tmp_path / "p.png").write_bytes(data)
    assert "p.png: found" in panorama_error(tmp_path / "p.png")


def test_all_xmp_of_a_jpeg_is_found_and_the_first_that_fits_counts(tmp_path):
    other = packet(AREA | {"CroppedAreaImageHeightPixels": 9})
    late = b"<?xpacket begin=''?>" + packet({}).replace(b"image/jpeg", HISTORY[:50_000])
    data = jpeg_with(
        PART, xmp_segment(other), xmp_segment(packet(AREA)), (1, b"Exif\0\0"), xmp_segment(late)
    )
    (tmp_path / "p.jpg").write_bytes(data)
    with open_picture(tmp_path / "p.jpg", "p") as image:
        assert len(xmp_packets(image)) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_panorama(tmp_path / "p.jpg").mask.sum() == PART.shape[0] * PART.shape[1]


@pytest.mark.parametrize(("is_whole", "is_found"), [(True, True), (False, False)])
def test_extended_xmp_is_joined_if_whole(tmp_path, is_whole, is_found):
    xmp = packet(AREA).replace(b"image/jpeg", HISTORY[:150_000])
    segments = extended_xmp_segments(xmp)
    kept = segments[::-1] if is_whole else segments[1:]
    (tmp_path / "p.jpg").write_bytes(jpeg_with(PART, xmp_segment(packet({})), *kept))
    error = panorama_error(tmp_path / "p.jpg")
    assert (error is None) == is_found
    assert is_found or "found 60x40" in error


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_moving_pictures_are_refused(tmp_path, kind):
    frames = [Image.fromarray(WORLD), Image.fromarray(WORLD[::-1])]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    (tmp_path / "p").write_bytes(data)
    error = "found a moving picture of 2 frames, expected one panorama; save one"
    assert error in panorama_error(tmp_path / "p")


OTHERS = {
    "an OpenEXR file.*tone-map": b"v/1\x01\x02\0\0\0channels\0",
    "a pointer of Git LFS.*git lfs pull": b"version https://git-lfs.github.com/spec/v1\noid sha",
    "a GIF.*convert": saved(Image.fromarray(WORLD), "GIF"),
    "a PDF.*export": saved(Image.fromarray(WORLD), "PDF"),
    "a video.*save one of its frames": b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2mp41",
    "a thumbnail alone, as in raw files.*develop": tiff((SMALL, THUMBNAIL | {330: 8})),
    "a JPEG XL.*convert": b"\0\0\0\x0cJXL \r\n\x87\n",
    "no readable picture.*a whole JPEG, PNG.* or Radiance HDR file": b"<html></html>",
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_files_are_named_with_what_to_do(tmp_path, kind):
    (tmp_path / "p.jpg").write_bytes(OTHERS[kind])
    with pytest.raises(PanoVLMError, match=rf"p\.jpg: found {kind}"):
        load_panorama(tmp_path / "p.jpg")


def test_a_variant_that_is_not_read_is_not_called_damaged(tmp_path):
    cv2.imwrite(str(tmp_path / "float.tif"), WORLD.astype(np.float32))
    with pytest.raises(PanoVLMError, match=r"float\.tif: found a variant .* not read.*convert it"):
        load_panorama(tmp_path / "float.tif")


def linear_light(pixels):
    return (pixels[..., ::-1].astype(np.float32) / 255) ** 2.2


@pytest.mark.parametrize("exposure", [1e-3, 1.0, 4e4])
def test_radiance_pictures_are_tone_mapped_whatever_their_exposure(tmp_path, exposure):
    cv2.imwrite(str(tmp_path / "p.hdr"), linear_light(WORLD) * exposure)
    found = load_panorama(tmp_path / "p.hdr")
    assert found.shape == WORLD.shape
    assert 90 < np.median(found) < 160
    assert np.corrcoef(found.ravel(), WORLD.ravel())[0, 1] > 0.97
    rank = np.argsort(WORLD[:, 0, 1].astype(int))
    assert (np.diff(found[rank, 0, 1].astype(int)) >= -3).all()


def test_black_and_damaged_radiance_pictures_are_told_apart(tmp_path):
    path = tmp_path / "p.hdr"
    cv2.imwrite(str(path), np.zeros((32, 64, 3), np.float32))
    assert not load_panorama(path).any()
    cv2.imwrite(str(path), linear_light(WORLD))
    path.write_bytes(path.read_bytes()[:-2000])
    assert panorama_error(path) is None or "truncated or damaged" in panorama_error(path)
    path.write_bytes(b"#?RADIANCE\n\n-Y 40000 +X 80000\n")
    assert "found 80000x40000, too large" in panorama_error(path)
    path.write_bytes(b"#?RADIANCE\n\n+X 64 -Y 32\n")
    assert "truncated or damaged" in panorama_error(path)


def test_heic_is_read_where_its_library_is(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(Image.fromarray(WORLD)).save(tmp_path / "p.heic", quality=95)
    assert off(load_panorama(tmp_path / "p.heic")) < 4
    data = (tmp_path / "p.heic").read_bytes()
    (tmp_path / "p.heic").write_bytes(data[:-3000])
    assert "p.heic: found" in panorama_error(tmp_path / "p.heic")


def test_heic_without_its_library_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "p.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(PanoVLMError, match=r"p\.jpg: found a HEIC.*install pillow-heif"):
        load_panorama(tmp_path / "p.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_bytes_are_opened_as_files_are_and_the_limit_of_pixels_is_named(kind):
    data = io.BytesIO(saved(Image.fromarray(WORLD), kind))
    with open_picture(data, "the picture") as image:
        assert image.size == (256, 128)
        check_pixels(image, "the picture", 256 * 128)
        with pytest.raises(PanoVLMError, match=r"found 256x128, too large.*at most 0\.03 megapix"):
            check_pixels(image, "the picture", 30_000)
