"""Pictures arrive in sRGB, whatever profile their values are in; those in sRGB arrive unchanged."""

import io
import warnings

import numpy as np
import pytest
from odd_pictures import (
    DISPLAY_P3,
    GREY_LINEAR,
    PROPHOTO,
    WORLD,
    cmyk_profile,
    encoded_in,
)
from PIL import Image, ImageCms

from panovlm.pictures import decoding
from panovlm.pictures.colour import SRGB_PROFILE
from panovlm.pictures.panorama import as_panorama, load_panorama

LOSSLESS = {"png": {}, "tif": {}, "webp": {"lossless": True}}
LOSSY = {"jpg": {"quality": 98, "subsampling": 0}, "avif": {"quality": 98}}
GREY = np.repeat(WORLD[..., :1], 3, axis=2)


def off(found, expected=WORLD):
    return np.abs(found.astype(int) - expected)


@pytest.mark.parametrize("suffix", [*LOSSLESS, *LOSSY])
@pytest.mark.parametrize("profile", [PROPHOTO, DISPLAY_P3])
def test_a_wide_gamut_is_converted(tmp_path, suffix, profile):
    stored = encoded_in(WORLD, profile)
    path = tmp_path / f"wide.{suffix}"
    stored.save(path, icc_profile=profile, **(LOSSLESS | LOSSY)[suffix])
    assert off(np.asarray(stored)).max() > 15
    found = off(load_panorama(path))
    assert found.mean() < 2
    assert found.max() <= (6 if suffix in LOSSLESS else 40)


@pytest.mark.parametrize("min_width", [None, 64])
@pytest.mark.parametrize("is_fast", [True, False])
def test_both_decoders_and_smaller_scales_convert_alike(tmp_path, monkeypatch, min_width, is_fast):
    if not is_fast:
        monkeypatch.setattr(decoding, "decode_jpeg", None)
    encoded_in(WORLD, PROPHOTO).save(tmp_path / "p.jpg", icc_profile=PROPHOTO, quality=98)
    found = load_panorama(tmp_path / "p.jpg", min_width)
    expected = Image.fromarray(WORLD).resize(found.shape[1::-1], Image.Resampling.BOX)
    assert off(found, np.asarray(expected)).mean() < 3


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_profile_of_srgb_changes_no_pixel(tmp_path, suffix):
    plain, said = (tmp_path / f"{name}.{suffix}" for name in ("plain", "said"))
    options = {"quality": 90} if suffix == "jpg" else {}
    Image.fromarray(WORLD).save(plain, **options)
    Image.fromarray(WORLD).save(said, icc_profile=SRGB_PROFILE, **options)
    np.testing.assert_array_equal(load_panorama(said), load_panorama(plain))


def test_alpha_stays_beside_the_colours(tmp_path):
    stored = encoded_in(WORLD, PROPHOTO)
    half = Image.new("L", stored.size, 255)
    half.paste(0, (0, 0, stored.width // 2, stored.height))
    stored.putalpha(half)
    stored.save(tmp_path / "p.png", icc_profile=PROPHOTO)
    found = load_panorama(tmp_path / "p.png")
    assert not found[:, : stored.width // 2].any()
    assert off(found)[:, stored.width // 2 :].max() <= 4


def test_a_palette_is_converted(tmp_path):
    flat = np.full((32, 64, 3), (200, 40, 60), np.uint8)
    encoded_in(flat, PROPHOTO).quantize(4).save(tmp_path / "p.png", icc_profile=PROPHOTO)
    assert off(load_panorama(tmp_path / "p.png"), flat).max() <= 3


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_with_a_profile_of_grey_is_converted(tmp_path, mode):
    linear = np.asarray(encoded_in(WORLD, GREY_LINEAR, "L"))
    shown = np.asarray(
        ImageCms.profileToProfile(
            Image.fromarray(linear),
            ImageCms.ImageCmsProfile(io.BytesIO(GREY_LINEAR)),
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
        )
    )
    if mode == "I;16":
        image = Image.fromarray(linear.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(linear).convert(mode)
    image.save(tmp_path / "p.png", icc_profile=GREY_LINEAR)
    found = load_panorama(tmp_path / "p.png")
    np.testing.assert_array_equal(found, shown)
    assert off(found, np.repeat(linear[..., None], 3, axis=2)).mean() > 20


def test_grey_with_a_profile_of_colours_is_converted(tmp_path):
    stored = encoded_in(GREY, PROPHOTO).convert("L")
    stored.save(tmp_path / "p.jpg", icc_profile=PROPHOTO, quality=98)
    assert off(load_panorama(tmp_path / "p.jpg"), GREY).max() <= 5
    assert off(np.asarray(stored)[..., None], GREY).mean() > 5


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_with_a_profile_is_converted_by_it(tmp_path, suffix):
    profile = cmyk_profile()
    black = Image.new("CMYK", (64, 32), (0, 0, 0, 255))
    options = {"quality": 98} if suffix == "jpg" else {}
    black.save(tmp_path / f"with.{suffix}", icc_profile=profile, **options)
    black.save(tmp_path / f"without.{suffix}", **options)
    assert off(load_panorama(tmp_path / f"with.{suffix}"), 77).max() <= 6  # a dark grey: 0.3 · 255
    assert load_panorama(tmp_path / f"without.{suffix}").max() <= 3


def test_cielab_is_converted(tmp_path):
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    transform = ImageCms.buildTransform(srgb, lab, "RGB", "LAB")
    ImageCms.applyTransform(Image.fromarray(WORLD), transform).save(tmp_path / "p.tif")
    assert off(load_panorama(tmp_path / "p.tif")).mean() < 2


@pytest.mark.parametrize(
    "profile", [b"no profile", PROPHOTO[:200], cmyk_profile(), GREY_LINEAR, bytes(3000)]
)
def test_a_profile_that_cannot_be_applied_is_ignored_with_a_warning(tmp_path, profile):
    Image.fromarray(WORLD).save(tmp_path / "p.png", icc_profile=profile)
    with pytest.warns(UserWarning, match=r"p\.png: found an ICC profile that cannot.*RGB"):
        np.testing.assert_array_equal(load_panorama(tmp_path / "p.png"), WORLD)


def test_an_opened_picture_is_converted_once():
    opened = encoded_in(WORLD, PROPHOTO)
    assert opened.info["icc_profile"] == PROPHOTO
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        converted = as_panorama(opened)
        assert off(converted).max() <= 6
        np.testing.assert_array_equal(as_panorama(Image.fromarray(converted)), converted)
