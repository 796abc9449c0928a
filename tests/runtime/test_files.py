"""Files and folders appear whole, and take the place of nothing that was not written here."""

import os
from pathlib import Path

import pytest

from panovlm.errors import PanoVLMError
from panovlm.runtime.files import (
    check_output,
    has_keys,
    has_mark,
    is_marked_folder,
    mark_folder,
    whole_folder,
    write_own,
)


def write(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "a.txt").write_text("ours")
    mark_folder(folder)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with its mark."""
    with whole_folder(tmp_path / "own") as folder:
        write(folder)
    return tmp_path / "own"


def test_a_marked_folder_is_replaced_and_nothing_is_left_beside_it(own: Path) -> None:
    with whole_folder(own, is_marked_folder) as folder:
        (folder / "new.txt").write_text("new")
    assert [path.name for path in own.iterdir()] == ["new.txt"]
    assert [path.name for path in own.parent.iterdir()] == ["own"]


@pytest.mark.parametrize(
    "change",
    [
        lambda own: (own / "mine.txt").write_text("mine"),
        lambda own: (own / "sub" / "mine.txt").touch(),
        lambda own: (own / "sub" / "a.txt").write_text("ours, and mine"),
        lambda own: (own / "sub" / "link").symlink_to("a.txt"),
        lambda own: (own / ".panovlm.json").write_text("[]"),
        lambda own: (own / ".panovlm.json").write_text('{"files": ["sub/a.txt"]}'),
        lambda own: (own / ".panovlm.json").unlink(),
    ],
    ids=["file", "empty file", "changed", "link", "other list", "old list", "no list"],
)
def test_a_folder_that_someone_else_has_a_part_in_stays(own: Path, change: object) -> None:
    assert callable(change)
    change(own)
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    with (
        pytest.raises(PanoVLMError, match="found something in"),
        whole_folder(own, is_marked_folder),
    ):
        pytest.fail("the work began")
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before


def test_what_someone_put_there_meanwhile_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(PanoVLMError, match="found something in"), whole_folder(out) as folder:
        (folder / "ours.txt").write_text("ours")
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]


def test_a_failure_leaves_the_folder_before_it(own: Path) -> None:
    with pytest.raises(OSError, match="full"), whole_folder(own, is_marked_folder):
        raise OSError("full")
    assert is_marked_folder(own)
    assert [path.name for path in own.parent.iterdir()] == ["own"]


def test_a_link_to_an_empty_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    with whole_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("a")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "a.txt").read_text() == "a"


def test_an_empty_file_and_an_own_one_are_replaced_and_no_other(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    out.touch()
    for text in ("made by us: one", "made by us: two"):
        write_own(out, lambda part, text=text: part.write_text(text), is_ours)
        assert out.read_text() == text
    out.write_text("mine")
    with pytest.raises(PanoVLMError, match="did not write"):
        write_own(out, lambda part: part.write_text("lost"), is_ours)
    assert out.read_text() == "mine"


def is_ours(path: Path) -> bool:
    return has_mark(path, "made by us")


def test_an_input_is_known_under_every_name(tmp_path: Path) -> None:
    given = tmp_path / "in.txt"
    given.write_text("made by us")
    os.link(given, tmp_path / "hard.txt")
    for out in (given, tmp_path / "hard.txt", tmp_path / "x" / ".." / "in.txt"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(PanoVLMError, match="found the input itself"):
            check_output(out, is_ours, [given])


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ('{"a": 1, "b": 2, "c": 3}', True),
        ('{"a": 1}', False),
        ('["a", "b"]', False),
        ("a b", False),
        ("[" * 100_000, False),
    ],
)
def test_a_json_report_is_known_by_its_keys(tmp_path: Path, text: str, has: bool) -> None:
    (tmp_path / "a.json").write_text(text)
    assert has_keys(tmp_path / "a.json", ("a", "b")) == has
