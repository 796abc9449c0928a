"""Conversion between formats: round trips, lost fields, refusals, files complete or absent."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from panovlm.data.formats import run
from panovlm.data.formats.reading import detect_format
from panovlm.data.formats.run import WRITERS, convert_data
from panovlm.data.record_files import read_records
from panovlm.data.records import Needs, Record, marked
from panovlm.errors import PanoVLMError

QUESTION = {"role": "user", "content": 'Where, "exactly",\nis it?\r\t\u2028<b>é</b>'}
ANSWER = {"role": "assistant", "content": "left"}
RICH = {
    "image": "pictures/a.jpg",
    "messages": [QUESTION, ANSWER],
    "kind": "direction",
    "yaw_deg": -92.5,
    "crosses_seam": False,
    "rolled_responses": ["left", "back-left"],
    "licence": "CC0",
    "source": "own",
}
PLAIN = {"image": "b.jpg", "messages": [{**QUESTION, "content": "What?"}, ANSWER]}
LONG = {
    "image": "c.jpg",
    "messages": [{"role": "system", "content": "Be brief."}, QUESTION, ANSWER, QUESTION, ANSWER],
}
TEXT_FORMATS = [name for name in WRITERS if name != "datasets"]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_lines(*records: object) -> Path:
        file = tmp_path / "records.jsonl"
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
        file.write_text("".join(lines), encoding="utf-8")
        return file

    return write_lines


def put(path: Path, data: object) -> Path:
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def meaning(file: Path) -> list[Record]:
    """The records with the picture's mark where it goes."""
    return [
        record.model_copy(update={"messages": marked(record.messages)})
        for record in read_records(file, Needs(text=False, image=True))
    ]


@pytest.mark.parametrize("made", TEXT_FORMATS)
def test_a_round_trip_changes_nothing(write: Write, tmp_path: Path, made: str) -> None:
    many = [] if made in ("csv", "tsv") else [LONG]
    source = write(RICH, PLAIN, *many)
    ending = made if made in ("csv", "tsv") else "jsonl" if made == "records" else "json"
    between, back = tmp_path / f"between.{ending}", tmp_path / "back.jsonl"
    there = convert_data(source, between, out_format=made)
    assert detect_format(between) == made
    again = convert_data(between, back)
    assert (there.source_format, there.out_format) == ("records", made)
    assert (again.source_format, again.out_format) == (made, "records")
    assert not there.lost and not again.lost
    assert meaning(back) == meaning(source)


@pytest.mark.parametrize("first", TEXT_FORMATS)
@pytest.mark.parametrize("second", TEXT_FORMATS)
def test_every_format_converts_to_every_other(
    write: Write, tmp_path: Path, first: str, second: str
) -> None:
    source = write(RICH, PLAIN)
    one, two, back = tmp_path / "one", tmp_path / "two", tmp_path / "back.jsonl"
    convert_data(source, one, out_format=first)
    convert_data(one, two, source_format=first, out_format=second)
    convert_data(two, back, source_format=second)
    assert meaning(back) == meaning(source)


def test_llava_has_the_shape_that_its_readers_expect(write: Write, tmp_path: Path) -> None:
    convert_data(write(PLAIN), tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == [
        {
            "id": "0",
            "image": "b.jpg",
            "conversations": [
                {"from": "human", "value": "<image>What?"},
                {"from": "gpt", "value": "left"},
            ],
        }
    ]


def test_messages_in_parts_and_a_system_text_are_read(tmp_path: Path) -> None:
    parts = [{"type": "image", "image": "a.jpg"}, {"type": "text", "text": "What?"}]
    item = {"messages": [{"role": "user", "content": parts}, ANSWER], "system": "Be brief."}
    convert_data(put(tmp_path / "in.json", [item]), tmp_path / "out.jsonl")
    (record,) = read_records(tmp_path / "out.jsonl", Needs(text=True, image=True))
    assert record.image == tmp_path / "a.jpg"
    assert [message.content for message in record.messages] == ["Be brief.", "<image>What?", "left"]


def test_flat_rows_of_json_are_read(tmp_path: Path) -> None:
    rows = [{"image": "a.jpg", "instruction": "What?", "answer": "A hall", "license": "MIT"}]
    done = convert_data(put(tmp_path / "in.json", rows), tmp_path / "out.jsonl")
    assert done.source_format == "rows"
    (record,) = read_records(tmp_path / "out.jsonl", Needs(text=True, image=True))
    assert (record.response, record.licence) == ("A hall", "MIT")


def test_the_tables_of_quic_360_are_read_with_references_together(tmp_path: Path) -> None:
    url = "https://live.example.com/1.jpg"
    rows = [(url, "people", "Two men."), ("b.jpg", "sky", "Clouds."), (url, "people", "Men.")]
    text = "url\tquery\tannotation\n" + "".join("\t".join(row) + "\n" for row in rows)
    (tmp_path / "train.tsv").write_text(text)
    done = convert_data(tmp_path / "train.tsv", tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == [url, url, "b.jpg"]
    assert [line["messages"][1]["content"] for line in lines] == ["Two men.", "Men.", "Clouds."]
    assert "2 pictures are URLs" in done.notes[0]
    assert "1 questions have several answers" in done.notes[1]


def test_what_cannot_be_carried_is_reported(tmp_path: Path) -> None:
    item = {
        "id": "scene-7",
        "image": "a.jpg",
        "width": 4096,
        "empty": None,
        "conversations": [
            {"from": "human", "value": "<image>\nWhat?", "weight": 1},
            {"from": "gpt", "value": "A hall"},
        ],
    }
    done = convert_data(put(tmp_path / "in.json", [item] * 3), tmp_path / "out.jsonl")
    assert done.lost == {"id": 3, "width": 3, "messages.weight": 3}
    (tmp_path / "in.csv").write_text("image,query,response,split,note\na.jpg,q,r,train,\n")
    assert convert_data(tmp_path / "in.csv", tmp_path / "b.jsonl").lost == {"split": 1}


def test_a_table_refuses_what_it_cannot_hold(write: Write, tmp_path: Path) -> None:
    with pytest.raises(PanoVLMError, match=r"record 2 \(c.jpg\): found messages of .*llava"):
        convert_data(write(PLAIN, LONG), tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_invalid_input_is_refused_with_every_error(write: Write, tmp_path: Path) -> None:
    source = write(PLAIN, {"image": 3, "messages": []}, {**PLAIN, "yaw_deg": 999})
    with pytest.raises(PanoVLMError) as caught:
        convert_data(source, tmp_path / "out.json")
    assert "has 2 error(s)" in str(caught.value)
    assert "line 2: field 'image'" in str(caught.value)
    assert "line 3: field 'yaw_deg'" in str(caught.value)
    two = put(tmp_path / "two.json", [{**PLAIN, "images": ["a.jpg", "c.jpg"]}])
    with pytest.raises(PanoVLMError, match="item 1: found 3 pictures, expected one a record"):
        convert_data(two, tmp_path / "out.jsonl")


def test_paths_follow_the_file_to_another_folder(write: Write, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    out = tmp_path / "deep" / "er" / "out.jsonl"
    convert_data(write(RICH, {**PLAIN, "image": "/data/b.jpg"}), out)
    images = [json.loads(line)["image"] for line in out.read_text().split("\n")[:-1]]
    assert images == ["../../pictures/a.jpg", "/data/b.jpg"]


def test_paths_may_start_from_a_folder_of_pictures(write: Write, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    out = tmp_path / "out.jsonl"
    convert_data(write(PLAIN), out, pictures=tmp_path / "images")
    assert read_records(out, Needs(text=True, image=True))[0].image == tmp_path / "images" / "b.jpg"


def test_nothing_is_overwritten_without_the_option(write: Write, tmp_path: Path) -> None:
    source, out = write(PLAIN), tmp_path / "out.json"
    out.write_text("mine")
    with pytest.raises(PanoVLMError, match="--overwrite"):
        convert_data(source, out)
    with pytest.raises(PanoVLMError, match="found a file that PanoVLM did not write"):
        convert_data(source, out, overwrite=True)
    assert out.read_text() == "mine"
    with pytest.raises(PanoVLMError, match="found the input itself"):
        convert_data(source, source, overwrite=True)


def test_a_failing_disk_leaves_the_old_file(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path, items: object) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    source, out = write(PLAIN), tmp_path / "out.json"
    convert_data(source, out)
    before = out.read_bytes()
    monkeypatch.setitem(run.WRITERS, "llava", fails)
    monkeypatch.setattr(run, "is_converted", lambda path: True)
    with pytest.raises(OSError, match="No space left"):
        convert_data(source, out, overwrite=True)
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "records.jsonl"]


@pytest.mark.parametrize(
    ("out", "options", "words"),
    [
        ("out.xml", {}, "pass --to"),
        ("out.json", {"out_format": "coco"}, "found --to coco, expected one of records, llava"),
        ("out.json", {"source_format": "coco"}, "found --from coco, expected one of records"),
        ("nowhere/out.json", {}, "found no such folder"),
    ],
)
def test_invalid_options_name_what_to_change(
    write: Write, tmp_path: Path, out: str, options: dict[str, str], words: str
) -> None:
    with pytest.raises(PanoVLMError, match=words):
        convert_data(write(PLAIN), tmp_path / out, **options)
    with pytest.raises(PanoVLMError, match="found no such file"):
        convert_data(tmp_path / "none.jsonl", tmp_path / "out.json")


def test_long_and_quoted_cells_are_whole(write: Write, tmp_path: Path) -> None:
    long = {**PLAIN, "messages": [{**QUESTION, "content": '"' + "x" * 200_000}, ANSWER]}
    convert_data(write(long), tmp_path / "out.csv")
    limit = csv.field_size_limit()
    convert_data(tmp_path / "out.csv", tmp_path / "back.jsonl")
    assert csv.field_size_limit() == limit
    assert meaning(tmp_path / "back.jsonl") == meaning(tmp_path / "records.jsonl")
