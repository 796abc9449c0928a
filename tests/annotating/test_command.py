"""The command annotate: what it prints, writes and returns."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panovlm.annotating import packaged
from panovlm.annotating.teachers import Detection
from panovlm.geometry.boxes import ViewBox

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def annotate(monkeypatch: pytest.MonkeyPatch, run_cli: Command, tmp_path: Path) -> Command:
    """Runs `panovlm annotate` with a detector that sees a cat in the middle of every view."""
    cat = Detection("cat", ViewBox(12.0, 12.0, 8.0, 8.0), 0.9)
    monkeypatch.setattr(packaged.PackagedTeacher, "prepare", lambda teacher: None)
    monkeypatch.setattr(packaged, "_detector", lambda: None)
    monkeypatch.setattr(packaged, "detect", lambda *given: [cat])

    def run(*words: object) -> tuple[int, str, str]:
        out = ["--out", str(tmp_path / "a.jsonl"), "--view-size", "32"]
        return run_cli("annotate", *words, *out)

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in "ab":
        Image.fromarray(np.zeros((16, 32, 3), np.uint8)).save(folder / f"{name}.png")
    return folder


def test_it_says_what_it_wrote(annotate: Command, photos: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.html"
    code, out, _ = annotate(photos, "--teacher", "packaged", "--sheet", sheet)
    assert code == 0
    assert "2 annotated, written to" in out and "2 of 2 pictures drawn in" in out
    assert "cat 0.90" in sheet.read_text()
    code, out, _ = annotate(photos, "--teacher", "packaged")
    assert code == 0 and "0 annotated" in out and "2 were there already" in out
    code, _, err = annotate(photos, "--teacher", "packaged", "--min-score", "0.6")
    assert code == 2 and "min_score 0.5 (now 0.6)" in err


def test_unreadable_pictures_are_named_and_fail_only_where_nothing_is_annotated(
    annotate: Command, photos: Path
) -> None:
    (photos / "a.png").write_bytes(b"")
    code, out, err = annotate(photos / "a.png", "--teacher", "packaged")
    assert code == 2 and "1 could not be annotated" in err and "a.png" in err
    code, out, err = annotate(photos, "--teacher", "packaged")
    assert code == 0 and "1 annotated" in out and "1 could not be annotated" in err


def test_a_mistake_gives_one_message(annotate: Command, photos: Path) -> None:
    code, _, err = annotate(photos, "--teacher", "openai:m")
    assert code == 2 and err.startswith("panovlm: found --teacher openai:m without --endpoint")
