"""Composites show what their annotations say, where they say it, and nothing that is tested on."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panovlm.annotating.composites import Cutout, compose, cut_out, write_composites
from panovlm.data.annotations import Annotation, Sighting, Teacher, read_annotations
from panovlm.data.questions.evidence import Doubt
from panovlm.data.record_files import read_records
from panovlm.data.records import Needs
from panovlm.errors import PanoVLMError

ROWS, COLUMNS = 180, 360
GREY, RED = (90, 90, 90), (220, 30, 30)


def thing(yaw_deg=0.0, pitch_deg=0.0, **changes):
    size = {"width_deg": 20.0, "height_deg": 24.0, "score": 0.9, "label": "car"}
    return Sighting(yaw_deg=yaw_deg, pitch_deg=pitch_deg, **size | changes)


def annotation(*things, image="a.png", group="here"):
    teacher = Teacher(name="oracle", labels=("car", "dog"))
    return Annotation(
        image=Path(image), digest=image, teacher=teacher, group=group, sightings=things
    )


def picture(*things, ground=GREY):
    """A plain panorama with a red ellipse for each thing."""
    pixels = np.full((ROWS, COLUMNS, 3), ground, np.uint8)
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    pitch_deg, yaw_deg = 90 - (rows + 0.5), columns + 0.5 - 180
    for each in things:
        across = (yaw_deg - each.yaw_deg + 180) % 360 - 180
        inside = (across / each.yaw_width_deg * 2) ** 2
        pixels[inside + ((pitch_deg - each.pitch_deg) / each.height_deg * 2) ** 2 < 1] = RED
    return pixels


def red_places(pixels):
    """Yaw and pitch of all pixels that are rather red than grey."""
    rows, columns = np.nonzero(pixels[..., 0].astype(int) - pixels[..., 1] > 60)
    return columns + 0.5 - 180, 90 - (rows + 0.5)


@pytest.mark.parametrize("yaw_deg", [0.0, 75.0, 179.0])
def test_a_thing_is_cut_out_along_its_outline_across_the_seam_too(yaw_deg):
    seen = thing(yaw_deg, -10.0)
    (cutout,) = cut_out(annotation(seen), picture(seen), Doubt())
    middle, corner = cutout.opacity.shape[0] // 2, cutout.opacity[0, 0]
    assert cutout.opacity[middle, cutout.opacity.shape[1] // 2] == 1.0 and corner < 0.2
    assert (cutout.pixels[cutout.opacity > 0.99] == RED).mean() > 0.9


@pytest.mark.parametrize(
    "others",
    [
        [thing(score=0.3)],
        [thing(pitch_deg=70.0)],
        [thing(width_deg=100.0)],
        [thing(), thing(8.0, label="dog", score=0.2)],
    ],
)
def test_things_that_are_unsure_far_up_wide_or_hidden_are_not_cut_out(others):
    first, *rest = others
    found = cut_out(annotation(first, *rest), picture(*others), Doubt())
    assert found == []


def test_what_counts_as_not_there_hides_nothing():
    things = thing(), thing(8.0, label="dog", score=0.2)
    found = cut_out(annotation(*things), picture(*things), Doubt(doubt_score=0.3))
    assert [cutout.sighting for cutout in found] == [things[0]]


def test_new_things_are_where_the_annotation_says_and_touch_nothing():
    source = thing(30.0, -10.0)
    cutouts = cut_out(annotation(source), picture(source), Doubt())
    known = thing(-90.0, label="dog")
    num_new = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        pixels, things = compose(picture(), annotation(known), cutouts, rng)
        assert known in things and [t.yaw_deg for t in things] == sorted(t.yaw_deg for t in things)
        new = [each for each in things if each is not known]
        yaw_deg, pitch_deg = red_places(pixels)
        inside = np.zeros(len(yaw_deg), bool)
        for each in new:
            across = np.abs((yaw_deg - each.yaw_deg + 180) % 360 - 180)
            own = (across < each.yaw_width_deg / 2 + 4) & (
                np.abs(pitch_deg - each.pitch_deg) < each.height_deg / 2 + 4
            )
            assert own.any()
            inside |= own
        assert inside.all()
        num_new += len(new)
    assert num_new > 12


def test_a_thing_stands_on_the_same_ground_whatever_its_size():
    source = thing(0.0, -10.0)
    cutout = Cutout(source, np.full((24, 20, 3), 200, np.uint8), np.ones((24, 20)))
    for seed in range(5):
        _, things = compose(picture(), annotation(), [cutout], np.random.default_rng(seed))
        for each in things:
            assert each.pitch_deg - each.height_deg / 2 == pytest.approx(-10.0 - 12.0)


@pytest.fixture
def annotations_file(tmp_path):
    """Pictures of four places, a red thing in each."""
    lines = []
    for number in range(4):
        seen = thing(40.0 * number, -5.0)
        Image.fromarray(picture(seen)).save(tmp_path / f"{number}.png")
        lines.append(annotation(seen, image=f"{number}.png", group=f"place {number}").to_line())
    file = tmp_path / "annotations.jsonl"
    file.write_text("\n".join(lines))
    return file


def write(file, out, count=6, **settings):
    own = {"doubt": Doubt(), "height": 64} | settings
    return write_composites(file, out, count, progress=lambda _: None, **own)


@pytest.mark.parametrize(("split_by", "num_left"), [("group", 2), ("picture", 3)])
def test_composites_leave_out_what_is_tested_on(annotations_file, tmp_path, split_by, num_left):
    lines = annotations_file.read_text().replace("place 1", "place 0").splitlines()
    copy = json.loads(lines[0]) | {"image": "copy.png", "group": "elsewhere"}
    annotations_file.write_text("\n".join([*lines, json.dumps(copy)]))
    (tmp_path / "copy.png").write_bytes((tmp_path / "0.png").read_bytes())
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "car"}]
    test = tmp_path / "test.jsonl"
    test.write_text(json.dumps({"image": "0.png", "messages": messages}))
    assert write(annotations_file, tmp_path / "all")["car"] == 5
    some = tmp_path / "some"
    assert write(annotations_file, some, tested_on=test, split_by=split_by)["car"] == num_left
    written = read_annotations(some / "annotations.jsonl")
    assert len(written) == 6 and "elsewhere" not in {each.group for each in written}
    assert all(each.image.is_file() for each in written)


@pytest.mark.parametrize("split_by", ["group", "picture"])
def test_questions_about_composites_lie_beside_those_about_pictures(
    annotations_file, tmp_path, run_cli, split_by
):
    out = tmp_path / "data"
    options = ["--composites", "5", "--test-share", "0.3", "--split-by", split_by]
    code, shown, errors = run_cli("questions", annotations_file, "--out", out, *options)
    assert code == 0, errors
    assert "5 composites of 3 things cut out" in shown
    file = out / "composites" / "questions" / "train.jsonl"
    records = list(read_records(file, Needs(True, True)))
    assert all(record.paths[0].is_file() for record in records)
    assert {record.kind for record in records} >= {"what", "listing"}
    assert not (file.parent / "test.jsonl").exists()
    tested = {record.source for record in read_records(out / "test.jsonl", Needs(True, True))}
    assert tested and not tested & {record.source for record in records}


def test_composites_of_several_teachers_are_refused_and_nothing_is_written(
    annotations_file, tmp_path, run_cli
):
    files = [annotations_file, annotations_file]
    options = ["--out", tmp_path / "data", "--composites", "5"]
    code, _, errors = run_cli("questions", *files, *options)
    assert code == 2 and "found 2 files of annotations, expected one" in errors
    assert not (tmp_path / "data").exists()


def test_the_same_seed_gives_the_same_files(annotations_file, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(annotations_file, tmp_path / name, seed=seed)
    first, second, other = (
        (tmp_path / name / "annotations.jsonl").read_text() for name in ("a", "b", "c")
    )
    assert first == second != other


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "found count 0, expected at least 1"),
        ({"doubt": Doubt(0.95)}, "found nothing to cut out in 4 pictures of .*lower --min-score"),
        ({"doubt": Doubt(labels=("cat",))}, "found nothing to cut out .*name more --labels"),
    ],
)
def test_what_cannot_be_composed_is_refused_and_nothing_is_written(
    annotations_file, tmp_path, settings, message
):
    with pytest.raises(PanoVLMError, match=message):
        write(annotations_file, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()
