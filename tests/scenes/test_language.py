"""Claims about the questions on scenes: every answer is worked out again, from bearings alone.

`SolidAtBearing` shares no code with the answers under test: it rotates by adding to bearings, sorts
by bearing where they sort by sector, and reads the questions as a person would.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from panovlm.data.questions.asking import Question
from panovlm.data.questions.surroundings import NOTHING
from panovlm.scenes.language import ask_all, listing
from panovlm.scenes.world import SHAPES, Scene, Solid, sample_scene

WORDS = [
    "front",
    "front-right",
    "right",
    "back-right",
    "back",
    "back-left",
    "left",
    "front-left",
]
PLACES = {
    "in front of me": "front",
    "behind me": "back",
    **{f"to my {word}": word for word in WORDS if word not in ("front", "back")},
}
KINDS = {"direction", "what", "colour", "existence", "count", "turn", "opposite", "nearest"}
NUM_SCENES = 50
Asked = tuple[Scene, list[Question[Scene]]]


@dataclass(frozen=True)
class SolidAtBearing:
    """One solid as a person standing in the scene sees it."""

    colour: str
    shape: str
    bearing_deg: float
    distance_m: int

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    def is_near(self, bearing_deg: float) -> bool:
        """Whether it stands within half a sector of a bearing, by the cosine of the angle."""
        apart = math.cos(math.radians(self.bearing_deg - bearing_deg))
        return apart > math.cos(math.radians(22.5))


def seen_after(scene: Scene, yaw_shift_deg: float) -> list[SolidAtBearing]:
    """The scene after turning right, clockwise by bearing in [0, 360)."""
    seen = [
        SolidAtBearing(s.colour, s.shape, (s.yaw_deg - yaw_shift_deg) % 360, s.distance_m)
        for s in scene.solids
    ]
    return sorted(seen, key=lambda solid: solid.bearing_deg)


def name_near(seen: list[SolidAtBearing], bearing_deg: float) -> str:
    names = [solid.name for solid in seen if solid.is_near(bearing_deg)]
    assert len(names) <= 1
    return names[0] if names else NOTHING


def word_for(bearing_deg: float) -> str:
    return min(WORDS, key=lambda w: -math.cos(math.radians(bearing_deg - 45 * WORDS.index(w))))


def line_next(seen: list[SolidAtBearing], name: str, side: str) -> str:
    [start] = [solid.bearing_deg for solid in seen if solid.name == name]
    sign = 1 if side == "right" else -1
    others = [solid for solid in seen if solid.name != name]
    found = min(others, key=lambda solid: sign * (solid.bearing_deg - start) % 360)
    return f"{word_for(start)} to {word_for(found.bearing_deg)}: {found.name}"


def work_out(text: str, seen: list[SolidAtBearing]) -> str:
    """Answer a question by reading it."""
    by_name = {solid.name: solid for solid in seen}
    if match := re.fullmatch(r"(?:Where|In which direction) is the (.+)\?", text):
        return word_for(by_name[match[1]].bearing_deg)
    if match := re.fullmatch(r"What (?:is|do I see) (in front of me|behind me|to my .+)\?", text):
        return name_near(seen, 45 * WORDS.index(PLACES[match[1]]))
    if match := re.fullmatch(r"W(?:hat|hich) colour (?:is|does) the (\w+)(?: have)?\?", text):
        [colour] = [solid.colour for solid in seen if solid.shape == match[1]]
        return colour
    if match := re.fullmatch(r"(?:Is there|Do I see) an? (.+)\?", text):
        return "yes" if match[1] in by_name else "no"
    if match := re.fullmatch(r"How many (.+) (?:are there|do I see)\?", text):
        return str(sum(is_counted(solid, match[1]) for solid in seen))
    if match := re.fullmatch(r"I look at the (.+) and turn (\w+)\. What do I see next\?", text):
        return line_next(seen, match[1], match[2])
    if match := re.fullmatch(r"What comes next to the (left|right) of the (.+)\?", text):
        return line_next(seen, match[2], match[1])
    if match := re.fullmatch(r"What is (?:opposite|across from) the (.+)\?", text):
        start_deg = by_name[match[1]].bearing_deg
        end_deg = start_deg + 180
        return f"{word_for(start_deg)} to {word_for(end_deg)}: {name_near(seen, end_deg)}"
    assert text in ("Which object is nearest?", "What is the nearest object?")
    least = min(solid.distance_m for solid in seen)
    [nearest] = [solid.name for solid in seen if solid.distance_m == least]
    return nearest


def is_counted(solid: SolidAtBearing, noun: str) -> bool:
    if noun == "objects":
        return True
    return noun in (f"{solid.shape}s", f"{solid.colour} objects")


@pytest.fixture(scope="module")
def asked() -> list[Asked]:
    asked = []
    for seed in range(NUM_SCENES):
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng)
        asked.append((scene, ask_all(scene, rng)))
    return asked


@pytest.mark.parametrize("yaw_shift_deg", range(0, 360, 45))
def test_every_answer_is_right_in_every_rotated_version(
    asked: list[Asked], yaw_shift_deg: int
) -> None:
    for scene, questions in asked:
        rotated, seen = scene.yaw_rotated(yaw_shift_deg), seen_after(scene, yaw_shift_deg)
        for question in questions:
            assert question.answer(rotated) == work_out(question.text, seen), question.text


@pytest.mark.parametrize("yaw_shift_deg", [0, 90, 225])
def test_listings_name_what_stands_in_each_direction(
    asked: list[Asked], yaw_shift_deg: int
) -> None:
    for scene, _ in asked:
        seen = seen_after(scene, yaw_shift_deg)
        expected = []
        for index, word in enumerate(WORDS):
            near = [solid for solid in seen if solid.is_near(45 * index)]
            expected += [f"{word}: {solid.name} {solid.distance_m} m" for solid in near]
            expected += [] if near else [f"{word}: nothing"]
        assert listing(scene.yaw_rotated(yaw_shift_deg)).split("\n") == expected


def test_every_kind_is_asked(asked: list[Asked]) -> None:
    assert {question.kind for _, questions in asked for question in questions} == KINDS


def test_some_answers_are_nothing_no_or_zero_and_some_are_not(asked: list[Asked]) -> None:
    answers = {(q.kind, q.answer(scene)) for scene, questions in asked for q in questions}
    assert {("what", NOTHING), ("opposite", f"back to front: {NOTHING}")} < answers
    assert {("existence", "no"), ("existence", "yes"), ("count", "0"), ("count", "2")} < answers
    assert len({answer for kind, answer in answers if kind == "opposite"}) > 5


def test_all_eight_directions_are_answers(asked: list[Asked]) -> None:
    answers = {
        q.answer(scene) for scene, questions in asked for q in questions if q.kind == "direction"
    }
    assert answers == set(WORDS)


def test_no_question_is_asked_twice_of_a_picture(asked: list[Asked]) -> None:
    for _, questions in asked:
        text, times = Counter(question.text for question in questions).most_common(1)[0]
        assert times == 1, text


def test_subjects_are_solids_named_in_the_question_or_its_answer(asked: list[Asked]) -> None:
    for scene, questions in asked:
        for question in questions:
            if question.subject is not None:
                [subject] = [s for s in scene.solids if s.name == question.subject]
                words = f"{question.text} {question.answer(scene)}"
                assert subject.shape in words


def test_rotation_changes_answers_that_name_a_direction_only(asked: list[Asked]) -> None:
    changed = {
        question.kind
        for scene, questions in asked
        for question in questions
        if question.answer(scene.yaw_rotated(45)) != question.answer(scene)
    }
    assert changed == {"direction", "what", "turn", "opposite"}


def scene_of(*solids: Solid) -> Scene:
    return Scene(tuple(sorted(solids, key=lambda solid: solid.sector)), 0)


def kinds_asked(scene: Scene) -> Counter[str]:
    """How often each kind is asked of a scene over many seeds."""
    sampled = (ask_all(scene, np.random.default_rng(seed)) for seed in range(20))
    return Counter(question.kind for questions in sampled for question in questions)


def test_the_colour_of_a_shape_is_asked_only_if_it_is_there_once() -> None:
    pair = Solid("cube", "red", 0.0, 3, 1.2), Solid("cube", "blue", 90.0, 5, 1.2)
    assert kinds_asked(scene_of(*pair))["colour"] == 0
    alone = Solid("cone", "cyan", 180.0, 5, 1.2)
    rng = np.random.default_rng(0)
    texts = {q.text for q in ask_all(scene_of(*pair, alone), rng) if q.kind == "colour"}
    assert texts <= {"What colour is the cone?", "Which colour does the cone have?"} and texts


def test_the_nearest_is_asked_only_if_it_is_single() -> None:
    near, other = Solid("cube", "red", 0.0, 3, 1.2), Solid("cone", "blue", 90.0, 3, 1.2)
    assert kinds_asked(scene_of(near, other))["nearest"] == 0
    far = Solid("cone", "blue", 90.0, 5, 1.2)
    assert kinds_asked(scene_of(near, far))["nearest"] == 20


@pytest.mark.parametrize(("offset_deg", "expected"), [(14.0, 0), (5.0, 20)])
def test_opposite_is_not_asked_where_the_sector_beside_is_as_near(
    offset_deg: float, expected: int
) -> None:
    """From 14° the opposite is 194°: 180° - 14° is 28° from it, and 225° - 14° only 17°."""
    start = Solid("cube", "red", offset_deg, 3, 1.2)
    behind = Solid("cone", "blue", 180.0 - offset_deg, 3, 1.2)
    beside = Solid("sphere", "cyan", -135.0 - offset_deg, 3, 1.2)
    asked_of = [
        question
        for seed in range(20)
        for question in ask_all(scene_of(start, behind, beside), np.random.default_rng(seed))
        if question.kind == "opposite" and question.subject in (start.name, behind.name)
    ]
    assert len(asked_of) == expected


def test_an_absent_name_shares_a_colour_or_shape_with_what_is() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng)
        for question in ask_all(scene, rng):
            if question.kind == "existence" and question.answer(scene) == "no":
                colour, shape = question.text.rstrip("?").split()[-2:]
                assert shape in SHAPES
                assert any(s.colour == colour or s.shape == shape for s in scene.solids)
