"""What is declared of a picture: its ranges, and where the picture then lies on the sphere."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter
from xmp_packets import SPHERE, packet, save_with_xmp

from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import (
    Declaration,
    DeclaredPicture,
    declaration_of,
    declare,
    declared_key,
)
from panovlm.pictures.panorama import declaration_error, load_panorama, read_panorama

LEFT, WIDTH = 24, 60
STRIP = SPHERE[12:52, LEFT : LEFT + WIDTH]  # the horizon is in its middle
DECLARED = Declaration(
    projection="equirectangular",
    hfov_deg=WIDTH / 128 * 360,
    yaw_deg=((LEFT + WIDTH / 2) / 128 - 0.5) * 360,
)


def saved(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"projection": "fisheye"}, "found the projection 'fisheye', expected equirectangular"),
        ({"hfov_deg": 270}, "found hfov_deg 270 without a projection, expected both"),
        ({"roll_deg": 2}, "found roll_deg 2 without a projection"),
        ({"projection": "cubemap", "vfov_deg": 90}, "vfov_deg 90 beside a cube map"),
        (
            {"projection": "cylindrical", "vfov_deg": 179.5},
            r"179\.5, expected 0\.18 to 179",
        ),
        ({"projection": "cylindrical", "hfov_deg": 361}, "hfov_deg 361, expected .* to 360"),
        ({"projection": "equirectangular", "pitch_deg": 91}, "pitch_deg 91, expected -90 to 90"),
        ({"projection": "equirectangular", "yaw_deg": math.nan}, "found yaw_deg nan"),
    ],
)
def test_what_is_out_of_range_is_refused(fields, message):
    with pytest.raises(PanoVLMError, match=message):
        Declaration(**fields)


@given(
    st.floats(0.36, 360), st.floats(-360, 360), st.floats(-90, 90), st.sampled_from([True, False])
)
def test_a_declaration_is_what_json_holds_of_it(hfov_deg, yaw_deg, pitch_deg, use_xmp):
    declared = Declaration(
        projection="cylindrical",
        hfov_deg=hfov_deg,
        yaw_deg=yaw_deg,
        pitch_deg=pitch_deg,
        use_xmp=use_xmp,
    )
    adapter = TypeAdapter(Declaration)
    assert adapter.validate_python(declared.said) == declared
    assert adapter.validate_json(adapter.dump_json(declared)) == declared
    assert declared_key("digest", declared) != declared_key("digest", None) == "digest"


def test_a_picture_of_which_nothing_is_declared_is_its_path(tmp_path):
    path = tmp_path / "a.jpg"
    assert declare(path, None) is declare(path, Declaration()) is path
    declared = declare(path, DECLARED)
    assert (Path(declared), str(declared)) == (path, str(path))
    assert declaration_of(declared) == DECLARED != declaration_of(path)


def test_whole_and_broken_numbers_declare_the_same():
    whole = Declaration(projection="cylindrical", hfov_deg=270)
    broken = Declaration(projection="cylindrical", hfov_deg=270.0)
    assert declared_key("a", whole) == declared_key("a", broken)


def test_a_declared_strip_is_read_as_the_strip_whose_xmp_says_the_same(tmp_path):
    area = {
        "ProjectionType": "equirectangular",
        "FullPanoWidthPixels": 128,
        "FullPanoHeightPixels": 64,
        "CroppedAreaLeftPixels": LEFT,
        "CroppedAreaTopPixels": 12,
        "CroppedAreaImageWidthPixels": WIDTH,
        "CroppedAreaImageHeightPixels": 40,
    }
    save_with_xmp(tmp_path / "told.png", STRIP, packet(area))
    told = read_panorama(tmp_path / "told.png")
    plain = DeclaredPicture(saved(tmp_path / "plain.png", STRIP), DECLARED)
    for declared in (plain, DeclaredPicture(tmp_path / "told.png", DECLARED)):
        panorama = read_panorama(declared)
        np.testing.assert_array_equal(panorama.pixels, told.pixels)
        np.testing.assert_array_equal(panorama.mask, told.mask)
    np.testing.assert_array_equal(told.pixels[12:52, LEFT : LEFT + WIDTH], STRIP)


@pytest.mark.parametrize("projection", ["equirectangular", "cylindrical"])
def test_either_angle_gives_the_other_by_square_pixels(tmp_path, projection):
    path = saved(tmp_path / "strip.png", STRIP)
    hfov_deg = 150.0
    if projection == "cylindrical":
        vfov_deg = 2 * math.degrees(math.atan(math.radians(hfov_deg) * 40 / WIDTH / 2))
    else:
        vfov_deg = hfov_deg * 40 / WIDTH
    across = load_panorama(path, projection=projection, hfov_deg=hfov_deg)
    down = load_panorama(path, projection=projection, vfov_deg=vfov_deg)
    np.testing.assert_allclose(across.astype(int), down, atol=1)


def test_pixels_that_are_not_square_are_declared_by_both_angles(tmp_path):
    narrowed = np.array(Image.fromarray(SPHERE[16:48]).resize((64, 32), Image.Resampling.BOX))
    path = saved(tmp_path / "narrowed.png", narrowed)
    panorama = read_panorama(path, projection="equirectangular", hfov_deg=360.0, vfov_deg=90.0)
    known = panorama.mask
    assert known.mean() == pytest.approx(0.5, abs=0.02)
    height, width = known.shape
    expected = np.array(Image.fromarray(SPHERE).resize((width, height), Image.Resampling.BOX))
    assert np.abs(panorama.pixels[known].astype(int) - expected[known]).mean() < 6


@pytest.mark.parametrize("projection", ["equirectangular", "cylindrical"])
@given(yaw_deg=st.sampled_from([-180.0, -45.0, 90.0, 315.0]))
def test_yaw_moves_a_part_by_whole_columns_exactly(tmp_path_factory, projection, yaw_deg):
    path = saved(tmp_path_factory.mktemp("yaw") / "strip.png", STRIP)
    angles = {"projection": projection, "hfov_deg": WIDTH / 128 * 360}
    ahead = load_panorama(path, **angles)
    moved = load_panorama(path, **angles, yaw_deg=yaw_deg)
    np.testing.assert_array_equal(moved, np.roll(ahead, round(yaw_deg / 360 * 128), axis=1))


def test_pitch_and_roll_are_those_of_xmp(tmp_path):
    tilt = {"ProjectionType": "equirectangular", "PosePitchDegrees": 20, "PoseRollDegrees": -7}
    save_with_xmp(tmp_path / "told.png", SPHERE, packet(tilt))
    path = saved(tmp_path / "plain.png", SPHERE)
    declared = load_panorama(path, projection="equirectangular", pitch_deg=20, roll_deg=-7)
    np.testing.assert_array_equal(declared, load_panorama(tmp_path / "told.png"))


def test_a_sphere_and_a_cube_map_are_rotated_as_declared(tmp_path):
    sphere = saved(tmp_path / "sphere.png", SPHERE)
    turned = load_panorama(sphere, projection="equirectangular", yaw_deg=90)
    np.testing.assert_allclose(turned.astype(int), np.roll(SPHERE, 32, axis=1), atol=1)
    faces = np.zeros((16, 96, 3), np.uint8)
    faces[:, :16] = 255  # the front
    cubemap = saved(tmp_path / "cubemap.png", faces)
    panorama = load_panorama(cubemap, projection="cubemap", yaw_deg=90)
    height, width = panorama.shape[:2]
    assert panorama[height // 2, width * 3 // 4].min() == 255
    assert panorama[height // 2, width // 2].max() == 0


def test_a_narrowed_full_sphere_becomes_two_to_one(tmp_path):
    path = saved(tmp_path / "narrowed.png", np.ascontiguousarray(SPHERE[:, ::2]))
    panorama = read_panorama(path, projection="equirectangular", hfov_deg=360, vfov_deg=180)
    height, width = panorama.pixels.shape[:2]
    assert (width, panorama.mask) == (2 * height, None)


@pytest.mark.parametrize(
    ("fields", "columns", "message"),
    [
        ({"projection": "cylindrical"}, 60, "found a cylindrical.*unknown angle.*set hfov_deg"),
        ({"projection": "cylindrical", "vfov_deg": 150}, 60, "° across.*lower vfov_deg"),
        (
            {"projection": "equirectangular", "hfov_deg": 20, "vfov_deg": 120},
            60,
            r"beside hfov_deg 20, which makes one side of a pixel 9\.0 times the other",
        ),
        ({"projection": "equirectangular", "hfov_deg": 300}, 60, "60x40, expected width = 2"),
        ({"projection": "cubemap"}, 31, "found 31x40, expected a cube map"),
    ],
)
def test_what_contradicts_a_picture_is_seen_in_its_header(tmp_path, fields, columns, message):
    picture = saved(tmp_path / "p.png", STRIP[:, :columns])
    with pytest.raises(PanoVLMError, match=message) as refused:
        read_panorama(picture, **fields)
    declared = DeclaredPicture(picture, Declaration(**fields))
    assert declaration_error(declared) == str(refused.value)
