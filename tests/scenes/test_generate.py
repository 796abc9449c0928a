"""Claims about data sets of scenes: what is in the files, and how they come to be there."""

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from panovlm.data.questions.asking import LISTING_REQUEST
from panovlm.data.record_files import read_records
from panovlm.data.records import Needs, Record
from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import DIRECTIONS
from panovlm.pictures.gpano import NAMESPACE
from panovlm.scenes.backgrounds import find_backgrounds
from panovlm.scenes.generate import write_scenes
from panovlm.scenes.language import listing
from panovlm.scenes.render import render
from panovlm.scenes.world import Scene, sample_scene

COUNT, TEST_COUNT, HEIGHT = 11, 5, 32
Lines = list[dict[str, Any]]


def write(out: Path, **changes: Any) -> bool:
    settings = {"count": COUNT, "test_count": TEST_COUNT, "seed": 3, "height": HEIGHT, "workers": 1}
    return write_scenes(out, **{**settings, "progress": lambda _: None, **changes})


def lines_of(path: Path) -> Lines:
    return [json.loads(line) for line in path.read_text().splitlines()]


def scenes_of(out: Path) -> dict[str, Scene]:
    lines = lines_of(out / "scenes.jsonl")
    return {line["image"]: Scene.from_json(line["scene"]) for line in lines}


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "data"
    assert write(out) is True
    return out


@pytest.fixture
def backgrounds(tmp_path: Path) -> Path:
    """Seven panoramas, each of one colour that no exposure makes another's.

    The third is broken, the first and sixth are for tests.
    """
    folder = tmp_path / "backgrounds"
    for i in range(7):
        path = folder / f"{i // 4}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        # 129x64 is 2:1 within the tolerance only
        Image.new("RGB", (129, 64), tuple(255 * (i >> bit & 1) for bit in range(3))).save(path)
    (folder / "0" / "2.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("not looked at")
    return folder


def test_pictures_are_as_many_as_asked_and_of_the_size_asked(out: Path) -> None:
    for split, count in (("train", COUNT), ("test", TEST_COUNT)):
        pictures = sorted((out / "pictures" / split).iterdir())
        assert [picture.name for picture in pictures] == [f"{i:06d}.jpg" for i in range(count)]
        assert {Image.open(picture).size for picture in pictures} == {(2 * HEIGHT, HEIGHT)}


def test_jpegs_keep_colour_at_full_resolution(out: Path) -> None:
    with Image.open(out / "pictures" / "train" / "000000.jpg") as image:
        assert [component[1:3] for component in image.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]


def test_pictures_show_their_scenes(out: Path) -> None:
    for image, scene in scenes_of(out).items():
        shown = np.asarray(Image.open(out / image), np.int16)
        apart = np.abs(shown - render(scene, HEIGHT)).mean()
        other = np.abs(shown - render(scene.yaw_rotated(90), HEIGHT)).mean()
        assert apart < 4
        assert apart < other


@pytest.mark.parametrize("split", ["train", "test"])
def test_records_can_be_read_and_name_pictures_of_their_split(out: Path, split: str) -> None:
    for name in (f"{split}.jsonl", f"{split}_listings.jsonl"):
        records = read_records(out / name, Needs(text=True, image=True))
        assert {record.image.parent for record in records} == {out / "pictures" / split}
        assert all(record.image.exists() for record in records)


def test_records_have_exactly_the_fields_of_a_record(out: Path) -> None:
    for name in ("train", "test", "train_listings", "test_listings"):
        for line in lines_of(out / f"{name}.jsonl"):
            absent = {"images", "licence", "source", "declared"}
            assert set(line) == set(Record.model_fields) - absent


@pytest.mark.parametrize("split", ["train", "test"])
def test_listings_are_one_a_picture_with_all_eight_yaw_rotations(out: Path, split: str) -> None:
    records = lines_of(out / f"{split}_listings.jsonl")
    scenes = scenes_of(out)
    assert [r["image"] for r in records] == [image for image in scenes if split in image]
    for record in records:
        scene = scenes[record["image"]]
        assert [message["role"] for message in record["messages"]] == ["user", "assistant"]
        assert record["messages"][0]["content"] == LISTING_REQUEST
        assert record["messages"][1]["content"] == listing(scene)
        rotated = [listing(scene.yaw_rotated(45 * j)) for j in range(8)]
        assert record["rolled_responses"] == rotated
        assert record["kind"] == "listing"


def test_questions_of_every_picture_are_there_in_order(out: Path) -> None:
    images = [record["image"] for record in lines_of(out / "train.jsonl")]
    assert images == sorted(images)
    assert min(images.count(image) for image in scenes_of(out) if "train" in image) >= 10


def test_rotated_answers_begin_with_the_answer_and_rotate_direction_words(out: Path) -> None:
    for record in lines_of(out / "train.jsonl"):
        rotated = record["rolled_responses"]
        assert rotated[0] == record["messages"][1]["content"]
        if record["kind"] == "direction":
            start = DIRECTIONS.index(rotated[0])
            assert rotated == [DIRECTIONS[(start - j) % 8] for j in range(8)]


def test_yaw_and_seam_are_those_of_the_solid_asked_about(out: Path) -> None:
    scenes = scenes_of(out)
    seen = set()
    for record in lines_of(out / "train.jsonl") + lines_of(out / "test.jsonl"):
        solids = {solid.name: solid for solid in scenes[record["image"]].solids}
        if record["kind"] == "direction":
            solid = solids[record["messages"][0]["content"].split(" the ")[1].rstrip("?")]
            pitch_deg = scenes[record["image"]].pitch_deg(solid)
            assert (record["yaw_deg"], record["crosses_seam"]) == (
                solid.yaw_deg,
                solid.crosses_seam,
            )
            assert record["pitch_deg"] == pitch_deg < 0.0
            seen.add(record["crosses_seam"])
        elif record["kind"] == "count":
            assert (record["yaw_deg"], record["crosses_seam"]) == (None, False)
            assert record["pitch_deg"] is None
    assert seen == {True, False}


def test_scenes_depend_on_seed_split_and_number(out: Path) -> None:
    scenes = scenes_of(out)
    assert scenes["pictures/train/000002.jpg"] == sample_scene(np.random.default_rng((3, 0, 2)))
    assert scenes["pictures/test/000002.jpg"] == sample_scene(np.random.default_rng((3, 1, 2)))


def test_several_processes_write_the_same_bytes_as_one(out: Path, tmp_path: Path) -> None:
    write(tmp_path / "data", workers=2)
    assert contents(tmp_path / "data") == contents(out)


def test_a_larger_set_begins_with_the_smaller(out: Path, tmp_path: Path) -> None:
    write(tmp_path / "data", count=COUNT + 2)
    small, large = contents(out), contents(tmp_path / "data")
    assert large["train.jsonl"].startswith(small["train.jsonl"])
    assert large["test.jsonl"] == small["test.jsonl"]
    assert large["pictures/train/000010.jpg"] == small["pictures/train/000010.jpg"]


def test_another_seed_gives_other_scenes(out: Path, tmp_path: Path) -> None:
    write(tmp_path / "data", seed=4)
    assert contents(tmp_path / "data")["train.jsonl"] != contents(out)["train.jsonl"]


def test_progress_adds_up_to_all_pictures(tmp_path: Path) -> None:
    counts: list[int] = []
    write(tmp_path / "data", progress=counts.append)
    assert sum(counts) == COUNT + TEST_COUNT
    assert len(counts) > 1


def test_backgrounds_change_half_of_the_pictures_and_no_question(
    out: Path, backgrounds: Path, tmp_path: Path
) -> None:
    write(tmp_path / "data", backgrounds=backgrounds)
    plain, filled = contents(out), contents(tmp_path / "data")
    changed = {name for name in plain if plain[name] != filled[name]}
    assert all(name.endswith(".jpg") or name == "scenes.json" for name in changed)
    assert 0.2 < len(changed - {"scenes.json"}) / (COUNT + TEST_COUNT) < 0.8


def test_no_background_is_in_both_splits(backgrounds: Path, tmp_path: Path) -> None:
    write(tmp_path / "data", backgrounds=backgrounds, count=30, test_count=20)
    found = {}
    for split in ("train", "test"):
        pictures = sorted((tmp_path / "data" / "pictures" / split).iterdir())
        zeniths = [np.asarray(Image.open(path))[0].mean(axis=0) for path in pictures]
        extreme = [zenith for zenith in zeniths if (np.abs(zenith - 127) > 100).all()]
        found[split] = {int((zenith > 127) @ (1, 2, 4)) for zenith in extreme}
    assert found == {"train": {1, 3, 4, 6}, "test": {0, 5}}


def test_an_unreadable_background_is_left_out_with_a_warning(
    backgrounds: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "data", backgrounds=backgrounds)
    [warning] = caplog.messages
    assert "2.png" in warning


def test_a_part_of_the_sphere_is_no_background(
    backgrounds: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = {"FullPanoWidthPixels": 128, "FullPanoHeightPixels": 64}
    sizes |= {"CroppedAreaImageWidthPixels": 64, "CroppedAreaImageHeightPixels": 32}
    area = sizes | {"CroppedAreaLeftPixels": 0, "CroppedAreaTopPixels": 8}
    properties = "".join(f' p:{key}="{value}"' for key, value in area.items())
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", f'<x xmlns:p="{NAMESPACE}"{properties}/>')
    Image.new("RGB", (64, 32)).save(backgrounds / "0" / "1.png", pnginfo=text)
    write(tmp_path / "data", backgrounds=backgrounds)
    assert "1.png: found a part of the sphere, expected all of it" in caplog.messages[0]


def test_a_folder_with_too_few_backgrounds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PanoVLMError, match="found 0 pictures"):
        find_backgrounds(tmp_path / "missing")


def test_backgrounds_of_which_none_can_be_read_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "backgrounds"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(b"no picture")
    with pytest.raises(PanoVLMError, match="found 0 readable backgrounds"):
        write(tmp_path / "data", backgrounds=folder)
    assert not (tmp_path / "data").exists()


def test_the_same_set_is_not_written_twice(out: Path) -> None:
    before = (out / "train.jsonl").stat().st_mtime_ns
    assert write(out) is False
    assert (out / "train.jsonl").stat().st_mtime_ns == before


def test_a_set_of_other_settings_is_kept_and_named(out: Path) -> None:
    with pytest.raises(PanoVLMError, match=r"other settings: seed = 3; expected .*name another"):
        write(out, seed=4)


def test_a_folder_with_anything_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(PanoVLMError, match="no set of scenes"):
        write(tmp_path)
    assert contents(tmp_path) == {"thesis.tex": b"precious"}


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    assert write(tmp_path / "made" / "on" / "the" / "way") is True
    (tmp_path / "empty").mkdir()
    assert write(tmp_path / "empty") is True
    assert (tmp_path / "empty" / "scenes.json").exists()


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(PanoVLMError, match="No space left on device; free some space"):
        write(tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "data", tmp_path / "file"):
        with pytest.raises(PanoVLMError, match="name another"):
            write(place)


def test_an_interruption_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "data", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("setting", ["count", "test_count", "seed", "height", "workers"])
def test_settings_out_of_range_are_refused_by_name(tmp_path: Path, setting: str) -> None:
    with pytest.raises(PanoVLMError, match=f"found {setting} -1, expected at least"):
        write(tmp_path / "data", **{setting: -1})
