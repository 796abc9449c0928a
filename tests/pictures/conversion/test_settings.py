"""Settings of a conversion: every mistake is named with its option."""

import math
from typing import Any

import pytest

from panovlm.errors import PanoVLMError
from panovlm.pictures.conversion.settings import (
    ConversionSettings,
    parse_rotation,
    parse_seconds,
    split_declaration,
)
from panovlm.pictures.declaring import AS_FOUND, Declaration


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "fisheye"}, "found --to fisheye, expected one of equirectangular, cubemap, views"),
        ({"arrangement": "ring"}, "found --arrangement ring, expected one of strip, dice, files"),
        ({"format": "gif"}, "found --format gif, expected one of jpg, png, webp"),
        ({"face_size": 0}, "found --face-size 0, expected 1 to 4096"),
        ({"view_size": 5000}, "found --view-size 5000, expected 1 to 4096"),
        ({"quality": 101}, "found --quality 101, expected 1 to 100"),
        ({"width": 31}, "found --width 31, expected an even number from 2 to 32766"),
        ({"width": 0}, "found --width 0, expected an even number"),
        ({"num_views": 1}, "found a ring of 1 views"),
        ({"fov_deg": 180.0}, "found a field of view of 180°"),
        ({"pitches_deg": (0.0, 91.0)}, "found a pitch of 91°"),
        ({"rotation_deg": (0.0, -91.0, 0.0)}, "found a pitch of -91°"),
        ({"raw_projection": "fisheye"}, "found --projection fisheye, expected one of dual-fish"),
        ({"raw_projection": "dual-fisheye"}, "expected the angle across each circle.*--lens-fov"),
        (
            {
                "raw_projection": "dual-fisheye",
                "lens_fov_deg": 200.0,
                "declared": Declaration(projection="equirectangular", hfov_deg=90.0),
            },
            "found --projection dual-fisheye, .*no --hfov-deg",
        ),
        (
            {"raw_projection": "dual-fisheye", "lens_fov_deg": 170.0},
            "found --lens-fov-deg 170, expected 180 to below 360 degrees",
        ),
        ({"raw_projection": "dual-fisheye", "lens_fov_deg": math.nan}, "found --lens-fov-deg nan"),
        ({"lens_fov_deg": 200.0}, "found --lens-fov-deg 200.*with --projection dual-fisheye"),
        ({"every_s": 0.0}, "found --every 0s, expected 0.01 s or more"),
        ({"every_s": math.nan}, "found --every nans"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PanoVLMError, match=message):
        ConversionSettings(**{"to": "views", **options})


def test_a_rotation_is_read_from_text() -> None:
    assert parse_rotation("30,-10.5,2") == (30.0, -10.5, 2.0)
    assert parse_rotation(" 90 ") == (90.0, 0.0, 0.0)


@pytest.mark.parametrize("text", ["", "left", "1,2,3,4", "nan", "inf,0,0", "1;2"])
def test_other_text_is_no_rotation(text: str) -> None:
    with pytest.raises(PanoVLMError, match="expected YAW,PITCH,ROLL in degrees"):
        parse_rotation(text)


def test_seconds_are_read_from_text() -> None:
    assert [parse_seconds(text) for text in ("2s", "0.5s", "10")] == [2.0, 0.5, 10.0]
    for text in ("", "s", "2m", "often"):
        with pytest.raises(PanoVLMError, match="expected seconds, as in --every 2s"):
            parse_seconds(text)


def test_options_of_inputs_are_split_into_what_every_reading_and_a_conversion_alone_takes() -> None:
    said = {**AS_FOUND.__dict__, "hfov_deg": 180.0}
    half = Declaration(projection="equirectangular", hfov_deg=180.0)
    assert split_declaration(said | {"projection": "equirectangular"}) == {"declared": half}
    stereo = split_declaration(said | {"projection": "stereo-side-by-side"})
    assert stereo == {"declared": half, "raw_projection": "stereo-side-by-side"}
    raw = split_declaration({**AS_FOUND.__dict__, "projection": "dual-fisheye"})
    assert raw == {"declared": AS_FOUND, "raw_projection": "dual-fisheye"}
    with pytest.raises(PanoVLMError, match=r"found --projection fisheye, expected one of equirect"):
        split_declaration(said | {"projection": "fisheye"})


def test_only_what_is_said_of_inputs_is_kept() -> None:
    said = {"declared", "raw_projection", "lens_fov_deg", "every_s"}
    assert not said & ConversionSettings(to="views").to_json().keys()
    raw = ConversionSettings(to="views", raw_projection="dual-fisheye", lens_fov_deg=200.0)
    assert said & raw.to_json().keys() == {"raw_projection", "lens_fov_deg"}
