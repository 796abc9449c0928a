"""Reading panoramas: every mode arrives as upright uint8 RGB, every fault as one clear line."""

import os
import warnings

import numpy as np
import pytest
from PIL import Image

from panovlm.model.errors import PanoVLMError
from panovlm.model.panorama import as_panorama, check_panorama, load_panorama

WIDTH, HEIGHT = 64, 32
GREY = np.tile(np.arange(WIDTH, dtype=np.uint8) * 4, (HEIGHT, 1))


def photo(height=256, width=512):
    """A smooth picture that JPEG keeps well."""
    y, x = np.mgrid[:height, :width] / height
    waves = [np.sin(5 * x + 3 * y), np.cos(4 * x - 2 * y), np.sin(6 * y)]
    return (127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


@pytest.fixture
def jpeg(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(photo()).save(path, quality=95)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_lossless_formats_arrive_unchanged(tmp_path, suffix):
    path = tmp_path / f"panorama.{suffix}"
    Image.fromarray(photo()).save(path, **({"lossless": True} if suffix == "webp" else {}))
    loaded = load_panorama(path)
    assert loaded.dtype == np.uint8
    np.testing.assert_array_equal(loaded, photo())


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "LA", "CMYK", "1", "I;16", "I"])
def test_every_mode_becomes_rgb(mode):
    source = Image.fromarray(GREY)
    if mode.startswith("I"):
        wide = GREY.astype(np.uint16) * 257
        source = Image.fromarray(wide if mode == "I;16" else wide.astype(np.int32))
    elif mode == "1":
        source = source.point(lambda value: 255 if value > 127 else 0)
    image = source.convert(mode)
    expected = np.where(GREY > 127, 255, 0) if mode == "1" else GREY
    assert image.mode == mode
    found = as_panorama(image)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_over_black(mode):
    image = Image.new("L", (WIDTH, HEIGHT), 200).convert(mode)
    image.putalpha(Image.new("L", (WIDTH, HEIGHT), 51))
    np.testing.assert_array_equal(as_panorama(image), np.full((HEIGHT, WIDTH, 3), 40))


def test_a_transparent_palette_colour_becomes_black(tmp_path):
    image = Image.new("P", (WIDTH, HEIGHT), 1)
    image.putpalette([9, 9, 9, 200, 100, 50])
    image.save(tmp_path / "p.png", transparency=1)
    np.testing.assert_array_equal(load_panorama(tmp_path / "p.png"), 0)


def test_sixteen_bit_files_are_scaled_to_eight(tmp_path):
    path = tmp_path / "wide.png"
    Image.fromarray(GREY.astype(np.uint16) * 257).save(path)
    np.testing.assert_array_equal(load_panorama(path)[..., 0], GREY)


@pytest.mark.parametrize(
    "array",
    [
        GREY,
        GREY[..., None],
        np.repeat(GREY[..., None], 3, axis=2),
        GREY.astype(np.uint16) * 257,
        GREY / 255.0,
        np.stack([GREY, np.full_like(GREY, 255)], axis=-1),
        np.stack([GREY, GREY, GREY, np.full_like(GREY, 255)], axis=-1),
    ],
)
def test_arrays_of_every_kind_become_rgb(array):
    np.testing.assert_array_equal(as_panorama(array), np.repeat(GREY[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 8, 5), np.uint8), r"shape \(4, 8, 5\).*channels last"),
        (np.zeros((2, 4, 8, 3), np.uint8), r"shape \(2, 4, 8, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), r"shape \(0, 8, 3\)"),
        (np.full((4, 8, 3), 200.0), "float64 out of range.*convert"),
        (np.full((4, 8, 3), np.nan), "float64 out of range"),
        (np.zeros((4, 8, 3), np.int64), "int64 out of range"),
    ],
)
def test_arrays_that_are_no_picture_are_refused(array, message):
    with pytest.raises(PanoVLMError, match=message):
        as_panorama(array)


def test_floating_point_pictures_are_refused():
    with pytest.raises(PanoVLMError, match=r"floating-point pixels.*tone-map"):
        as_panorama(Image.new("F", (WIDTH, HEIGHT)))


@pytest.mark.parametrize(("orientation", "quarter_turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
@pytest.mark.parametrize("min_width", [None, 64])
def test_exif_orientation_is_applied(tmp_path, orientation, quarter_turns, min_width):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    stored = np.ascontiguousarray(np.rot90(photo(), -quarter_turns))
    Image.fromarray(stored).save(path, quality=95, exif=exif)
    loaded = load_panorama(path, min_width)
    reduced = Image.fromarray(photo()).resize(loaded.shape[1::-1], Image.Resampling.BOX)
    assert loaded.shape == ((256, 512, 3) if min_width is None else (32, 64, 3))
    assert np.abs(loaded.astype(int) - np.asarray(reduced)).mean() < 3


@pytest.mark.parametrize(
    ("min_width", "width"), [(None, 512), (512, 512), (257, 512), (256, 256), (100, 128), (1, 64)]
)
def test_jpeg_is_decoded_at_the_smallest_scale_that_keeps_the_width(jpeg, min_width, width):
    loaded = load_panorama(jpeg, min_width)
    assert loaded.shape == (width // 2, width, 3)
    reduced = Image.fromarray(photo()).resize((width, width // 2), Image.Resampling.BOX)
    assert np.abs(loaded.astype(int) - np.asarray(reduced)).mean() < 2


@pytest.mark.parametrize("read", [load_panorama, check_panorama])
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_a_truncated_file_is_refused_by_name(tmp_path, suffix, read):
    path = tmp_path / f"half.{suffix}"
    Image.fromarray(photo()).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    with pytest.raises(PanoVLMError, match=rf"half\.{suffix}: found a truncated.*re-copy"):
        read(path)


def test_missing_files_directories_and_other_files_are_told_apart(tmp_path):
    (tmp_path / "notes.jpg").write_text("no picture")
    Image.fromarray(photo()).save(tmp_path / "panorama.bmp")
    (tmp_path / "empty.png").touch()
    for name, message in {
        "absent.jpg": r"absent\.jpg: found no such file.*check the path",
        ".": "found a directory",
        "notes.jpg": r"notes\.jpg: found no readable picture, expected a whole JPEG, PNG",
        "panorama.bmp": r"panorama\.bmp: found no readable picture",
        "empty.png": r"empty\.png: found no readable picture",
    }.items():
        with pytest.raises(PanoVLMError, match=message):
            load_panorama(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_forbidden_file_is_refused(jpeg):
    jpeg.chmod(0)
    with pytest.raises(PanoVLMError, match=r"may not be read.*permissions"):
        load_panorama(jpeg)


def test_damaged_files_never_raise_anything_else(tmp_path):
    rng = np.random.default_rng(0)
    refused = 0
    for suffix in ("jpg", "png", "webp"):
        path = tmp_path / f"damaged.{suffix}"
        Image.fromarray(photo(32, 64)).save(path)
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            damaged[rng.integers(0, len(whole), 6)] = rng.integers(0, 256, 6)
            path.write_bytes(damaged.tobytes())
            try:
                load_panorama(path)
            except PanoVLMError:
                refused += 1
    assert refused > 20


def test_pictures_that_are_not_a_full_sphere_are_refused(tmp_path):
    path = tmp_path / "flat.png"
    Image.new("RGB", (90, 60)).save(path)
    message = r"flat\.png: found 90x60, expected width = 2 x height; crop or pad"
    for read in (load_panorama, check_panorama):
        with pytest.raises(PanoVLMError, match=message):
            read(path)
    assert load_panorama(path, strict=False).shape == (60, 90, 3)
    with pytest.raises(PanoVLMError, match="the picture given: found 90x60"):
        as_panorama(Image.open(path), strict=True)


def test_nearly_two_to_one_passes():
    assert as_panorama(np.zeros((100, 202, 3), np.uint8), strict=True).shape == (100, 202, 3)
    with pytest.raises(PanoVLMError, match="203x100"):
        as_panorama(np.zeros((100, 203, 3), np.uint8), strict=True)


@pytest.mark.parametrize("size", [(17400, 8700), (20000, 10000)])
def test_too_large_a_picture_is_refused_before_decoding(tmp_path, size):
    path = tmp_path / "bomb.png"
    Image.new("1", size).save(path, compress_level=1)
    path.write_bytes(path.read_bytes()[:1000])  # a decoder would find it truncated
    with pytest.raises(PanoVLMError, match=r"bomb\.png: found .*too large.*150 megapixels"):
        load_panorama(path)


def test_a_sixteen_k_picture_is_opened_without_a_warning(tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (16384, 8192)).save(path, compress_level=1)
    path.write_bytes(path.read_bytes()[:1000])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PanoVLMError, match="truncated"):
            load_panorama(path)
