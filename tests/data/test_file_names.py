"""Names from other systems lead to the files they mean, and to no others."""

import unicodedata
from pathlib import Path

import pytest

from panovlm.data.file_names import find_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Pictures/Küche.JPG", "twice/a.jpg", "twice/A.jpg", "sub/one.png"):
        file = tmp_path / unicodedata.normalize("NFC", name)
        file.parent.mkdir(exist_ok=True)
        file.touch()
    if len(list((tmp_path / "twice").iterdir())) == 1:
        pytest.skip("this disk takes no notice of case itself")
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "Pictures/Küche.JPG",
        "Pictures\\Küche.JPG",
        "pictures/küche.jpg",
        "PICTURES\\KÜCHE.JPG",
        unicodedata.normalize("NFD", "Pictures/Küche.JPG"),
        unicodedata.normalize("NFD", ".\\sub\\..\\pictures\\küche.jpg"),
    ],
)
def test_one_file_is_found_under_each_spelling(folder: Path, name: str) -> None:
    assert find_file(folder, name).samefile(folder / "Pictures" / "Küche.JPG")


def test_what_is_there_as_named_is_taken(folder: Path) -> None:
    for name in ("twice/a.jpg", "twice/A.jpg"):
        assert find_file(folder, name) == folder / name
    assert find_file(Path("/nowhere"), folder / "sub" / "one.png") == folder / "sub" / "one.png"


def test_a_file_whose_own_name_has_a_backslash_stays_itself(folder: Path) -> None:
    (folder / "sub\\one.png").touch()
    assert find_file(folder, "sub\\one.png") == folder / "sub\\one.png"


@pytest.mark.parametrize(
    "name", ["TWICE/a.JPG", "sub/two.png", "sub/one.png/x", "a\0b", "x" * 5000]
)
def test_what_is_missing_or_could_be_two_stays_as_named(folder: Path, name: str) -> None:
    assert find_file(folder, name) == folder / name
