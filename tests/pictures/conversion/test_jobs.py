"""What is converted, to where, and what is left alone."""

import json
import os
from pathlib import Path

import pytest

from panovlm.errors import PanoVLMError
from panovlm.pictures.conversion.jobs import Job, claim_folder, find_sources, plan_jobs
from panovlm.pictures.conversion.settings import ConversionSettings

SPHERES = ConversionSettings(to="equirectangular")
VIEWS = ConversionSettings(to="views")


def targets(given: Path, out: Path, settings: ConversionSettings = SPHERES) -> list[str]:
    jobs, errors = plan_jobs(find_sources(given, out), out, settings)
    assert not errors
    return sorted(str(job.target.relative_to(out)) for job in jobs)


def test_the_tree_is_repeated(album: Path, tmp_path: Path) -> None:
    expected = ["a.jpg", "attic/b.v2.jpg", "attic/old.ones/c.jpg"]
    assert targets(album, tmp_path / "out") == expected
    folders = [name.removesuffix(".jpg") for name in expected]
    assert targets(album, tmp_path / "out", VIEWS) == folders


def test_a_folder_of_views_is_one_input(album: Path, tmp_path: Path) -> None:
    (album / "attic" / "old.ones" / "views.json").write_text("{}")
    expected = ["a.jpg", "attic/b.v2.jpg", "attic/old.ones.jpg"]
    assert targets(album, tmp_path / "out") == expected
    assert targets(album / "attic" / "old.ones", tmp_path / "out") == ["old.ones.jpg"]


def test_a_folder_of_views_has_its_name_wherever_one_stands(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (album / "views.json").write_text("{}")
    monkeypatch.chdir(album)
    assert targets(Path("."), tmp_path / "out") == ["album.jpg"]


def test_outputs_inside_the_folder_read_are_not_read(album: Path) -> None:
    out = album / "attic" / "out"
    before = targets(album, out)
    (out / "deeper").mkdir(parents=True)
    (out / "deeper" / "x.png").write_bytes(b"")
    assert targets(album, out) == before


def test_links_to_folders_are_not_followed(album: Path, tmp_path: Path) -> None:
    before = targets(album, tmp_path / "out")
    (album / "loop").symlink_to(album, target_is_directory=True)
    assert targets(album, tmp_path / "out") == before


def test_missing_and_empty_inputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PanoVLMError, match=r"none: found no such file or folder.*check the path"):
        find_sources(tmp_path / "none", tmp_path / "out")
    (tmp_path / "text.txt").write_text("")
    with pytest.raises(PanoVLMError, match=r"found no pictures.*\.jpeg.*views\.json"):
        find_sources(tmp_path, tmp_path / "out")


def test_two_inputs_of_one_output_are_reported(album: Path, tmp_path: Path) -> None:
    (album / "a.JPG").write_bytes(b"")
    jobs, errors = plan_jobs(find_sources(album, tmp_path), tmp_path / "out", SPHERES)
    assert len(jobs) == 3
    assert errors == [
        f"{album / 'a.png'}: found the same output as for {album / 'a.JPG'}; rename it"
    ]


def test_no_output_takes_the_place_of_an_input(album: Path) -> None:
    (album / "a.png").rename(album / "attic" / "a.jpg")
    (album / "attic" / "a.webp").write_bytes(b"")
    out = album / "x" / ".." / "attic"
    jobs, errors = plan_jobs([(album / "attic" / "a.webp", Path("a"))], out, SPHERES)
    assert len(jobs) == 1
    both = [(album / "attic" / name, Path("a")) for name in ("a.jpg", "a.webp")]
    jobs, errors = plan_jobs(both, album / "attic", SPHERES)
    assert not jobs
    assert all("where its output would go" in error for error in errors)


def test_done_is_what_is_newer_than_input_and_settings(tmp_path: Path) -> None:
    job = Job(tmp_path / "in.png", tmp_path / "out.jpg")
    job.source.write_bytes(b"")
    os.utime(job.source, ns=(100, 100))
    assert not job.is_done(0, makes_folder=False)
    job.target.write_bytes(b"")
    os.utime(job.target, ns=(200, 200))
    assert job.is_done(150, makes_folder=False)
    assert not job.is_done(201, makes_folder=False)
    os.utime(job.source, ns=(201, 201))
    assert not job.is_done(150, makes_folder=False)


def test_a_folder_is_done_with_its_list(tmp_path: Path) -> None:
    job = Job(tmp_path / "in", tmp_path / "out")
    for folder in (job.source, job.target):
        folder.mkdir()
        (folder / "view_00.jpg").write_bytes(b"")
    os.utime(job.source / "view_00.jpg", ns=(100, 100))
    assert not job.is_done(0, makes_folder=True)
    (job.target / "views.json").write_text("{}")
    assert job.is_done(0, makes_folder=True)
    os.utime(job.target / "views.json", ns=(99, 99))
    assert not job.is_done(0, makes_folder=True)


def test_a_folder_is_claimed_once_and_again_with_the_same_settings(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    since = claim_folder(out, SPHERES, overwrite=False)
    assert claim_folder(out, SPHERES, overwrite=False) == since
    assert claim_folder(
        out, ConversionSettings(to="equirectangular", format="jpg"), overwrite=False
    )
    assert json.loads((out / "conversion.json").read_text())["to"] == "equirectangular"


def test_other_settings_are_reported_and_need_overwrite(tmp_path: Path) -> None:
    claim_folder(tmp_path, SPHERES, overwrite=False)
    other = ConversionSettings(to="equirectangular", quality=80, width=64)
    with pytest.raises(
        PanoVLMError, match=r"outputs of other settings: width None, quality 95;.*--overwrite"
    ):
        claim_folder(tmp_path, other, overwrite=False)
    claim_folder(tmp_path, other, overwrite=True)
    assert claim_folder(tmp_path, other, overwrite=False)


@pytest.mark.parametrize("text", [None, "", "[]", "\0", '{"to": "me"}'])
def test_a_folder_of_other_things_needs_overwrite_and_keeps_them(
    tmp_path: Path, text: str | None
) -> None:
    (tmp_path / "thesis.doc").write_text("mine")
    if text is not None:
        (tmp_path / "conversion.json").write_text(text)
    with pytest.raises(PanoVLMError, match=r"found files that no conversion wrote.*--overwrite"):
        claim_folder(tmp_path, SPHERES, overwrite=False)
    if text:
        with pytest.raises(PanoVLMError, match=r"json: found a file that PanoVLM did not write"):
            claim_folder(tmp_path, SPHERES, overwrite=True)
        assert (tmp_path / "conversion.json").read_text() == text
    else:
        claim_folder(tmp_path, SPHERES, overwrite=True)
    assert (tmp_path / "thesis.doc").read_text() == "mine"
