"""A direction is read where an answer names one, and null where it does not."""

import pytest

from panovlm.data.annotations import Sighting
from panovlm.data.questions.asking import LISTING_REQUEST
from panovlm.data.questions.surroundings import Surroundings, listing
from panovlm.inference.grounding import Grounding, ground, grounded_regions


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


def test_each_line_of_a_listing_of_annotations_is_a_region() -> None:
    size = {"pitch_deg": 0, "width_deg": 9, "height_deg": 9}
    things = [Sighting(label=name, yaw_deg=y, **size) for name, y in (("car", 90), ("dog", -130))]
    written = listing(Surroundings.of([*things, things[1].model_copy(update={"label": "cat"})]))
    regions = grounded_regions(written, LISTING_REQUEST)
    found = {(region.label, region.yaw_deg, region.source) for region in regions}
    assert found == {("car", 90.0, "listing"), ("cat, dog", -135.0, "listing")}


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("Where is the car?", "front-left", ("car", -45.0, 45.0, "direction")),
        ("Is it far?", "[200, 10, 40, 20]", (None, -160.0, 40.0, "field of view")),
        ("What is behind me?", "car, dog", ("car, dog", 180.0, 45.0, "question")),
        ("What do I see to my back-left?", "A bus.", ("A bus.", -135.0, 45.0, "question")),
        ("What is behind me?", "nothing", None),
        ("What is behind me?", "", None),
        ("What is between what is behind me and to my left?", "a car", None),
        ("Is there a car behind me?", "yes", None),
        ("How many cars are there?", "3", None),
        ("", "left or right", None),
    ],
)
def test_a_region_is_where_answer_or_question_say(question, answer, expected) -> None:
    regions = grounded_regions(answer, question)
    found = [(each.label, each.yaw_deg, each.width_deg, each.source) for each in regions]
    assert found == ([expected] if expected else [])
