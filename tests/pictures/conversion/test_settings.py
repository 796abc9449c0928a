"""Settings of a conversion: every mistake is named with its option."""

from typing import Any

import pytest

from panovlm.errors import PanoVLMError
from panovlm.pictures.conversion.settings import ConversionSettings, parse_rotation


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
