"""Mixed data sets: texts without a picture, videos, and what others call the roles."""

import json
from pathlib import Path

import pytest

from panovlm.data.formats.reading import detect_format
from panovlm.data.formats.run import convert_data
from panovlm.data.record_files import read_records
from panovlm.data.records import Needs
from panovlm.errors import PanoVLMError

ASKED = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A hall."}]
TEXT = [{"from": "human", "value": "Write a haiku."}, {"from": "gpt", "value": "An old pond."}]
VIDEO = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "A walk."}]


def put(path: Path, rows: object) -> Path:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("first", ["text", "picture"])
def test_texts_become_records_and_videos_are_left_out(tmp_path: Path, first: str) -> None:
    rows = [
        {"id": "a", "model": "", "conversations": TEXT},
        {"id": "b", "image": "a.jpg", "conversations": ASKED},
        {"id": "c", "video": "walk.mp4", "conversations": VIDEO},
        {"id": "d", "image": None, "conversations": TEXT},
        {"id": "e", "videos": ["x.mp4"], "conversations": VIDEO},
    ]
    source = put(tmp_path / "mix.json", rows if first == "text" else rows[1:])
    done = convert_data(source, tmp_path / "out.jsonl")
    texts = 2 if first == "text" else 1
    records = read_records(tmp_path / "out.jsonl", Needs(text=True, image=False))
    assert sum(record.image is None for record in records) == texts
    assert done.num_records == len(records) == texts + 1
    place = 3 if first == "text" else 2
    assert f"left out 1 entries with video: item {place}" in done.notes
    assert f"left out 1 entries with videos: item {place + 2}" in done.notes
    assert f"{texts} records are texts without a picture" in done.notes


@pytest.mark.parametrize("made", ["records", "llava", "sharegpt", "messages"])
@pytest.mark.parametrize("text_first", [True, False])
def test_texts_travel_in_every_format_of_conversations(
    tmp_path: Path, made: str, text_first: bool
) -> None:
    rows = [{"image": "a.jpg", "conversations": ASKED}, {"conversations": TEXT}]
    source = put(tmp_path / "mix.json", rows[::-1] if text_first else rows)
    ending = "jsonl" if made == "records" else "json"
    between, back = tmp_path / f"between.{ending}", tmp_path / "back.jsonl"
    convert_data(source, between, out_format=made)
    assert detect_format(between) == made
    convert_data(source, between, out_format=made, overwrite=True)  # which it knows as its own
    convert_data(between, back)
    convert_data(source, tmp_path / "direct.jsonl")
    assert back.read_text() == (tmp_path / "direct.jsonl").read_text()
    with pytest.raises(PanoVLMError, match="a text without a picture"):
        convert_data(source, tmp_path / "out.csv")


@pytest.mark.parametrize(
    ("user", "assistant", "system"),
    [
        ("human", "gpt", "system"),
        ("user", "assistant", "system"),
        ("human", "chatgpt", "developer"),
        ("user", "model", "developer"),
        ("human", "bot", "system"),
    ],
)
def test_roles_of_sharegpt_and_openai_are_read(
    tmp_path: Path, user: str, assistant: str, system: str
) -> None:
    for key, role, text in (("conversations", "from", "value"), ("messages", "role", "content")):
        out = tmp_path / f"{key}.jsonl"
        names = [(system, "Be brief."), (user, "<image>What?"), (assistant, "A hall.")]
        item = {key: [{role: name, text: said} for name, said in names], "images": ["a.jpg"]}
        convert_data(put(tmp_path / "in.json", [item]), out)
        (record,) = read_records(out, Needs(text=True, image=True))
        assert [message.role for message in record.messages] == ["system", "user", "assistant"]


def test_a_role_that_nobody_knows_is_named(tmp_path: Path) -> None:
    rows = [{"image": "a.jpg", "conversations": [{"from": "function_call", "value": "x"}]}]
    with pytest.raises(PanoVLMError, match=r"item 1: .*found 'function_call'"):
        convert_data(put(tmp_path / "in.json", rows), tmp_path / "out.jsonl")


def test_names_from_other_systems_are_written_as_the_files_are_called(tmp_path: Path) -> None:
    (tmp_path / "Pictures").mkdir()
    (tmp_path / "Pictures" / "A.jpg").touch()
    (tmp_path / "deep").mkdir()
    source = put(tmp_path / "in.json", [{"image": "pictures\\a.JPG", "conversations": ASKED}])
    for out, image in (
        (tmp_path / "o.jsonl", "Pictures/A.jpg"),
        (tmp_path / "deep" / "o.jsonl", "../Pictures/A.jpg"),
    ):
        convert_data(source, out)
        assert json.loads(out.read_text())["image"] == image
        (record,) = read_records(out, Needs(text=True, image=True))
        assert record.picture.samefile(tmp_path / "Pictures" / "A.jpg")
