"""Claims about questions on annotations: every answer is worked out again, from bearings alone.

The answers under test come from `Surroundings`; here things are rotated by adding to bearings and
questions are read as a person would read them.
"""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panovlm.data.annotations import Annotation, Sighting, Teacher
from panovlm.data.questions.asking import PLACES, Question, ask_all
from panovlm.data.questions.certainty import MARGIN_DEG, Rotations
from panovlm.data.questions.evidence import Doubt, Evidence, evidence_of
from panovlm.data.questions.surroundings import Surroundings, listing
from panovlm.geometry.sphere import DIRECTIONS
from panovlm.metrics.listings import is_listing, parse_listing

LABELS = ("car", "person", "bench", "stop sign", "sign", "umbrella", "dog")
STEPS = 24
Thing = tuple[Sighting, float]
"""A thing and its bearing, clockwise from the front, in [0, 360)."""

sightings = st.builds(
    Sighting,
    label=st.sampled_from(LABELS),
    yaw_deg=st.floats(-179.0, 180.0),
    pitch_deg=st.floats(-50.0, 50.0),
    width_deg=st.floats(1.0, 100.0),
    height_deg=st.floats(1.0, 60.0),
    score=st.sampled_from([0.3, 0.9]),
    distance_m=st.none() | st.floats(0.3, 30.0),
    text=st.none() | st.sampled_from(["EXIT", "CAFE", "12"]),
    attributes=st.sampled_from([{}, {"colour": "red"}, {"colour": "blue"}]),
)
every_label = st.sampled_from([LABELS, None])


def evidence(things: list[Sighting], labels: tuple[str, ...] | None = LABELS) -> Evidence:
    teacher = Teacher(name="oracle", labels=labels)
    annotation = Annotation(image=Path("p.jpg"), digest="00", teacher=teacher, sightings=things)
    return evidence_of("here", [annotation], Doubt(min_score=0.5))


def rotations(found: Evidence) -> Rotations:
    return Rotations(found, Surroundings.of(found.sure, found.vocabulary), STEPS)


def asked(found: Evidence, seed: int) -> list[Question[Surroundings]]:
    return ask_all(rotations(found).sure, np.random.default_rng(seed))


def seen_at(things: list[Sighting], yaw_deg: float) -> list[Thing]:
    return [(thing, (thing.yaw_deg - yaw_deg) % 360.0) for thing in things]


def apart(first_deg: float, second_deg: float) -> float:
    return abs((first_deg - second_deg + 180.0) % 360.0 - 180.0)


def word(bearing_deg: float) -> str:
    return DIRECTIONS[math.floor((bearing_deg + 22.5) / 45.0) % 8]


def words(thing: Sighting, bearing_deg: float) -> set[str]:
    """Every direction that a thing is listed in."""
    side = math.tan(math.radians(thing.width_deg / 2)) / math.cos(math.radians(thing.pitch_deg))
    half_deg = math.degrees(math.atan(side))
    if half_deg <= 45.0:
        return {word(bearing_deg)}
    covered = {w for i, w in enumerate(DIRECTIONS) if apart(bearing_deg, 45.0 * i) <= half_deg}
    return covered | {word(bearing_deg)}


def labels_in(seen: list[Thing], direction: str) -> list[str]:
    """Labels in a direction: of the four biggest, from left to right where the biggest is."""
    centre = 45.0 * DIRECTIONS.index(direction)

    def place(each: Thing) -> tuple[float, str]:
        return round((each[1] - centre + 180.0) % 360.0, 6), each[0].label

    there = sorted((each for each in seen if direction in words(*each)), key=place)
    biggest: dict[str, Thing] = {}
    for each in sorted(there, key=lambda e: -e[0].width_deg * e[0].height_deg):
        biggest.setdefault(each[0].label, each)
    return [thing.label for thing, _ in sorted(list(biggest.values())[:4], key=place)]


def only(seen: list[Thing], label: str) -> Thing | None:
    found = [each for each in seen if each[0].label == label]
    return found[0] if len(found) == 1 else None


PLURALS = {"people": "person", "benches": "bench"}


def singular(nouns: str) -> str:
    return PLURALS.get(nouns, nouns.removesuffix("s"))


def work_out(text: str, seen: list[Thing]) -> str | None:
    """Answer a question by reading it; None where nobody could."""
    if match := re.fullmatch(r'(?:Where do I read|In which direction is) "(.+)"\?', text):
        found = [b for t, b in seen if t.text == match[1]]
        return word(found[0]) if len(found) == 1 else None
    if match := re.fullmatch(r"(?:Where|In which direction) is the (.+)\?", text):
        found_one = only(seen, match[1])
        return found_one and word(found_one[1])
    if match := re.fullmatch(r"What (?:is|do I see) (in front of me|behind me|to my .+)\?", text):
        return ", ".join(labels_in(seen, DIRECTIONS[PLACES.index(match[1])])) or "nothing"
    if match := re.fullmatch(r"(?:What does the .+|What can I read) (\S+ .+?)(?: say)?\?", text):
        return read_in(seen, text)
    if match := re.fullmatch(r"W(?:hat|hich) colour (?:is|does) the (.+?)(?: have)?\?", text):
        found_one = only(seen, match[1])
        return found_one and found_one[0].attributes.get("colour")
    if match := re.fullmatch(r"(?:Is there|Do I see) an? (.+)\?", text):
        return "yes" if any(t.label == match[1] for t, _ in seen) else "no"
    if match := re.fullmatch(r"How many (.+) (?:are there|do I see)\?", text):
        return str(sum(t.label == singular(match[1]) for t, _ in seen))
    if match := re.fullmatch(r"I look at the (.+) and turn (\w+)\. What do I see next\?", text):
        return next_to(seen, match[1], match[2])
    if match := re.fullmatch(r"What comes next to the (left|right) of the (.+)\?", text):
        return next_to(seen, match[2], match[1])
    if match := re.fullmatch(r"What is (?:opposite|across from) the (.+)\?", text):
        found_one = only(seen, match[1])
        if found_one is None:
            return None
        facing = DIRECTIONS[(DIRECTIONS.index(word(found_one[1])) + 4) % 8]
        there = ", ".join(labels_in(seen, facing)) or "nothing"
        return f"{word(found_one[1])} to {facing}: {there}"
    assert text in ("Which object is nearest?", "What is the nearest object?")
    return min((t.distance_m or 0.0, t.label) for t, _ in seen)[1]


def read_in(seen: list[Thing], text: str) -> str | None:
    [direction] = [
        w for w, p in zip(DIRECTIONS, PLACES, strict=True) if re.search(rf" {p}(?: say)?\?$", text)
    ]
    found = [t.text for t, b in seen if t.text and direction in words(t, b)]
    return found[0] if len(found) == 1 else None


def next_to(seen: list[Thing], label: str, side: str) -> str | None:
    start = only(seen, label)
    if start is None or len(seen) < 2:
        return None
    sign = 1 if side == "right" else -1
    others = [each for each in seen if each is not start]
    thing, bearing = min(others, key=lambda e: sign * (e[1] - start[1]) % 360.0)
    return f"{word(start[1])} to {word(bearing)}: {thing.label}"


def possible_answers(text: str, found: Evidence, yaw_deg: float) -> set[str | None]:
    """Every answer that could be right: with what is in doubt and without, each a little off."""
    doubtful = [thing for thing, _ in found.doubtful]
    return {
        work_out(text, seen_at(things, yaw_deg + off_deg))
        for things in ([*found.sure], [*found.sure, *doubtful])
        for off_deg in (-MARGIN_DEG, 0.0, MARGIN_DEG)
    }


@settings(max_examples=40, deadline=None)
@given(st.lists(sightings, min_size=1, max_size=7), every_label, st.integers(0, 2**32))
def test_answers_after_every_rotation_are_what_the_rotated_things_say(things, labels, seed):
    found = evidence(things, labels)
    if not found.sure:
        return
    for question in asked(found, seed):
        for step, answer in enumerate(rotations(found).certain_answers(question)):
            possible = possible_answers(question.text, found, step * 360.0 / STEPS)
            if answer is not None:
                assert possible == {answer}, question.text
            elif question.kind in ("direction", "existence", "count", "text"):
                assert len(possible) > 1 or None in possible, question.text


@settings(max_examples=40, deadline=None)
@given(st.lists(sightings, min_size=1, max_size=9))
def test_listings_after_every_rotation_name_what_is_in_each_direction(things):
    found = evidence(things)
    seen = rotations(found)
    for step, text in enumerate(seen.answers(Question("listing", "", listing))):
        placed = seen_at(list(found.sure), step * 360.0 / STEPS)
        assert is_listing(text)
        read = parse_listing(text)
        for line, direction in zip(text.split("\n"), DIRECTIONS, strict=True):
            listed = line.removeprefix(f"{direction}: ").split(", ")
            names = [re.sub(r" \d+ m$", "", name) for name in listed if name != "nothing"]
            assert names == labels_in(placed, direction)
            assert read[direction] == {name for name in listed if name != "nothing"}
            assert len(names) <= 4 and len(set(names)) == len(names)


@settings(max_examples=40, deadline=None)
@given(st.lists(sightings, min_size=1, max_size=7), every_label, st.integers(0, 2**32))
def test_absent_is_said_only_of_what_the_teacher_would_have_found(things, labels, seed):
    found = evidence(things, labels)
    seen = {thing.label for thing in things}
    for question in asked(found, seed) if found.sure else []:
        answer = rotations(found).certain_answers(question)[0]
        if question.kind == "existence" and answer == "no":
            label = re.split(" an? ", question.text)[1].rstrip("?")
            assert labels and label in labels and label not in seen
            assert not (label == "sign" and "stop sign" in seen)
        if labels is None and answer:
            assert not answer.endswith("nothing") and answer not in ("no", "0")


def thing(label: str, yaw_deg: float, **facts: object) -> Sighting:
    size = {"pitch_deg": 0.0, "width_deg": 10.0, "height_deg": 10.0}
    return Sighting(label=label, yaw_deg=yaw_deg, **{**size, **facts})


def answers_to(kind: str, *things: Sighting) -> set[str]:
    """The certain answers, unrotated, to all that is asked of a kind over many seeds."""
    found = evidence(list(things))
    each = [q for seed in range(20) for q in asked(found, seed) if q.kind == kind]
    certain = (rotations(found).certain_answers(question)[0] for question in each)
    return {answer for answer in certain if answer is not None}


def test_where_is_asked_only_of_what_its_label_tells_apart() -> None:
    assert answers_to("direction", thing("car", 0), thing("car", 90), thing("dog", 180)) == {"back"}


@pytest.mark.parametrize(("yaw_deg", "expected"), [(0, {"front"}), (20, set()), (26, set())])
def test_near_the_border_of_two_directions_no_word_is_certain(yaw_deg, expected) -> None:
    assert answers_to("direction", thing("car", yaw_deg)) == expected


def test_a_very_wide_thing_is_in_no_single_direction() -> None:
    assert answers_to("direction", thing("car", 0, width_deg=120.0)) == set()
    assert listing(Surroundings.of([thing("car", 0, width_deg=100.0)])).count("car") == 3


def test_what_is_in_doubt_is_neither_asked_about_nor_ruled_out() -> None:
    doubtful = thing("person", 90, score=0.3)
    assert answers_to("existence", thing("car", 0), doubtful) == {"yes", "no"}
    found = evidence([thing("car", 0), doubtful])
    texts = [q.text for seed in range(40) for q in asked(found, seed)]
    assert not any("person" in text or "people" in text for text in texts)
    to_the_right = [q for s in range(40) for q in asked(found, s) if q.text.endswith("my right?")]
    assert to_the_right
    assert {rotations(found).certain_answers(question)[0] for question in to_the_right} == {None}


def test_what_comes_next_is_asked_only_where_nothing_else_is_as_near() -> None:
    things = thing("dog", 0), thing("car", 45), thing("bench", 48)
    assert "front to front-right: car" not in answers_to("turn", *things)
    clear = thing("dog", 0), thing("car", 45), thing("bench", 90)
    assert "front to front-right: car" in answers_to("turn", *clear)


def test_the_nearest_is_asked_only_where_every_distance_is_known() -> None:
    near, far = thing("car", 0, distance_m=3.0), thing("dog", 90, distance_m=9.0)
    assert answers_to("nearest", near, far) == {"car"}
    assert answers_to("nearest", near, far, thing("bench", 180)) == set()
    assert answers_to("nearest", near, thing("dog", 90, distance_m=3.3)) == set()


def test_signs_are_read_where_there_is_one_in_a_direction() -> None:
    exits = thing("sign", 0, text="EXIT"), thing("sign", 90, text="CAFE")
    assert answers_to("text", *exits) == {"EXIT", "CAFE"}
    assert {"front", "right"} <= answers_to("direction", *exits)
    assert answers_to("text", thing("sign", 0, text="EXIT"), thing("sign", 5, text="12")) == set()


def test_colours_come_from_attributes() -> None:
    red = thing("car", 0, attributes={"colour": "red"})
    assert answers_to("colour", red, thing("dog", 90)) == {"red"}


def test_listings_keep_the_biggest_labels_each_once_from_left_to_right() -> None:
    things = [thing(label, yaw) for label, yaw in (("c", 9), ("b", 5), ("a", 1), ("d", -9))]
    small = thing("e", 0, width_deg=2.0)
    twice = thing("a", -15, width_deg=4.0, distance_m=3.4)
    assert listing(Surroundings.of([*things, small, twice])).split("\n")[0] == "front: d, a, b, c"
    assert listing(Surroundings.of([twice])).split("\n")[0] == "front: a 3 m"
