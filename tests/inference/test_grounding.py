"""A direction is read where an answer names one, and null where it does not."""

import pytest

from panovlm.inference.grounding import Grounding, ground


@pytest.mark.parametrize(
    ("answer", "grounding"),
    [
        ("behind and to the left", Grounding(-135.0)),
        ("It is 30 degrees to the right.", Grounding(30.0)),
        ("[200, 10, 40, 20]", Grounding(-160.0, 10.0, 40.0, 20.0)),
        ("left to back: red cone", Grounding(180.0)),
        ("front-left to front-right: nothing", Grounding(45.0)),
        ("left: red cone\nright: nothing", None),
        ("A red box.", None),
        ("", None),
        ("left or right", None),
        ("left of the door", None),
        ("[20, 100, 40, 20]", None),
    ],
)
def test_a_direction_is_read_and_never_made_up(answer: str, grounding: Grounding | None) -> None:
    assert ground(answer) == grounding


def test_a_grounding_says_only_what_is_known() -> None:
    assert Grounding(-135.0).describe() == "yaw -135°"
    assert Grounding(1.0, 2.0, 3.0, 4.0).describe() == "yaw 1°, pitch 2°, field of view 3° x 4°"
