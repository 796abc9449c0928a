"""Claims about what is sure of a picture, by one teacher and by several."""

from pathlib import Path

import pytest

from panovlm.data.annotations import Annotation, Sighting, Teacher
from panovlm.data.questions.evidence import Doubt, Evidence, evidence_of


def thing(label: str, yaw_deg: float = 0.0, **facts: object) -> Sighting:
    size = {"pitch_deg": 0.0, "width_deg": 20.0, "height_deg": 20.0, "score": 0.9}
    return Sighting(label=label, yaw_deg=yaw_deg, **{**size, **facts})


def by(name: str, labels: tuple[str, ...] | None, *things: Sighting) -> Annotation:
    teacher = Teacher(name=name, labels=labels)
    return Annotation(image=Path("p.jpg"), digest="0", teacher=teacher, sightings=things)


def known(*annotations: Annotation, doubt: Doubt | None = None) -> Evidence:
    return evidence_of("here", annotations, doubt or Doubt())


def reasons(found: Evidence) -> list[str]:
    return [reason for _, reason in found.doubtful]


@pytest.mark.parametrize(
    ("sighting", "reason"),
    [
        (thing("car", score=0.4), "score below 0.5"),
        (thing("car", num_views=1), "seen in fewer than 2 views"),
        (thing("cat", num_views=2), "their label is none of their teacher's"),
        (thing("nothing", num_views=2), "no listing can hold their label"),
        (thing("car, red", num_views=2), "no listing can hold their label"),
        (thing("car", pitch_deg=70.0, num_views=2), "above or below the camera"),
    ],
)
def test_each_doubt_is_named(sighting: Sighting, reason: str) -> None:
    found = known(by("a", ("car", "car, red"), sighting), doubt=Doubt(0.5, 2))
    assert found.sure == ()
    [given] = reasons(found)
    assert given.startswith(reason)


def test_absence_is_certain_of_the_labels_of_which_nothing_is_in_doubt() -> None:
    labels = ("car", "dog", "cat", "sign", "stop sign", "a, b")
    found = known(by("a", labels, thing("car"), thing("dog", 90, score=0.1)))
    assert found.vocabulary == ("car", "cat", "sign", "stop sign")
    assert known(by("a", None, thing("car"))).vocabulary is None


def test_what_is_scored_lowest_counts_as_not_there() -> None:
    seen = by(
        "a", ("car", "dog"), thing("car"), thing("dog", 90, score=0.3), thing("car", 180, score=0.4)
    )
    found = known(seen, doubt=Doubt(0.5, doubt_score=0.4))
    assert [each.yaw_deg for each in found.sure] == [0.0]
    assert reasons(found) == ["score below 0.5"]
    assert found.vocabulary == ("dog",)


def test_a_more_general_name_of_what_is_there_is_not_absent() -> None:
    found = known(by("a", ("sign", "stop sign"), thing("stop sign")))
    assert found.vocabulary == ("stop sign",)


def test_what_two_teachers_saw_in_one_place_is_one_thing() -> None:
    first = thing("car", 178.0, score=0.6, distance_m=4.0)
    second = thing("car", -178.0, score=0.8, text="TAXI", attributes={"colour": "red"})
    found = known(by("a", ("car",), first), by("b", ("car",), second))
    [car] = found.sure
    assert (car.yaw_deg, car.score, car.num_views) == (-178.0, 0.8, 2)
    assert (car.distance_m, car.text, car.attributes) == (4.0, "TAXI", {"colour": "red"})


def test_two_things_of_one_teacher_stay_two_beside_one_of_another() -> None:
    two = by("a", None, thing("car", 0.0), thing("car", 4.0))
    found = known(two, by("b", None, thing("car", 2.0)))
    assert len(found.sure) == 2


def test_what_another_teacher_knows_and_did_not_see_is_in_doubt() -> None:
    found = known(by("a", ("car",), thing("car")), by("b", ("car", "dog")))
    assert reasons(found) == ["another teacher knows their label and did not see them"]
    assert found.vocabulary == ("dog",)


@pytest.mark.parametrize("labels", [None, ("dog",)])
def test_what_another_teacher_may_not_know_is_sure(labels: tuple[str, ...] | None) -> None:
    found = known(by("a", ("car",), thing("car")), by("b", labels))
    assert [each.label for each in found.sure] == ["car"]


def test_texts_that_cannot_be_asked_for_are_left_out() -> None:
    texts = ("  EXIT \n now ", "x" * 61, "see <image>", " ", None)
    things = [thing("sign", 40.0 * i, text=text) for i, text in enumerate(texts)]
    found = known(by("a", None, *things))
    assert [each.text for each in found.sure] == ["EXIT now", None, None, None, None]
