"""Folders of pictures: which they are, what is read of them, and when their digest changes."""

import json
from pathlib import Path

import pytest
from PIL import Image

from panovlm.data.doctor.run import examine
from panovlm.data.findings import FindingKind
from panovlm.data.formats.reading import detect_format, scan_trained
from panovlm.data.formats.run import convert_data
from panovlm.data.picture_folders import data_digest, is_picture_folder, pictures_in
from panovlm.data.record_files import check_records, read_records
from panovlm.data.records import Needs
from panovlm.data.shards import is_stream
from panovlm.errors import PanoVLMError

PICTURES = Needs(text=False, image=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures in two folders, beside what is none."""
    found = tmp_path / "pictures"
    (found / "more" / "rooms").mkdir(parents=True)
    for number, name in enumerate(("b.JPG", "a.png", "more/rooms/c.webp")):
        Image.new("RGB", (64, 32), (number, 90, 60)).save(found / name)
    for name in ("._a.png", "a.txt", "more/notes.json"):
        (found / name).write_text("no picture")
    return found


def test_its_pictures_are_read_by_name_and_nothing_else(folder: Path) -> None:
    names = [file.relative_to(folder).as_posix() for file in pictures_in(folder)]
    assert names == ["a.png", "b.JPG", "more/rooms/c.webp"]
    records = read_records(folder, PICTURES, scan=scan_trained)
    assert [record.image for record in records] == pictures_in(folder)


def test_it_is_no_stream_and_folders_of_datasets_are(folder: Path, tmp_path: Path) -> None:
    assert is_picture_folder(folder)
    assert not is_stream(folder)
    assert detect_format(folder) == "pictures"
    for name in ("state.json", "dataset_info.json", "more/rows.parquet", "data.arrow"):
        (folder / name).touch()
        assert is_stream(folder), name
        assert detect_format(folder) == "datasets"
        (folder / name).unlink()


def test_stages_with_text_refuse_it(folder: Path) -> None:
    with pytest.raises(PanoVLMError, match=r"found a folder of pictures, expected records with te"):
        read_records(folder, Needs(text=True, image=False), scan=scan_trained)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PanoVLMError, match="found no records, expected pictures"):
        read_records(tmp_path, PICTURES, scan=scan_trained)


def test_its_digest_changes_with_its_pictures_alone(folder: Path) -> None:
    before = data_digest(folder)
    (folder / "a.txt").write_text("other words")
    assert data_digest(folder) == before
    Image.new("RGB", (64, 32)).save(folder / "d.png")
    assert data_digest(folder) != before


def test_it_is_checked_and_converted_as_any_data(folder: Path, tmp_path: Path) -> None:
    assert not examine([folder], needs_text=False).num_errors
    assert convert_data(folder, tmp_path / "records.jsonl").num_records == 3
    records = read_records(tmp_path / "records.jsonl", PICTURES)
    assert [record.image for record in records] == pictures_in(folder)


def test_conversations_of_other_formats_are_trained_on_as_they_are(folder: Path) -> None:
    talk = [{"from": "human", "value": "<image>\nWhere?"}, {"from": "gpt", "value": "left"}]
    entries = [
        {"id": "x7", "image": "a.png", "conversations": talk},
        {"id": "x8", "conversations": [{"from": "human", "value": "Say it."}, talk[1]]},
        {"id": "x9", "video": "a.mp4", "conversations": talk},
    ]
    file = folder / "llava.json"
    file.write_text(json.dumps(entries))
    checked = check_records({file: Needs(text=True, image=False)}, scan_trained)
    assert [each.record.image for each in checked.records] == [folder / "a.png", None]
    assert not checked.errors
    found = [str(finding) for finding in checked.findings]
    assert any("left out 1 entries with video: item 3" in line for line in found)
    assert any("fields that are not read: 'id' (2)" in line for line in found)
    assert {finding.kind for finding in checked.findings} == {FindingKind.FORMAT}


def test_a_misspelled_field_in_lines_of_records_stays_an_error(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "left"}]
    file.write_text(json.dumps({"iamge": "a.png", "messages": messages}) + "\n")
    with pytest.raises(PanoVLMError, match=r"unknown field 'iamge'.*did you mean 'image'"):
        read_records(file, Needs(text=True, image=False), scan=scan_trained)


def test_a_folder_is_checked_as_pictures_without_texts(folder: Path) -> None:
    assert not examine([folder]).num_errors
