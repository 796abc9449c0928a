"""ODI-Bench and VQA 360: options, free answers and short answers, read and scored."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.odi_bench import ODI_BENCH, ODI_BENCH_OPEN
from panovlm.evaluation.benchmarks.vqa_360 import VQA_360
from panovlm.metrics.scores import NO_REFERENCE, NOT_JUDGED, UNREADABLE, Score

RIGHT, WRONG = Score(1.0), Score(0.0)
ODI: dict[str, list[dict[str, Any]]] = {
    "view_orientation": [
        {
            "image": "indoor_1.jpg",
            "question": "Where is the window in relation to me?",
            "options": ["A. Behind", "B. Right", "C. Left", "D. Front"],
            "correct": "C",
        },
        {
            "imagename": "outdoor_2",
            "question": "Where is the car?",
            "options": {"A": "behind", "B": "left"},
            "correct": "Left",
        },
        {"image": "indoor_1.jpg", "question": "?", "options": ["up", "down"], "correct": "E"},
    ],
    "existence": [{"image": "indoor_1.jpg", "question": "Is there a dog?", "answer": "No."}],
    "counting": [{"image": "indoor_1.jpg", "question": "How many lamps?", "answer": "3"}],
}


@pytest.fixture
def odi(tmp_path: Path) -> Path:
    (tmp_path / "QAs").mkdir()
    (tmp_path / "images_final").mkdir()
    (tmp_path / "images_final" / "outdoor_2.png").touch()
    for task, rows in ODI.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "QAs" / f"{task}.jsonl").write_text(lines)
    return tmp_path


def test_odi_bench_is_read_task_by_task_with_its_options(odi: Path) -> None:
    items = {item.name: item for item in ODI_BENCH.read(odi, odi)}
    assert [*items] == [
        "existence/1",
        "counting/1",
        "view_orientation/1",
        "view_orientation/2",
        "view_orientation/3",
    ]
    window = items["view_orientation/1"]
    assert window.image == odi / "images_final" / "indoor_1.jpg"
    assert window.question.splitlines()[:3] == [
        "Where is the window in relation to me?",
        "A. Behind",
        "B. Right",
    ]
    assert (window.references, window.kind) == (("C",), "view_orientation")
    car = items["view_orientation/2"]
    assert car.image == odi / "images_final" / "outdoor_2.png"
    assert car.references == ("B",)
    assert items["existence/1"].question.splitlines()[1:3] == ["A. Yes", "B. No"]


def test_odi_bench_scores_the_option_named_and_nothing_that_names_none(odi: Path) -> None:
    items = ODI_BENCH.read(odi, odi)
    answers = ["no", "3", "C. Left", "in front of you", "A"]
    scores = ODI_BENCH.score(items, answers)
    assert scores == [RIGHT, NO_REFERENCE, RIGHT, UNREADABLE, NO_REFERENCE]
    assert ODI_BENCH.score(items[:1], ["A"]) == [WRONG]
    assert ODI_BENCH.score(items[:1], [""]) == [UNREADABLE]
    levels = ODI_BENCH.extras(items, answers, scores)["by_level"]
    assert (levels["general"]["count"], levels["general"]["scored"]) == (2, 1)
    assert (levels["spatial"]["mean"], levels["spatial"]["mean_unreadable_wrong"]) == (1.0, 0.5)


def test_odi_bench_asked_freely_has_the_text_of_the_right_option(odi: Path) -> None:
    items = ODI_BENCH_OPEN.read(odi / "QAs" / "view_orientation.jsonl", odi / "images_final")
    assert [item.references for item in items] == [("Left",), ("left",), ()]
    assert "Behind" not in items[0].question
    assert ODI_BENCH_OPEN.score(items[:1], ["left"]) == [NOT_JUDGED]
    (count,) = ODI_BENCH_OPEN.read(odi / "QAs" / "counting.jsonl", odi)
    assert count.references == ("3",)


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"image": "a.jpg"}, r"expected \['question'\] too"),
        ({"question": "?"}, "entry 1: found another form.*imagename"),
        ({"image": "a.jpg", "question": "?", "options": "left, right"}, "expected a list of up to"),
        ({"image": "a.jpg", "question": "?", "options": ["a"] * 9}, "expected a list of up to 8"),
    ],
)
def test_a_broken_entry_of_odi_bench_is_named(row: Any, error: str, tmp_path: Path) -> None:
    (tmp_path / "ocr.jsonl").write_text(json.dumps(row))
    with pytest.raises(PanoVLMError, match=error):
        ODI_BENCH.read(tmp_path / "ocr.jsonl", tmp_path)
    with pytest.raises(PanoVLMError, match="found no file named as a task"):
        ODI_BENCH.read(tmp_path / "QAs", tmp_path)


VQA = [
    ("scene", "What room is depicted in the image?", "living room"),
    ("exist", "Is there a plant in the bedroom?", "yes"),
    ("counting", "How many chairs are there?", "more than 4"),
    ("counting", "How many beds are there?", "2"),
    ("property", "What is the color of the vase at the right of pictures?", "black"),
    ("spatial", "Which side of the tv is the pictures?", "right side"),
]


def vqa_rows() -> list[dict[str, str]]:
    return [{"image": "a/p.png", "question": q, "answer": a, "type": t} for t, q, a in VQA]


def test_vqa_360_is_read_alike_from_objects_and_tables(tmp_path: Path) -> None:
    (tmp_path / "test.json").write_text(json.dumps(vqa_rows()))
    with (tmp_path / "test.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(vqa_rows()[0]))
        writer.writeheader()
        writer.writerows(vqa_rows())
    items = VQA_360.read(tmp_path / "test.json", Path("pictures"))
    assert items == VQA_360.read(tmp_path / "test.csv", Path("pictures"))
    assert items[0].image == Path("pictures/a/p.png")
    assert items[3].question == f'{VQA[3][1]}\nAnswer with a number, or "more than 4".'
    assert [item.kind for item in items] == [kind for kind, _, _ in VQA]


@pytest.mark.parametrize(
    ("place", "answer", "score"),
    [
        (0, "The living room.", RIGHT),
        (0, "a bedroom", WRONG),
        (1, "Yes", RIGHT),
        (2, "more than 4", RIGHT),
        (2, "five", RIGHT),
        (2, "4", WRONG),
        (2, "5 chairs", WRONG),
        (3, "two", RIGHT),
        (3, "more than 4", WRONG),
        (5, "right", WRONG),
        (4, " . ", UNREADABLE),
        (4, "", UNREADABLE),
    ],
)
def test_vqa_360_scores_equal_answers(
    place: int, answer: str, score: Score, tmp_path: Path
) -> None:
    (tmp_path / "test.json").write_text(json.dumps(vqa_rows()))
    item = VQA_360.read(tmp_path / "test.json", tmp_path)[place]
    assert VQA_360.score([item], [answer]) == [score]


def test_vqa_360_weighs_every_type_alike(tmp_path: Path) -> None:
    (tmp_path / "test.json").write_text(json.dumps(vqa_rows()))
    items = VQA_360.read(tmp_path / "test.json", tmp_path)
    answers = ["living room", "no", "9", "", "red", "right side"]
    scores = VQA_360.score(items, answers)
    # scene 1, exist 0, counting 1 of 2 (the empty one is wrong), property 0, spatial 1
    assert VQA_360.extras(items, answers, scores)["mean_of_types"]["mean"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"type": "smell"}, "found the type 'smell', expected one of"),
        ({"answer": ["yes"]}, r"found the answer \['yes'\], expected a text"),
        ({"answer": True}, "found the answer True, expected a text"),
    ],
)
def test_a_broken_entry_of_vqa_360_is_named(
    change: dict[str, Any], error: str, tmp_path: Path
) -> None:
    (tmp_path / "test.json").write_text(json.dumps([vqa_rows()[0] | change]))
    with pytest.raises(PanoVLMError, match=error):
        VQA_360.read(tmp_path / "test.json", tmp_path)


def test_vqa_360_without_a_right_answer_has_no_score(tmp_path: Path) -> None:
    (tmp_path / "test.json").write_text(json.dumps([vqa_rows()[0] | {"answer": " "}]))
    items = VQA_360.read(tmp_path / "test.json", tmp_path)
    assert VQA_360.score(items, ["living room"]) == [NO_REFERENCE]
