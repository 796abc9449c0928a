"""OSR-Bench, OmniCoT, PanoEnv and PanoVQA: each question is scored by the rule of its kind."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks import osr_bench, panoenv
from panovlm.evaluation.benchmarks.items import Item
from panovlm.evaluation.benchmarks.omnicot import OMNICOT
from panovlm.evaluation.benchmarks.osr_bench import OSR_BENCH
from panovlm.evaluation.benchmarks.panoenv import PANOENV, similarity
from panovlm.evaluation.benchmarks.panovqa import PANOVQA
from panovlm.evaluation.shown import can_be_asked
from panovlm.metrics.cognitive_maps import map_of_grid, parse_map, score_map
from panovlm.metrics.scores import Missing, Score

GRID = [[[] for _ in range(10)] for _ in range(10)]
GRID[2] = [["sofa"], [], [], ["tv", "chair"], [], [], [], [], [], ["chair"]]


def test_a_map_is_read_from_the_last_object_of_an_answer() -> None:
    said = 'I think {maybe}.\n```json\n{"tv": [[3, 2]], "sofa": [[0, 2], [10, 2]], "box": []}\n```'
    assert parse_map(said) == {"tv": [(3, 2)], "sofa": [(0, 2)], "box": []}
    for answer in ("", "no map", '{"tv": 3}', '{"tv": [[1]]}', '{"tv": [[1, "a"]]}', "}", "[1]"):
        assert parse_map(answer) is None


def test_maps_match_one_to_one_within_two_cells() -> None:
    right = map_of_grid(GRID)
    assert right == {"sofa": [(0, 2)], "tv": [(3, 2)], "chair": [(3, 2), (9, 2)]}
    same = score_map(right, right)
    assert (same.f1, same.mean_distance, same.chair_i) == (1.0, 0.0, 0.0)
    # One chair 1 cell off, one missing, an invented lamp: 3 of 4 named and 3 of 4 there are right.
    other = score_map({**right, "chair": [(3, 3)], "lamp": [(5, 5)]}, right)
    assert (other.precision, other.recall, other.f1) == (0.75, 0.75, 0.75)
    assert other.mean_distance == pytest.approx(1 / 3)
    assert (other.chair_i, other.chair_s) == (0.25, 1.0)


def test_a_rotated_map_is_as_good() -> None:
    right = map_of_grid(GRID)
    rotated = {name: [(9 - y, x) for x, y in cells] for name, cells in right.items()}
    assert score_map(rotated, right).f1 == 1.0
    mirrored = {name: [(9 - x, y) for x, y in cells] for name, cells in right.items()}
    assert score_map(mirrored, right).f1 < 1.0


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    turns = [
        ("cognitive_map", "Where is what?", GRID),
        ("object_counting", "How many chairs are there?", "2"),
        ("relative_distance", "Which is the closest to the tv?", "chair"),
        ("relative_direction", "Is the sofa to my front, ...?", "Front Left"),
        ("relative_direction", "Is the bed to my front, ...?", ""),
        ("relative_distance", "Which is the closest to the bed?", "The bed is not found."),
    ]
    conversation = [
        {"turn_id": i, "question": question, "answer": answer, "skills_tested": kind}
        for i, (kind, question, answer) in enumerate(turns)
    ]
    file = tmp_path / "room_qa.json"
    data = {"image_id": "data/room/rgb.png", "pre_prompt": "", "conversation": conversation}
    file.write_text(json.dumps(data))
    return file


def test_each_kind_of_question_about_a_room_has_its_rule(scene: Path) -> None:
    items = osr_bench.read(scene, Path("pictures"))
    assert items[0].image == Path("pictures/data/room/rgb.png")
    (scene.parent / "rgb.png").touch()
    assert osr_bench.read(scene.parent, Path("x"))[0].image == scene.parent / "rgb.png"
    answers = [
        '{"tv": [[3, 2]]}',
        "I count 3 chairs",
        "<think>hm</think><answer>Chair</answer>",
        "front-left",
        "left",
        "the bed is not found.",
    ]
    scores = OSR_BENCH.score(items, answers)
    assert scores[0].value == pytest.approx(2 * 1 * 0.25 / 1.25)
    assert scores[1].value == pytest.approx(2 / 3)
    assert [score.value for score in scores[2:4]] == [1.0, 1.0]
    assert scores[4].missing is Missing.NO_REFERENCE
    assert scores[5].value == 1.0
    extras = OSR_BENCH.extras(items, answers, scores)
    assert (extras["maps_read"], extras["map"]["precision"]) == (1, 1.0)
    unread = OSR_BENCH.score(items[:4], ["a tv", "many", " ", "over there"])
    assert {score.missing for score in unread} == {Missing.UNREADABLE}
    lowest = OSR_BENCH.extras(items[:1], ["a tv"], unread[:1])["map"]  # as published
    assert (lowest["f1"], lowest["recall"], lowest["mean_distance"]) == (0.0, 0.0, 15.0)


def test_questions_from_an_objects_place_stay_correct_when_the_camera_turns(scene: Path) -> None:
    drawn, *asked = osr_bench.read(scene, Path("x"))
    assert not can_be_asked(OSR_BENCH, drawn, "yaw_rotated", 8)
    assert all(osr_bench.rotated(item, 45.0) == item for item in asked)


def test_absent_objects_can_be_answered_with_the_published_words(scene: Path) -> None:
    items = osr_bench.read(scene, Path("x"))[2:4]
    assert all(osr_bench.NOT_FOUND in item.question for item in items)
    absent = [replace(item, references=(osr_bench.NOT_FOUND,)) for item in items]
    said = osr_bench.NOT_FOUND.upper().rstrip(".")
    assert [score.value for score in OSR_BENCH.score(absent, [said] * 2)] == [1.0, 1.0]
    assert [score.value for score in OSR_BENCH.score(items, [said] * 2)] == [0.0, 0.0]


def test_unknown_questions_are_refused(scene: Path) -> None:
    scene.write_text(scene.read_text().replace("object_counting", "guessing"))
    with pytest.raises(PanoVLMError, match="kind 'guessing'"):
        osr_bench.read(scene, Path("x"))


def test_turns_of_several_scenes_are_read_from_lines(scene: Path) -> None:
    turns = json.loads(scene.read_text())["conversation"]
    rows = [
        {
            "image": f"room{number}.jpg",
            "question": turn["question"],
            "answer": turn["answer"] if number else json.dumps(turn["answer"]),
            "answer_type": turn["skills_tested"],
            "turn": turn["turn_id"],
        }
        for number, turn in enumerate(turns[:2])
    ]
    file = scene.with_name("rows.jsonl")
    file.write_text("\n".join(map(json.dumps, rows)))
    drawn, counted = osr_bench.read(file, Path("pictures"))
    as_published = osr_bench.read(scene, Path("pictures"))
    assert (drawn.image, drawn.name) == (Path("pictures/room0.jpg"), "room0/0")
    assert (counted.image, counted.name) == (Path("pictures/room1.jpg"), "room1/1")
    for item, known in zip((drawn, counted), as_published, strict=False):
        assert (item.question, item.facts) == (known.question, known.facts)
    file.write_text(json.dumps(rows[0] | {"answer": "[["}))
    with pytest.raises(PanoVLMError, match="entry 1: found another form"):
        osr_bench.read(file, Path("pictures"))


def test_right_answers_of_real_rooms_are_right(real_texts: Path) -> None:
    items = osr_bench.read(real_texts / "osr_bench_qa.jsonl", real_texts.parent)
    assert items[0].image.is_file()
    answers = [
        item.references[0] if item.references else json.dumps(item.facts.get("map", ""))
        for item in items
    ]
    scores = OSR_BENCH.score(items, answers)
    assert {score.value for score in scores} == {1.0, None}
    assert sum(score.missing is Missing.NO_REFERENCE for score in scores) == 2


PANOENV_CASES = [
    ("yes_no", "No", "no", 1.0),
    ("yes_no", "No", "No, it is not", 0.0),
    ("mcq", "The grass", "grass", 1.0),
    ("mcq", "The grass", "The grass is closer to the viewer", 1.0),
    ("mcq", "Back", "Front", 0.0),
    ("distance", "About 100.0 meters", "91 m", 1.0),
    ("distance", "About 100.0 meters", "0.119 km", 0.5),
    ("distance", "About 100.0 meters", "121 metres", 0.0),
    ("distance", "About 100.0 meters", "far", 0.0),
    ("spatial", "It is behind and to the left of and above it.", "behind, to the right, up", 2 / 3),
    ("spatial", "It is in front of it.", "It is in front of the one behind", 1.0),
    ("counting", "4 different views", "four", 1.0),
    ("counting", "1 different view", "2", 0.0),
    ("default", "The trashbag is below the pipe.", "trashbag is below the pipes", 1.0),
    ("default", "The trashbag is below the pipe.", "a dog", 0.0),
]


@pytest.mark.parametrize(("method", "right", "said", "value"), PANOENV_CASES)
def test_each_method_of_panoenv_scores_as_published(
    method: str, right: str, said: str, value: float
) -> None:
    item = Item("1", Path("p"), "?", (right,), method)
    tagged = f"<Reasoning>so</Reasoning><answer> {said} </answer>"
    assert panoenv.score_one(item, tagged).value == pytest.approx(value)
    assert panoenv.score_one(item, said).missing is Missing.UNREADABLE


def test_panoenv_is_read_and_only_whole_scores_count_as_right(tmp_path: Path) -> None:
    row = {
        "conversations": [
            {"from": "human", "value": "<image>\nHow far is the pipe?"},
            {"from": "gpt", "value": "<Reasoning>.</Reasoning><Answer>About 10 meters</Answer>"},
        ],
        "image": "Mine/P000_000000/rgb_erp.png",
        "question_type": "open_ended",
        "accu_reward_method": "distance",
        "expected_answer": "About 10 meters",
    }
    file = tmp_path / "val.jsonl"
    file.write_text(f"{json.dumps(row)}\n" * 3)
    items = PANOENV.read(file, Path("data"))
    assert items[0].image == Path("data/Mine/P000_000000/rgb_erp.png")
    assert items[0].question.startswith("How far is the pipe?\n")
    answers = ["<Answer>10 m</Answer>", "<Answer>11.5 m</Answer>", "10 m"]
    scores = PANOENV.score(items, answers)
    assert [score.value for score in scores] == [1.0, 0.5, None]
    accuracy = PANOENV.extras(items, answers, scores)["accuracy"]
    assert (accuracy["mean"], accuracy["mean_readable"]) == (pytest.approx(1 / 3), 0.5)
    file.write_text(json.dumps(row | {"accu_reward_method": "guess"}))
    with pytest.raises(PanoVLMError, match="scored by 'guess'"):
        PANOENV.read(file, Path("data"))


def test_similarity_is_the_share_of_letters_in_the_same_order() -> None:
    assert similarity("kitten", "sitting") == pytest.approx(8 / 13)
    assert similarity("", "") == 1.0


def test_omnicot_compares_words_and_names_the_published_groups(tmp_path: Path) -> None:
    rows = [
        ("viewpoint_transform_angle", "90 degrees", "so\n90°"),
        ("multi_hop_direction", "Northeast", "<answer>north</answer>"),
        ("move_translation", "bottom_cabinet", "<think>.</think><answer>the cabinet</answer>"),
        ("move_turn_combined", "No", "<answer>Failed to Answer</answer>"),
    ]
    listed = [{"type": t, "answer": a, "question": "?", "image": "image/a.png"} for t, a, _ in rows]
    file = tmp_path / "OmniCoT_sample.json"
    file.write_text(json.dumps(listed))
    items = OMNICOT.read(file, tmp_path)
    assert items[0].image == tmp_path / "image" / "a.png"
    answers = [answer for _, _, answer in rows]
    scores = OMNICOT.score(items, answers)
    assert [score.value for score in scores] == [1.0, 0.0, 0.0, None]
    extras = OMNICOT.extras(items, answers, scores)
    assert extras["contains_accuracy"]["mean"] == pytest.approx(2 / 4)
    groups = extras["contains_accuracy_by_group"]
    assert {name: group["mean"] for name, group in groups.items()} == {
        "See": 1.0,
        "Locate": 0.0,
        "Move": 0.5,  # a refusal is wrong, as published
    }


def test_panovqa_has_no_score_without_a_judge_and_averages_categories(tmp_path: Path) -> None:
    turns = [{"value": "<image>\nWhat is there?"}, {"value": "A car."}]
    rows = [
        {"id": f"{kind}_val_{i}", "image": "a.jpg", "conversations": turns}
        for i, kind in enumerate(["N1", "N1", "D2"])
    ]
    file = tmp_path / "mini.json"
    file.write_text(json.dumps(rows))
    items = PANOVQA.read(file, tmp_path)
    assert (items[0].question, items[0].references, items[2].kind) == (
        "What is there?",
        ("A car.",),
        "D2",
    )
    assert {score.missing for score in PANOVQA.score(items, ["a"] * 3)} == {Missing.NOT_JUDGED}
    graded = [Score(1.0), Score(0.5), Score(0.0)]
    extras = PANOVQA.extras(items, ["a"] * 3, graded)
    assert extras["mean_of_categories"]["mean"] == pytest.approx(0.375)
