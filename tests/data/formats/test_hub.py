"""Folders of the library `datasets`: there and back, pictures in them, and what is refused."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from panovlm.data.doctor.run import examine
from panovlm.data.formats.run import convert_data
from panovlm.data.record_files import read_records
from panovlm.data.records import Needs
from panovlm.errors import PanoVLMError

MESSAGES = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A hall"}]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    lines = []
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (64, 32), colour).save(tmp_path / f"{number}.png")
        extra = {"yaw_deg": 12.5, "rolled_responses": ["A hall", "A wall"]} if number else {}
        record = {"image": f"{number}.png", "messages": MESSAGES, **extra}
        lines.append(json.dumps(record) + "\n")
    (tmp_path / "records.jsonl").write_text("".join(lines))
    return tmp_path / "records.jsonl"


def test_a_missing_library_is_named_with_its_extra(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PanoVLMError, match=r"panovlm\[datasets\]"):
        convert_data(records, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_round_trip_keeps_texts_fields_and_the_bytes_of_pictures(
    records: Path, tmp_path: Path
) -> None:
    pytest.importorskip("datasets")
    convert_data(records, tmp_path / "folder")
    assert [path for path in tmp_path.iterdir() if path.name.endswith((".part", ".old"))] == []
    done = convert_data(tmp_path / "folder", tmp_path / "back.jsonl")
    assert (done.source_format, done.num_records) == ("datasets", 2)
    assert not done.lost
    before = read_records(records, Needs(text=True, image=True))
    after = read_records(tmp_path / "back.jsonl", Needs(text=True, image=True))
    for one, other in zip(before, after, strict=True):
        assert other.image.parent.name == "back-pictures"
        assert other.image.read_bytes() == one.image.read_bytes()
        assert other.model_copy(update={"image": one.image}) == one
    convert_data(tmp_path / "folder", tmp_path / "again")
    convert_data(tmp_path / "folder", tmp_path / "again", overwrite=True)


def test_image_folders_and_parquet_are_read(records: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "images"
    folder.mkdir()
    (tmp_path / "0.png").rename(folder / "0.png")
    row = {"file_name": "0.png", "query": "What?", "annotation": "A hall", "split": "x"}
    (folder / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    done = convert_data(folder, tmp_path / "a.jsonl")
    assert done.lost == {"split": 1}
    assert read_records(tmp_path / "a.jsonl", Needs(text=True, image=True))[0].response == "A hall"
    kept = {"bytes": (folder / "0.png").read_bytes(), "path": None}
    rows = datasets.Dataset.from_list([{"images": [kept], "messages": MESSAGES}])
    rows = rows.cast_column("images", datasets.List(datasets.Image()))
    rows.to_parquet(str(tmp_path / "data.parquet"))
    convert_data(tmp_path / "data.parquet", tmp_path / "b.jsonl")
    (record,) = read_records(tmp_path / "b.jsonl", Needs(text=True, image=True))
    assert record.image.read_bytes() == kept["bytes"]


def test_the_doctor_finds_that_pictures_must_be_files(records: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    convert_data(records, tmp_path / "folder")
    found = [str(finding) for finding in examine([tmp_path / "folder"]).findings]
    assert "found 2 pictures inside the data set, expected files" in found[0]


def test_what_is_no_data_set_is_refused_in_a_line(records: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no table")
    for name in ("empty", "bad.parquet"):
        with pytest.raises(PanoVLMError, match="found no data set that `datasets` can read") as no:
            convert_data(tmp_path / name, tmp_path / "out.jsonl")
        assert "\n" not in str(no.value)
    rows = datasets.Dataset.from_list([{"text": "a"}])
    datasets.DatasetDict(train=rows, test=rows).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(PanoVLMError, match="found the splits test, train, expected one"):
        convert_data(tmp_path / "splits", tmp_path / "out.jsonl")
    with pytest.raises(PanoVLMError, match="expected one named image"):
        convert_data(tmp_path / "splits" / "train", tmp_path / "out.jsonl")


def test_a_folder_that_someone_added_to_is_not_replaced(records: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    convert_data(records, tmp_path / "folder")
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    with pytest.raises(PanoVLMError, match="found something in"):
        convert_data(records, tmp_path / "folder", overwrite=True)
    assert (tmp_path / "folder" / "notes.txt").read_text() == "mine"


def test_pictures_beside_the_output_are_replaced_where_they_were_written(
    records: Path, tmp_path: Path
) -> None:
    pytest.importorskip("datasets")
    convert_data(records, tmp_path / "folder")
    back, pictures = tmp_path / "back.jsonl", tmp_path / "back-pictures"
    for _ in range(2):
        convert_data(tmp_path / "folder", back, overwrite=True)
    (pictures / "mine.png").write_bytes(b"mine")
    with pytest.raises(PanoVLMError, match="found something in"):
        convert_data(tmp_path / "folder", back, overwrite=True)
    assert (pictures / "mine.png").read_bytes() == b"mine"


def test_texts_travel_and_files_that_are_no_pictures_do_not(records: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    text = json.dumps({"messages": MESSAGES}) + "\n"
    records.write_text(records.read_text() + text)
    convert_data(records, tmp_path / "folder")
    convert_data(tmp_path / "folder", tmp_path / "back.jsonl")
    *_, last = read_records(tmp_path / "back.jsonl", Needs(text=True, image=False))
    assert last.image is None
    (tmp_path / "secret.txt").write_text("password: 1234")
    records.write_text(json.dumps({"image": "secret.txt", "messages": MESSAGES}) + "\n")
    with pytest.raises(PanoVLMError, match=r"secret\.txt: found no readable picture"):
        convert_data(records, tmp_path / "leak")
    assert not (tmp_path / "leak").exists()
