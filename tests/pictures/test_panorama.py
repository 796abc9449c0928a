"""Reading panoramas: every mode arrives as upright uint8 RGB, every error as one clear line."""

import math
import os
import warnings

import cv2
import numpy as np
import pytest
from odd_pictures import PROPHOTO
from PIL import Image
from xmp_packets import AREA, PART, SPHERE, colours, packet, save_with_xmp

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import panorama_rays, rays_from_angles
from panovlm.pictures import decoding
from panovlm.pictures.colour import SRGB_PROFILE
from panovlm.pictures.cubemaps import FACES, join_cubemap
from panovlm.pictures.panorama import (
    as_panorama,
    is_read_as_ever,
    load_panorama,
    panorama_error,
    read_panorama,
)
from panovlm.pictures.surfaces import camera_axes

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


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_colours_keep_their_upper_eight(tmp_path, suffix):
    wide = photo(32, 64).astype(np.uint16) * 256 + 77
    cv2.imwrite(str(tmp_path / f"wide.{suffix}"), wide[..., ::-1])
    np.testing.assert_array_equal(load_panorama(tmp_path / f"wide.{suffix}"), photo(32, 64))


def test_avif_is_read(tmp_path):
    Image.fromarray(photo()).save(tmp_path / "photo.avif", quality=90)
    loaded = load_panorama(tmp_path / "photo.avif")
    assert loaded.shape == photo().shape
    assert np.abs(loaded.astype(int) - photo()).mean() < 2
    path = tmp_path / "half.avif"
    path.write_bytes((tmp_path / "photo.avif").read_bytes()[:-400])
    with pytest.raises(PanoVLMError, match=r"half\.avif: found (no readable|a truncated)"):
        load_panorama(path)


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
    path = tmp_path / "rotated.jpg"
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


@pytest.mark.parametrize("min_width", [None, 1])
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_a_truncated_file_is_refused_by_name(tmp_path, suffix, min_width):
    path = tmp_path / f"half.{suffix}"
    Image.fromarray(photo()).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    with pytest.raises(PanoVLMError, match=rf"half\.{suffix}: found a truncated.*re-copy"):
        load_panorama(path, min_width)


def test_missing_files_directories_and_other_files_are_distinguished(tmp_path):
    (tmp_path / "notes.jpg").write_text("no picture")
    Image.fromarray(photo()).save(tmp_path / "panorama.bmp")
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    for name, message in {
        "absent.jpg": r"absent\.jpg: found no such file.*check the path",
        ".": "found a directory",
        "pipe": "found a pipe, socket or device, expected a picture file",
        "circle.jpg": r"circle\.jpg'?: found a path that leads nowhere.*check the path",
        "null\0.jpg": "found a path that leads nowhere",
        "long" * 100: "found a path that leads nowhere",
        "notes.jpg": r"notes\.jpg: found no readable picture, expected a whole JPEG, PNG",
        "panorama.bmp": r"panorama\.bmp: found a BMP, expected one of JPEG, PNG.*; convert it",
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
    for min_width in (None, 1):
        with pytest.raises(PanoVLMError, match=message):
            load_panorama(path, min_width)
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


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_a_cropped_panorama_is_placed_by_its_xmp_in_every_format(tmp_path, suffix):
    path = save_with_xmp(tmp_path / f"part{suffix}", PART, packet(AREA))
    panorama = read_panorama(path)
    known = np.zeros((64, 128), bool)
    known[16:56, 24:84] = True
    np.testing.assert_array_equal(panorama.mask, known)
    off = np.abs(panorama.pixels.astype(int) - np.where(known[..., None], SPHERE, 0))
    assert off.max() <= (12 if suffix in (".jpg", ".avif") else 0)
    np.testing.assert_array_equal(load_panorama(path), panorama.pixels)
    assert panorama_error(path) is None


def test_a_whole_panorama_with_xmp_is_given_as_it_was_decoded(tmp_path):
    whole = AREA | {
        "CroppedAreaLeftPixels": 0,
        "CroppedAreaTopPixels": 0,
        "CroppedAreaImageWidthPixels": 128,
        "CroppedAreaImageHeightPixels": 64,
        "PosePitchDegrees": 0.005,
    }
    panorama = read_panorama(save_with_xmp(tmp_path / "whole.png", SPHERE, packet(whole)))
    assert panorama.mask is None
    np.testing.assert_array_equal(panorama.pixels, SPHERE)


def test_a_cropped_panorama_that_was_scaled_keeps_its_place(tmp_path):
    small = np.asarray(Image.fromarray(PART).resize((30, 20), Image.Resampling.BOX))
    panorama = read_panorama(save_with_xmp(tmp_path / "small.png", small, packet(AREA)))
    expected = colours(panorama_rays(32, 64))
    assert panorama.mask.sum() == 20 * 30
    off = np.abs(panorama.pixels.astype(int) - expected)[panorama.mask]
    assert off.max() <= 4


def test_a_cropped_jpeg_is_decoded_no_larger_than_the_sphere_wanted(tmp_path):
    large = cv2.resize(PART, (960, 640), interpolation=cv2.INTER_CUBIC)
    path = save_with_xmp(tmp_path / "large.jpg", large, packet(AREA))
    assert read_panorama(path).pixels.shape == (1024, 2048, 3)
    panorama = read_panorama(path, min_width=256)
    assert panorama.pixels.shape == (128, 256, 3)
    off = np.abs(panorama.pixels.astype(int) - colours(panorama_rays(128, 256)))[panorama.mask]
    assert off.mean() < 3


@pytest.mark.parametrize(("pitch_deg", "roll_deg"), [(12.0, -25.0), (0.0, 3.0), (-8.0, 0.0)])
def test_a_tilted_panorama_is_levelled_by_its_xmp(tmp_path, pitch_deg, roll_deg):
    taken = colours(panorama_rays(64, 128) @ camera_axes(pitch_deg, roll_deg).T)
    tilt = {"PoseHeadingDegrees": 200, "PosePitchDegrees": pitch_deg, "PoseRollDegrees": roll_deg}
    xmp = packet({"ProjectionType": "equirectangular"} | tilt, elements=True)
    panorama = read_panorama(save_with_xmp(tmp_path / "tilted.png", taken, xmp))
    assert panorama.mask is None
    assert np.abs(panorama.pixels.astype(int) - SPHERE).max() <= 3


def cylinder(hfov_deg, columns, upper, lower):
    """A cylindrical picture of the coloured world, with square pixels."""
    radius = columns / math.radians(hfov_deg)
    yaw_rad = ((np.arange(columns) + 0.5) / columns - 0.5) * math.radians(hfov_deg)
    tangent = upper - (np.arange(round((upper - lower) * radius)) + 0.5) / radius
    return colours(rays_from_angles(yaw_rad[None], np.arctan(tangent)[:, None]))


@pytest.mark.parametrize("hfov_deg", [360.0, 200.0])
def test_a_declared_cylinder_is_projected_around_the_horizon(tmp_path, hfov_deg):
    Image.fromarray(cylinder(hfov_deg, 500, 0.4, -0.4)).save(tmp_path / "cylinder.png")
    panorama = read_panorama(tmp_path / "cylinder.png", projection="cylindrical", hfov_deg=hfov_deg)
    height, width = panorama.mask.shape
    assert width == 2 * round(500 * 360 / hfov_deg / 2)
    off = np.abs(panorama.pixels.astype(int) - colours(panorama_rays(height, width)))
    assert off[panorama.mask].max() <= 3
    seen_deg = np.degrees(2 * math.atan(0.4)), hfov_deg
    for axis, (share, full_deg) in enumerate(zip(seen_deg, (180.0, 360.0), strict=True)):
        known = panorama.mask.any(axis=1 - axis).sum() * full_deg / panorama.mask.shape[axis]
        assert known == pytest.approx(share, abs=2.5)


def test_a_cylinders_xmp_counts_rows_from_the_horizon(tmp_path):
    picture = cylinder(180.0, 400, 0.6, -0.2)
    xmp = {
        "ProjectionType": "cylindrical",
        "FullPanoWidthPixels": 800,
        "CroppedAreaLeftPixels": 200,
        "CroppedAreaTopPixels": -0.6 * 800 / (2 * math.pi),
        "CroppedAreaImageWidthPixels": 400,
        "CroppedAreaImageHeightPixels": len(picture),
    }
    panorama = read_panorama(save_with_xmp(tmp_path / "cylinder.png", picture, packet(xmp)))
    off = np.abs(panorama.pixels.astype(int) - colours(panorama_rays(400, 800)))
    assert off[panorama.mask].max() <= 3
    assert 0.1 < panorama.mask.mean() < 0.2


@pytest.mark.parametrize(
    ("upper", "lower", "full_height"), [(0.6, -0.6, 300), (0.6, -0.2, 400), (0.3, -0.7, 256)]
)
def test_a_cylinders_top_may_count_from_the_top_of_the_full_picture(
    tmp_path, upper, lower, full_height
):
    picture = cylinder(360.0, 800, upper, lower)
    radius = 800 / (2 * math.pi)
    xmp = {
        "ProjectionType": "cylindrical",
        "FullPanoWidthPixels": 800,
        "FullPanoHeightPixels": full_height,
        "CroppedAreaLeftPixels": 0,
        "CroppedAreaTopPixels": full_height / 2 - upper * radius,
        "CroppedAreaImageWidthPixels": 800,
        "CroppedAreaImageHeightPixels": len(picture),
    }
    panorama = read_panorama(save_with_xmp(tmp_path / "cylinder.png", picture, packet(xmp)))
    off = np.abs(panorama.pixels.astype(int) - colours(panorama_rays(400, 800)))
    assert off[panorama.mask].max() <= 3
    assert panorama.mask.any()


def test_a_cylinder_that_would_lie_below_the_horizon_is_refused(tmp_path):
    changes = {"ProjectionType": "cylindrical", "FullPanoHeightPixels": 30}
    path = save_with_xmp(tmp_path / "cylinder.png", PART, packet(AREA | changes))
    with pytest.raises(PanoVLMError, match=r"a cylinder that begins 16 rows below the horizon"):
        read_panorama(path)


def test_the_files_xmp_can_be_switched_off(tmp_path):
    part = save_with_xmp(tmp_path / "part.png", PART, packet(AREA))
    with pytest.raises(PanoVLMError, match="found 60x40, expected width = 2 x height"):
        read_panorama(part, use_xmp=False)
    tilted = save_with_xmp(tmp_path / "tilted.png", SPHERE, packet({"PoseRollDegrees": "9"}))
    np.testing.assert_array_equal(read_panorama(tilted, use_xmp=False).pixels, SPHERE)
    assert not np.array_equal(read_panorama(tilted).pixels, SPHERE)


@pytest.mark.parametrize("scale", [0.5, 0.75, 3.0])
def test_a_picture_that_an_editor_resized_keeps_its_place(tmp_path, scale):
    size = round(60 * scale), round(40 * scale)
    resized = np.asarray(Image.fromarray(PART).resize(size, Image.Resampling.BICUBIC))
    panorama = read_panorama(save_with_xmp(tmp_path / "p.png", resized, packet(AREA)))
    height, width = panorama.mask.shape
    off = np.abs(panorama.pixels.astype(int) - colours(panorama_rays(height, width)))
    assert off[panorama.mask].mean() < 3


@pytest.mark.parametrize("roll", ["359", "-1", "719"])
def test_a_roll_of_almost_a_turn_is_a_small_roll(tmp_path, roll):
    taken = colours(panorama_rays(64, 128) @ camera_axes(0.0, -1.0).T)
    path = save_with_xmp(tmp_path / "p.png", taken, packet({"PoseRollDegrees": roll}))
    assert np.abs(read_panorama(path).pixels.astype(int) - SPHERE).max() <= 3


def test_what_is_read_as_ever_is_a_level_sphere_in_srgb(tmp_path):
    whole = packet({"ProjectionType": "equirectangular", "PoseHeadingDegrees": "77"})
    plain = save_with_xmp(tmp_path / "plain.jpg", SPHERE, whole)
    assert is_read_as_ever(plain)
    with open(plain, "rb") as file:
        assert is_read_as_ever(file)
    Image.fromarray(SPHERE).save(tmp_path / "said.png", icc_profile=SRGB_PROFILE)
    assert is_read_as_ever(tmp_path / "said.png")
    wide = Image.fromarray(SPHERE)
    wide.save(tmp_path / "wide.jpg", icc_profile=PROPHOTO)
    tilted = save_with_xmp(tmp_path / "tilted.png", SPHERE, packet({"PoseRollDegrees": "359"}))
    part = save_with_xmp(tmp_path / "part.png", PART, packet(AREA))
    Image.fromarray(np.zeros((8, 48, 3), np.uint8)).save(tmp_path / "strip.png")
    for path in (tmp_path / "wide.jpg", tilted, part, tmp_path / "strip.png", tmp_path / "absent"):
        assert not is_read_as_ever(path)


def test_a_declared_part_lies_around_the_middle_and_overrules_xmp(tmp_path):
    path = save_with_xmp(tmp_path / "part.png", SPHERE[22:42, 44:84], packet(AREA))
    panorama = read_panorama(path, projection="equirectangular", hfov_deg=360 * 40 / 128)
    known = np.zeros((64, 128), bool)
    known[22:42, 44:84] = True
    np.testing.assert_array_equal(panorama.mask, known)
    np.testing.assert_array_equal(panorama.pixels, np.where(known[..., None], SPHERE, 0))
    whole = save_with_xmp(tmp_path / "whole.png", SPHERE, packet({"PoseRollDegrees": "9"}))
    np.testing.assert_array_equal(read_panorama(whole, projection="equirectangular").pixels, SPHERE)


@pytest.mark.parametrize("arrangement", ["strip", "dice", "column"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("min_width", [None, 128])
def test_cube_maps_are_projected_onto_spheres(tmp_path, arrangement, suffix, min_width):
    faces = np.stack([colours(face.rays(64, 64)) for face in FACES])
    joined = (
        faces.reshape(384, 64, 3) if arrangement == "column" else join_cubemap(faces, arrangement)
    )
    path = tmp_path / f"cube.{suffix}"
    Image.fromarray(joined).save(path, **({"quality": 98} if suffix == "jpg" else {}))
    panorama = read_panorama(path, min_width)
    width = 256 if min_width is None else 128
    assert panorama.mask is None
    off = np.abs(panorama.pixels.astype(int) - colours(panorama_rays(width // 2, width)))
    # The blank cells of a cross, in JPEG, bleed into the borders of faces.
    assert (off.mean() < 3) if suffix == "jpg" else (off.max() <= 4)
    assert panorama_error(path) is None


def test_cube_maps_in_grids_must_be_declared(tmp_path):
    faces = np.stack([colours(face.rays(32, 32)) for face in FACES])
    grid = np.concatenate([np.concatenate(list(row), axis=1) for row in (faces[:3], faces[3:])])
    Image.fromarray(grid).save(tmp_path / "grid.png")
    with pytest.raises(PanoVLMError, match=r'found 96x64.*projection="cubemap"'):
        read_panorama(tmp_path / "grid.png")
    panorama = read_panorama(tmp_path / "grid.png", projection="cubemap")
    assert np.abs(panorama.pixels.astype(int) - SPHERE).max() <= 4
    assert as_panorama(join_cubemap(faces, "dice"), strict=True).shape == (64, 128, 3)


def test_a_photograph_of_the_shape_of_a_cross_is_no_cube_map(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    with pytest.raises(PanoVLMError, match=r"photo\.png: found 80x60, expected width = 2 x"):
        read_panorama(tmp_path / "photo.png")
    np.testing.assert_array_equal(read_panorama(tmp_path / "photo.png", strict=False).pixels, noise)


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"ProjectionType": "fisheye"}, "the projection 'fisheye'"),
        ({"FullPanoWidthPixels": 0}, "a size below one pixel"),
        ({"CroppedAreaImageHeightPixels": -40}, "a size below one pixel"),
        ({"CroppedAreaLeftPixels": 130}, "columns beyond the full panorama's 128"),
        ({"CroppedAreaLeftPixels": -1}, "columns beyond the full panorama's 128"),
        ({"CroppedAreaTopPixels": 40}, "rows beyond the full panorama's 64"),
        ({"CroppedAreaTopPixels": -2}, "rows beyond the full panorama's 64"),
        ({"CroppedAreaImageWidthPixels": 90}, "a cropped area of 90x40"),
        ({"FullPanoHeightPixels": 100}, "a full panorama of 128x100"),
        ({"FullPanoHeightPixels": 0}, "a full panorama of 128x0"),
        ({"FullPanoWidthPixels": 2e9, "FullPanoHeightPixels": 1e9}, "less than 0.1% of the full"),
    ],
)
def test_xmp_that_contradicts_the_picture_is_refused_or_gives_way_to_the_shape(
    tmp_path, changes, doubt
):
    path = save_with_xmp(tmp_path / "part.png", PART, packet(AREA | changes))
    message = rf"part\.png: found XMP that says {doubt}.* for a picture of 60x40, expected numbers"
    with pytest.raises(PanoVLMError, match=message + ".*correct or remove its Photo Sphere XMP"):
        read_panorama(path)
    with pytest.warns(UserWarning, match=message + ".*the XMP is ignored"):
        np.testing.assert_array_equal(read_panorama(path, strict=False).pixels, PART)
    path = save_with_xmp(tmp_path / "part.png", SPHERE, packet(AREA | changes))
    with pytest.warns(UserWarning, match=r"part\.png: found XMP that says .*128x64"):
        np.testing.assert_array_equal(read_panorama(path).pixels, SPHERE)


def test_a_cylinder_of_unknown_angle_is_refused(tmp_path):
    path = save_with_xmp(tmp_path / "c.png", PART, packet({"ProjectionType": "cylindrical"}))
    with pytest.raises(PanoVLMError, match=r"says a cylinder of unknown angle.*hfov_deg"):
        read_panorama(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"projection": "cylindrical"},
            r"found a cylindrical.*unknown angle.*set hfov_deg",
        ),
        (
            {"projection": "cylindrical", "hfov_deg": 400.0},
            "hfov_deg 400, expected .*change",
        ),
        ({"projection": "cylindrical", "hfov_deg": math.nan}, "found hfov_deg nan"),
        ({"projection": "equirectangular"}, r"found 60x40, expected width = 2 x height.*hfov_deg"),
        ({"projection": "equirectangular", "hfov_deg": 300.0}, "found 60x40, expected width = 2"),
        ({"projection": "stereographic"}, "projection 'stereographic', .*change projection"),
    ],
)
def test_what_cannot_be_as_declared_is_refused(tmp_path, options, message):
    Image.fromarray(PART).save(tmp_path / "p.png")
    with pytest.raises(PanoVLMError, match=message):
        read_panorama(tmp_path / "p.png", **options)


def test_pictures_that_are_no_whole_faces_are_no_declared_cube_map(tmp_path):
    Image.new("RGB", (61, 40)).save(tmp_path / "p.png")
    with pytest.raises(PanoVLMError, match=r"found 61x40, expected a cube map of 6:1.*projection"):
        read_panorama(tmp_path / "p.png", projection="cubemap")


def test_a_picture_too_tall_for_its_angle_is_refused(tmp_path):
    Image.new("1", (10, 40_000)).save(tmp_path / "tower.png")
    with pytest.raises(PanoVLMError, match=r"found 10x40000, too tall a picture.*hfov_deg"):
        read_panorama(tmp_path / "tower.png", projection="cylindrical", hfov_deg=360.0)


@pytest.mark.parametrize("min_width", [None, 512, 300, 200, 1])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_both_jpeg_decoders_give_the_same_pixels(tmp_path, monkeypatch, min_width, subsampling):
    pytest.importorskip("simplejpeg")
    path = tmp_path / "photo.jpg"
    Image.fromarray(photo(250, 500)).save(path, quality=90, subsampling=subsampling)
    turbo = decoding.decode(Image.open(path), "photo", min_width)
    monkeypatch.setattr(decoding, "decode_jpeg", None)
    np.testing.assert_array_equal(decoding.decode(Image.open(path), "photo", min_width), turbo)


def test_what_the_faster_decoder_cannot_read_is_left_to_pillow(jpeg, monkeypatch):
    def fail(*_, **__):
        raise ValueError

    expected = load_panorama(jpeg)
    monkeypatch.setattr(decoding, "decode_jpeg", fail)
    np.testing.assert_array_equal(load_panorama(jpeg), expected)
