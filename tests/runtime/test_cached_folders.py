"""Folders that are built once, however many processes ask for them at the same time."""

import threading
from pathlib import Path

import pytest

from panovlm.runtime.cached_folders import build_once


def test_of_several_that_ask_at_once_one_builds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path))
    begun, built, found = threading.Event(), [], []

    def build(folder: Path) -> None:
        built.append(folder)
        begun.set()
        threading.Event().wait(0.2)
        (folder / "weights").write_text("x")

    def ask() -> None:
        found.append(build_once("backbone", {"version": 1}, build))

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(built) == 1
    assert found == [tmp_path / "backbone"] * 3
    assert (tmp_path / "backbone" / "weights").read_text() == "x"
