"""Directions and labels of one's own panoramas: read with clear errors, scored without guessing."""

import json
from pathlib import Path
from typing import Any

import pytest

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks import directions, labels
from panovlm.evaluation.benchmarks.directions import DIRECTION_ERRORS, chance, parse_place
from panovlm.evaluation.benchmarks.labels import LABELS
from panovlm.evaluation.report import describe
from panovlm.evaluation.scoring import Prediction
from panovlm.metrics.scores import UNREADABLE

DOOR = {"image": "a.jpg", "name": "the door", "yaw_deg": 170.0, "pitch_deg": 60.0}


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_a_thing_is_asked_for_by_its_name_or_by_the_question_as_it_stands(tmp_path: Path) -> None:
    asked = {"image": "b.jpg", "question": "Where to?", "yaw_deg": 350, "kind": "way"}
    door, way = DIRECTION_ERRORS.read(written(tmp_path, DOOR, asked), Path("pictures"))
    assert door.question.startswith("Facing the centre of this panorama, in which direction is")
    assert "the door? Answer with yaw and pitch" in door.question
    assert (door.image, door.kind, door.name) == (Path("pictures/a.jpg"), "direction", "1")
    assert (way.question, way.kind, way.yaw_deg, way.pitch_deg) == ("Where to?", "way", -10.0, None)


def test_errors_go_the_short_way_around_and_over_the_sphere(tmp_path: Path) -> None:
    items = DIRECTION_ERRORS.read(written(tmp_path, *[DOOR] * 4), tmp_path)
    answers = ["yaw -170, pitch 60", "submit(-10,60)", "behind me", "a door"]
    scores = DIRECTION_ERRORS.score(items, answers)
    assert [score.value for score in scores] == [pytest.approx(20.0), 180.0, 10.0, None]
    extras = DIRECTION_ERRORS.extras(items, answers, scores)
    # 20° of yaw at pitch 60 are less on the sphere; over the pole it is 60; unsaid is level.
    across = [9.96, 60.0, 60.5]
    assert extras["great_circle_deg"]["mean_readable"] == pytest.approx(sum(across) / 3, abs=0.01)
    assert extras["great_circle_deg"]["mean"] == pytest.approx((sum(across) + 180) / 4, abs=0.01)
    assert extras["pitch_said"] == 2
    assert extras["said"] == {"back": 2, "front": 1}
    assert extras["right_sector"]["mean"] == 0.5
    assert extras["mean_unreadable_guessed_deg"] == pytest.approx((20 + 180 + 10 + 90) / 4)


def test_an_answer_that_cannot_be_read_is_the_largest_error(tmp_path: Path) -> None:
    items = DIRECTION_ERRORS.read(written(tmp_path, *[DOOR] * 3), tmp_path)
    answers = ["0 0 0", "", "left of the window"]
    scores = DIRECTION_ERRORS.score(items, answers)
    assert scores == [UNREADABLE] * 3
    predictions = [*map(Prediction, items, answers, scores)]
    described = describe(DIRECTION_ERRORS, predictions)
    summary = described["score"]
    assert (summary["mean"], summary["mean_readable"]) == (180.0, None)
    assert (summary["coverage"], summary["missing"]) == (0.0, {UNREADABLE.missing: 3})
    assert described["by_kind"]["direction"]["mean"] == 180.0
    assert described["extras"]["mean_unreadable_guessed_deg"] == 90.0
    assert described["extras"]["median_error_deg"] == 180.0
    assert described["score"]["interval"]["mean"] == 180.0


def test_correct_answers_are_correct_under_every_rotation(tmp_path: Path) -> None:
    (item,) = DIRECTION_ERRORS.read(written(tmp_path, DOOR), tmp_path)
    for turn_deg in (0.0, 45.0, 170.0, 315.0):
        rotated = directions.rotated(item, turn_deg)
        score = directions.great_circle_deg(rotated, rotated.references[0])
        assert score.value == pytest.approx(0.0, abs=1e-6)
    assert directions.rotated(item, 260.0).references == ("yaw -90.0, pitch 60.0",)


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        ("yaw 30 degrees, pitch -5 degrees", (30.0, -5.0)),
        ("Yaw: 30, pitch: 95", (30.0, None)),
        ("submit(30,-5)", (30.0, -5.0)),
        ("back-left", (-135.0, None)),
        ("pitch 10", None),
        ("not left", None),
    ],
)
def test_places_are_read_from_answers(answer: str, place: Any) -> None:
    assert parse_place(answer) == place


def test_chance_is_what_answers_reach_that_do_not_look() -> None:
    facts = chance([0.0, 180.0, 180.0, 170.0])
    assert facts["drawn_evenly_deg"] == 90.0
    assert facts["always_front_deg"] == pytest.approx((180 + 180 + 170) / 4)
    assert facts["best_for_all_yaw_deg"] in {*range(170, 181)}
    assert facts["best_for_all_deg"] == pytest.approx((180 + 10) / 4)
    assert facts["right_words_deg"] == pytest.approx(10 / 4)
    assert facts["most_frequent_sector"] == 0.75


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"yaw_deg": "left"}, "entry 2: found yaw_deg 'left', expected degrees from -360 to 360"),
        ({"yaw_deg": True}, "entry 2: found yaw_deg True"),
        ({"yaw_deg": 1e999}, "entry 2: found yaw_deg inf"),
        ({"pitch_deg": -91}, "entry 2: found pitch_deg -91, expected degrees from -90 to 90"),
        ({"name": " "}, "entry 2: found another form"),
        ({"image": None}, "entry 2: found another form"),
    ],
)
def test_invalid_directions_are_named(change: dict[str, Any], error: str, tmp_path: Path) -> None:
    with pytest.raises(PanoVLMError, match=error):
        DIRECTION_ERRORS.read(written(tmp_path, DOOR, DOOR | change), tmp_path)


def test_directions_of_nothing_are_refused(tmp_path: Path) -> None:
    rows = ({key: DOOR[key] for key in ("image", other)} for other in ("yaw_deg", "name"))
    with pytest.raises(PanoVLMError, match="entry 1: found no question and no name"):
        DIRECTION_ERRORS.read(written(tmp_path, next(rows)), tmp_path)
    with pytest.raises(PanoVLMError, match=r"expected \['yaw_deg'\] too"):
        DIRECTION_ERRORS.read(written(tmp_path, next(rows)), tmp_path)


LAKE = {"image": "a.jpg", "label": "Lake"}


def test_options_are_given_or_drawn_from_the_other_labels_of_the_file(tmp_path: Path) -> None:
    names = ["street", "lake.", "lake", "kitchen", "hall", "roof"]
    others = [{"image": "b.jpg", "label": name} for name in names]
    given = LAKE | {"options": ["hall", "lake"]}
    file = written(tmp_path, LAKE, given, *others)
    items = labels.read(file, tmp_path)
    options = items[0].facts["options"]
    assert (len(options), options.count("Lake")) == (4, 1)
    assert not {"lake", "lake."} & {*options}  # the same label is no wrong option
    assert options[items[0].facts["right"]] == "Lake"
    assert labels.read(file, tmp_path) == items
    assert len({item.facts["right"] for item in items}) > 1
    assert (items[1].facts["options"], items[1].facts["right"]) == (["hall", "lake"], 1)
    assert items[1].question.endswith(
        "A. hall\nB. lake\nAnswer with the letter of the right option."
    )
    answers = ["lake", "B", "hall", "I see water"]
    scores = LABELS.score([items[1]] * 4, answers)
    assert [score.value for score in scores] == [1.0, 1.0, 0.0, None]
    assert LABELS.extras(items[:2], answers[:2], scores[:2])["chance"] == pytest.approx(3 / 8)


@pytest.mark.parametrize(
    "options",
    [[], ["lake"], ["hall", "roof"], ["lake", "Lake."], ["lake", 3], "lake", ["lake"] * 9],
)
def test_invalid_options_are_named(options: Any, tmp_path: Path) -> None:
    with pytest.raises(PanoVLMError, match=r"entry 1: found options .* 'Lake' among them"):
        labels.read(written(tmp_path, LAKE | {"options": options}), tmp_path)


def test_a_file_of_one_label_has_nothing_to_choose_from(tmp_path: Path) -> None:
    with pytest.raises(PanoVLMError, match="entry 1: found no other label in the file"):
        labels.read(written(tmp_path, LAKE, LAKE), tmp_path)
    with pytest.raises(PanoVLMError, match="entry 2: found another form"):
        labels.read(
            written(tmp_path, LAKE | {"options": ["lake", "b"]}, LAKE | {"label": ""}), tmp_path
        )


def test_right_answers_about_real_panoramas_are_right(real_texts: Path) -> None:
    folder = real_texts.parent
    found = DIRECTION_ERRORS.read(real_texts / "hotspot_directions.jsonl", folder)
    errors = DIRECTION_ERRORS.score(found, [item.references[0] for item in found])
    assert max(score.value or 0.0 for score in errors) < 1e-6
    found = labels.read(real_texts / "labels.jsonl", folder)
    chosen = LABELS.score(found, [item.references[0] for item in found])
    assert all(score.value == 1.0 for score in chosen)
