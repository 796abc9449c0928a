"""Claims about the files that `panovlm questions` writes."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from panovlm.commands import app as cli
from panovlm.data.questions.evidence import Doubt
from panovlm.data.questions.run import QuestionSettings, Summary, write_questions
from panovlm.data.record_files import read_records
from panovlm.data.records import Needs
from panovlm.errors import PanoVLMError

LABELS = ["car", "dog", "bench", "person"]
NAMES = ("train", "test", "train_listings", "test_listings")


def line(number: int, group: str | None, **changes: Any) -> dict[str, Any]:
    """An annotation of two things that differ from picture to picture."""
    size = {"pitch_deg": 0.0, "width_deg": 10.0, "height_deg": 10.0, "score": 0.9}
    things = [
        {"label": LABELS[number % 3], "yaw_deg": 0.0, **size},
        {"label": "person", "yaw_deg": 178.0, **size},
    ]
    return {
        "image": f"pictures/{number}.png",
        "digest": f"{number:064x}",
        "teacher": {"name": "oracle", "labels": LABELS},
        "group": group,
        "sightings": things,
    } | changes


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Twelve annotated pictures of four places."""
    return write(tmp_path / "in", [line(number, f"place {number // 3}") for number in range(12)])


def write(folder: Path, lines: list[dict[str, Any]], name: str = "annotations.jsonl") -> Path:
    for each in lines:
        picture = folder / each["image"]
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 4)).save(picture)
    file = folder / name
    file.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return file


def run(file: Path, out: Path, *others: Path, **settings: Any) -> Summary:
    return write_questions([file, *others], out, QuestionSettings(**settings))


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(each) for each in file.read_text().splitlines()]


def test_records_can_be_trained_on_and_name_their_pictures(annotations: Path, tmp_path: Path):
    summary = run(annotations, tmp_path / "out" / "real")
    for name in NAMES:
        records = read_records(tmp_path / "out" / "real" / f"{name}.jsonl", Needs(True, True))
        assert all(record.picture.is_file() for record in records)
        assert {len(record.rolled_responses or ()) for record in records} == {24}
    assert sum(summary.pictures.values()) == 12
    listings = lines_of(tmp_path / "out" / "real" / "train_listings.jsonl")
    assert len(listings) == summary.pictures["train"]
    train = lines_of(tmp_path / "out" / "real" / "train.jsonl")
    assert [each for each in train if each["kind"] == "listing"] == listings


def test_records_declare_what_their_annotations_declare(tmp_path: Path) -> None:
    declared = {"projection": "cylindrical", "hfov_deg": 180.0}
    lines = [line(0, "a", declared=declared), line(1, "b")]
    run(write(tmp_path / "in", lines), tmp_path / "out", test_share=0.0)
    records = lines_of(tmp_path / "out" / "train.jsonl")
    said = {each["image"][-5]: each.get("declared") for each in records}
    assert said == {"0": declared, "1": None}


def test_no_place_is_in_both_splits(annotations: Path, tmp_path: Path) -> None:
    summary = run(annotations, tmp_path / "out", test_share=0.3)
    train, test = (
        {r["source"] for r in lines_of(tmp_path / "out" / f"{s}.jsonl")} for s in NAMES[:2]
    )
    assert len(train) == summary.places["train"] == 3
    assert len(test) == summary.places["test"] == 1
    assert not train & test


def test_places_to_test_on_may_be_named(annotations: Path, tmp_path: Path) -> None:
    run(annotations, tmp_path / "out", test_places=("place 3", "place 1"))
    sources = {
        name: {each["source"] for each in lines_of(tmp_path / "out" / f"{name}.jsonl")}
        for name in NAMES
    }
    assert sources["test"] == sources["test_listings"] == {"place 1", "place 3"}
    assert sources["train"] == sources["train_listings"] == {"place 0", "place 2"}


def test_only_named_labels_are_asked_about(annotations: Path, tmp_path: Path) -> None:
    summary = run(annotations, tmp_path / "out", doubt=Doubt(labels=("person", "bench")))
    texts = "".join((tmp_path / "out" / f"{name}.jsonl").read_text() for name in NAMES)
    assert "person" in texts and "bench" in texts
    assert "car" not in texts and "dog" not in texts
    assert summary.left_out["things in doubt: their label is none of --labels"] == 8


def test_labels_that_no_teacher_knows_are_refused(annotations: Path, tmp_path: Path) -> None:
    expected = "found cra in --labels, expected some of bench, car, dog, person"
    with pytest.raises(PanoVLMError, match=expected):
        run(annotations, tmp_path / "out", doubt=Doubt(labels=("cra", "dog")))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("place 1", "hall"), "no place hall in --test-place, expected some of place 0, place 1"),
        (tuple(f"place {number}" for number in range(4)), "every place in --test-place"),
    ],
)
def test_places_that_cannot_be_tested_on_are_refused(
    annotations: Path, tmp_path: Path, names: tuple[str, ...], found: str
) -> None:
    with pytest.raises(PanoVLMError, match=found):
        run(annotations, tmp_path / "out", test_places=names)
    assert not (tmp_path / "out").exists()


def test_folders_are_places_where_no_group_is_named(tmp_path: Path) -> None:
    lines = [line(i, None, image=f"{'ab'[i % 2]}/{i}.png") for i in range(4)]
    run(write(tmp_path / "in", lines), tmp_path / "out", test_share=0.5)
    places = [
        {Path(r["image"]).parent.name for r in lines_of(tmp_path / "out" / f"{s}.jsonl")}
        for s in NAMES[:2]
    ]
    assert sorted(map(sorted, places)) == [["a"], ["b"]]


def test_yaw_pitch_and_seam_are_those_of_what_is_asked_about(annotations, tmp_path) -> None:
    run(annotations, tmp_path / "out")
    for record in lines_of(tmp_path / "out" / "train.jsonl"):
        if record["kind"] == "direction":
            is_person = "person" in record["messages"][0]["content"]
            assert record["yaw_deg"] == (178.0 if is_person else 0.0)
            assert record["crosses_seam"] is is_person
        elif record["kind"] == "listing":
            assert record["crosses_seam"] and record["yaw_deg"] is None


def test_yes_is_as_often_right_as_no(annotations: Path, tmp_path: Path) -> None:
    run(annotations, tmp_path / "out", rounds=4)
    answers = Counter(
        r["messages"][1]["content"]
        for r in lines_of(tmp_path / "out" / "train.jsonl")
        if r["kind"] == "existence"
    )
    assert answers["yes"] == answers["no"] > 0


def test_the_same_settings_write_the_same_bytes_in_any_order(annotations, tmp_path) -> None:
    run(annotations, tmp_path / "first")
    shuffled = annotations.parent / "other.jsonl"
    shuffled.write_text("\n".join(reversed(annotations.read_text().splitlines())) + "\n")
    run(shuffled, tmp_path / "second")
    for name in NAMES:
        first, second = (tmp_path / each / f"{name}.jsonl" for each in ("first", "second"))
        assert sorted(first.read_text().splitlines()) == sorted(second.read_text().splitlines())
    run(annotations, tmp_path / "third", seed=1)
    assert (tmp_path / "third" / "train.jsonl").read_bytes() != (
        tmp_path / "first" / "train.jsonl"
    ).read_bytes()


def test_what_is_left_out_is_counted_with_its_reason(annotations: Path, tmp_path: Path) -> None:
    lines = lines_of(annotations)
    lines[0]["findings"] = ["view 3: no answer"]
    lines[1]["digest"] = lines[2]["digest"]
    lines[3]["sightings"] = []
    lines[4]["sightings"][0]["score"] = 0.2
    summary = run(write(annotations.parent, lines), tmp_path / "out")
    assert sum(summary.pictures.values()) == 9
    assert {reason: count for reason, count in summary.left_out.items() if count == 1} == {
        "annotations with views that could not be annotated": 1,
        "pictures that are copies of another": 1,
        "pictures with nothing sure in them": 1,
        "things in doubt: score below 0.5": 1,
    }


def test_several_teachers_of_one_picture_are_joined(annotations: Path, tmp_path: Path) -> None:
    lines = lines_of(annotations)
    for each in lines:
        each["teacher"]["name"], each["sightings"] = "blind", []
    other = write(annotations.parent, lines, "other.jsonl")
    with pytest.raises(PanoVLMError, match="found nothing sure in any of 12 pictures"):
        run(annotations, tmp_path / "out", other)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test_share": 1.0}, "found test_share 1.0, expected 0 or more, less than 1"),
        ({"doubt": Doubt(1.5)}, "found min_score 1.5, expected 0 to 1; change min_score"),
        ({"doubt": Doubt(0.5, doubt_score=0.6)}, "found doubt_score 0.6, expected 0 to min_score"),
        ({"doubt": Doubt(0.5, 0)}, "found min_views 0, expected 1 or more"),
        ({"split_by": "folder"}, "found split_by folder, expected group or picture"),
        ({"rounds": 0}, "found rounds 0, expected 1 or more"),
        ({"seed": -1}, "found seed -1, expected 0 or more"),
        ({"yaw_steps": 12}, "found yaw_steps 12, expected a multiple of 8"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PanoVLMError, match=message):
        QuestionSettings(**settings)


def test_a_missing_picture_is_named(annotations: Path, tmp_path: Path) -> None:
    (annotations.parent / "pictures" / "5.png").unlink()
    with pytest.raises(PanoVLMError, match=r"5\.png: no such picture; restore the file"):
        run(annotations, tmp_path / "out")


def test_a_line_that_is_no_annotation_is_named(annotations: Path, tmp_path: Path) -> None:
    annotations.write_text('{"image": "p.jpg"}\n')
    with pytest.raises(PanoVLMError, match="line 1: found digest: Field required"):
        run(annotations, tmp_path / "out")


def test_a_file_of_failed_annotations_is_refused(annotations: Path, tmp_path: Path) -> None:
    lines = [each | {"findings": ["view 1: no answer"]} for each in lines_of(annotations)]
    with pytest.raises(PanoVLMError, match="found no annotation without findings in"):
        run(write(annotations.parent, lines), tmp_path / "out")


def test_a_folder_that_holds_something_is_left_alone(annotations: Path, tmp_path: Path) -> None:
    with pytest.raises(PanoVLMError, match="expected a new folder"):
        run(annotations, annotations.parent)


def test_the_command_says_what_it_wrote_and_what_not(
    annotations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    lines = lines_of(annotations)
    lines[4]["sightings"][0]["score"] = 0.2
    write(annotations.parent, lines)
    words = ["panovlm", "questions", str(annotations), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", [*words, "--split-by", "picture", "--test-share", "0.25"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    said = capsys.readouterr()
    assert "train: 9 pictures of 9 places\ntest: 3 pictures of 3 places\n" in said.out
    assert "12 listing" in said.out
    assert "left out: 1 things in doubt: score below 0.5\n" in said.err
    monkeypatch.setattr("sys.argv", [*words[:-1], str(tmp_path / "all"), "--test-share", "0"])
    with pytest.raises(SystemExit):
        cli.main()
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == [
        "train.jsonl",
        "train_listings.jsonl",
    ]
