"""H*Bench and Refer360: targets across the seam, and answers that name no direction."""

import json
from pathlib import Path

import pytest
from PIL import Image

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks import hstar_bench
from panovlm.evaluation.benchmarks.hstar_bench import (
    HSTAR_BENCH,
    HSTAR_BENCH_LITE,
    is_hit,
)
from panovlm.evaluation.benchmarks.refer360 import REFER_360
from panovlm.metrics.directions import parse_submission
from panovlm.metrics.scores import Missing, summarise
from panovlm.pictures.panorama import load_panorama


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    annotation = [
        {
            "task": "Find the clock.",
            "yaw": [350, 20],
            "pitch": [10, 20],
            "initial yaw": [0, 90, 180, 270],
            "level": [1, 2, 3, 2],
        },
        {"task": "Walk to the exit.", "yaw": [170, 180], "level": [1, 1, 1, 1]},
    ]
    (tmp_path / "0001").mkdir()
    (tmp_path / "0001" / "annotation.json").write_text(json.dumps(annotation))
    (tmp_path / "0001" / "pano.jpg").touch()
    return tmp_path


def test_tasks_are_read_beside_their_picture(tasks: Path) -> None:
    clock, walk = hstar_bench.read(tasks, Path("unused"))
    assert clock.image == tasks / "0001" / "pano.jpg"
    assert clock.question.startswith("Find the clock.\n")
    assert (clock.kind, clock.yaw_deg, clock.pitch_deg) == ("object search", 5.0, 15.0)
    assert (walk.kind, walk.yaw_deg, walk.pitch_deg) == ("path search", 175.0, None)


@pytest.mark.parametrize(
    ("yaw_deg", "pitch_deg", "hit"),
    [
        (5, 15, True),
        (-25, 35, True),  # 30° and 20° from the middle, as the least size allows
        (335, -5, True),
        (-26, 15, False),
        (36, 15, False),
        (5, 36, False),
        (185, 15, False),
    ],
)
def test_a_small_target_across_the_seam_is_widened_to_its_least_size(
    yaw_deg: float, pitch_deg: float, hit: bool
) -> None:
    assert is_hit(yaw_deg, pitch_deg, (350.0, 20.0), (10.0, 20.0)) is hit


def test_a_large_target_keeps_its_size_and_a_way_has_no_pitch() -> None:
    assert is_hit(-60, 0, (300.0, 30.0), (-50.0, 50.0))
    assert not is_hit(-61, 0, (300.0, 30.0), (-50.0, 50.0))
    assert is_hit(0, -50, (300.0, 30.0), (-50.0, 50.0))
    assert is_hit(-175, 80, (170.0, 180.0), None)
    assert not is_hit(-174, 0, (170.0, 180.0), None)


def test_submissions_are_read_and_nothing_else(tasks: Path) -> None:
    assert parse_submission("<answer>submit(-30,5)</answer>") == (-30.0, 5.0)
    assert parse_submission("submit(1,2), no: submit( 3.5 , -4 )") == (3.5, -4.0)
    for answer in ("", "to the left", "rotate(30,0)", "submit(left,0)", "submit(0,95)"):
        assert parse_submission(answer) is None
    items = hstar_bench.read(tasks / "0001" / "annotation.json", Path("unused"))
    answers = ["submit(355, 10)", "somewhere"]
    scores = HSTAR_BENCH.score(items, answers)
    assert (scores[0].value, scores[1].missing) == (1.0, Missing.UNREADABLE)
    error = HSTAR_BENCH.extras(items, answers, scores)["mean_yaw_error_deg"]
    assert (error["mean"], error["mean_readable"]) == (pytest.approx(95.0), pytest.approx(10.0))


def test_invalid_tasks_are_named(tmp_path: Path) -> None:
    with pytest.raises(PanoVLMError, match=r"found no annotation\.json"):
        hstar_bench.read(tmp_path, tmp_path)
    (tmp_path / "annotation.json").write_text(json.dumps([{"task": "Find.", "yaw": [1]}]))
    with pytest.raises(PanoVLMError, match="found no picture"):
        hstar_bench.read(tmp_path, tmp_path)
    (tmp_path / "a.png").touch()
    with pytest.raises(PanoVLMError, match="expected two angles"):
        hstar_bench.read(tmp_path, tmp_path)


def test_points_are_scored_by_their_angle_across_the_seam(tmp_path: Path) -> None:
    row = {
        "refexp": [["find", "the", "guy."], ["waldo", "is", "above", "him."]],
        "annotationid": 2100,
        "xlng_deg": 179.0,
        "ylat_deg": 0.0,
        "img_src": "../data/refer360images/indoor/restaurant/pano_a.jpg",
        "img_cat": "restaurant",
    }
    file = tmp_path / "validation.seen.json"
    file.write_text(json.dumps([row] * 3))
    items = REFER_360.read(file, tmp_path)
    assert items[0].image == tmp_path / "refer360images/indoor/restaurant/pano_a.jpg"
    assert items[0].question.startswith("Find the guy. Waldo is above him.\n")
    assert (items[0].yaw_deg, items[0].kind) == (179.0, "restaurant")
    scores = REFER_360.score(items, ["submit(-179,0)", "submit(-1,0)", "him"])
    assert [score.value for score in scores] == [pytest.approx(2.0), pytest.approx(180.0), None]
    extras = REFER_360.extras(items, [], scores)
    assert extras["within_5_deg"] == pytest.approx(1 / 3)
    assert extras["median_error_deg"] == pytest.approx(180.0)
    assert REFER_360.unit.worst == 180.0
    assert summarise(scores, worst=REFER_360.unit.worst).mean == pytest.approx((2 + 180 + 180) / 3)


def test_a_target_turns_with_the_picture(tasks: Path) -> None:
    clock, walk = hstar_bench.read(tasks, Path("unused"))
    rotated = hstar_bench.rotated(clock, 90.0)  # the clock, ahead before, is now to the left
    assert (rotated.yaw_deg, rotated.pitch_deg) == (-85.0, 15.0)
    assert HSTAR_BENCH.score([rotated, clock], ["submit(-85,15)"] * 2)[0].value == 1.0
    assert HSTAR_BENCH.score([rotated, clock], ["submit(-85,15)"] * 2)[1].value == 0.0
    behind = hstar_bench.rotated(walk, 270.0)
    assert behind.yaw_deg == -95.0
    assert HSTAR_BENCH.score([behind], ["submit(-95,80)"])[0].value == 1.0
    once, twice = hstar_bench.rotated(rotated, 45.0), hstar_bench.rotated(clock, 135.0)
    assert once == twice


def test_strips_are_declared_as_such(tmp_path: Path) -> None:
    row = {
        "doc_id": "hos_230",
        "task": "Find the TV",
        "target_yaw": [53.25, 113.25],
        "target_pitch": [-21.6, 19.9],
        "is_nav": False,
        "panorama_strip": "hos_230.png",
    }
    walk = row | {"doc_id": "hps_1", "is_nav": True, "target_pitch": [-90, 90]}
    file = tmp_path / "lite.jsonl"
    file.write_text("\n".join(map(json.dumps, [row, walk])))
    search, way = HSTAR_BENCH_LITE.read(file, tmp_path)
    assert (search.name, search.kind, search.yaw_deg) == ("hos_230", "object search", 83.25)
    assert (way.kind, way.pitch_deg) == ("path search", None)
    assert search.declared is not None and search.declared.hfov_deg == 360.0
    Image.new("RGB", (384, 117)).save(search.image)
    assert load_panorama(search.picture).shape == (192, 384, 3)
    scores = HSTAR_BENCH_LITE.score([search, way], ["submit(83,0)", "submit(83,-80)"])
    assert [score.value for score in scores] == [1.0, 1.0]
    with pytest.raises(PanoVLMError, match=r"expected \['is_nav'\] too"):
        file.write_text(json.dumps({key: row[key] for key in row if key != "is_nav"}))
        HSTAR_BENCH_LITE.read(file, tmp_path)


def test_a_place_that_is_no_direction_is_named(tmp_path: Path) -> None:
    row = {"refexp": [["a"]], "annotationid": 1, "xlng_deg": 0, "img_src": "a", "img_cat": "b"}
    for pitch in (95, float("nan")):
        (tmp_path / "a.json").write_text(json.dumps([row | {"ylat_deg": pitch}]))
        with pytest.raises(PanoVLMError, match=r"entry 1: found another form.*a direction"):
            REFER_360.read(tmp_path / "a.json", tmp_path)
