"""No command removes or replaces what it has not written itself, whatever stands in its way."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

Cli = Callable[..., tuple[int, str, str]]
TEXT = "years of work"


@pytest.fixture
def home(tmp_path: Path, scenes_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an input of each kind."""
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path / "cache"))
    with Image.open(scenes_file.parent / "0.png") as picture:
        picture.save(tmp_path / "a.png")
    line = {"image": "a.png", "messages": [{"role": "user", "content": "Where?"}]}
    line["messages"] = [*line["messages"], {"role": "assistant", "content": "left"}]
    (tmp_path / "in.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "q.jsonl").write_text(json.dumps({"image": "a.png", "question": "Where?"}) + "\n")
    for name in ("one.json", "two.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


FILES = {
    "views": ("views IN/a.png --view-size 16 --num-views 4 --out OUT", "v.png"),
    "convert": ("convert IN/a.png OUT --to equirectangular --overwrite", "sphere.jpg"),
    "data check": ("data check IN/in.jsonl --workers 1 --json OUT", "check.json"),
    "data convert": ("data convert IN/in.jsonl OUT --overwrite", "out.json"),
    "data convert --to csv": ("data convert IN/in.jsonl OUT --overwrite", "out.csv"),
    "data export": ("data export IN/in.jsonl OUT --to vlmevalkit", "T.tsv"),
    "features": ("features IN/model IN/a.png --out OUT", "f.png"),
    "occlude": ("occlude IN/model IN/a.png What? --out OUT", "o.png"),
    "occlude --json": ("occlude IN/model IN/a.png What? --out IN/new.png --json OUT", "o.json"),
    "compare": ("compare IN/one.json IN/two.json --out OUT", "page.html"),
    "evaluate": ("evaluate IN/model --data IN/in.jsonl --out OUT", "report.json"),
    "evaluate, page": ("evaluate IN/model --data IN/in.jsonl --out IN/r.json", "r.html"),
    "evaluate, answers": ("evaluate IN/model --data IN/in.jsonl --out IN/r.json", "r.jsonl"),
    "ask": ("ask IN/model --in IN/q.jsonl --out OUT", "answers.jsonl"),
    "train, log": ("train IN/recipe.yaml", "run/logs/resampler.jsonl"),
}
"""Commands that write a file, and its name; IN is the folder, OUT the file in it."""
FOLDERS = {
    "convert": (
        "convert IN/a.png OUT --to views --view-size 16 --num-views 4 --overwrite",
        "views",
    ),
    "convert, views": ("convert IN/a.png IN/out --to views --view-size 16 --overwrite", "out/a"),
    "scenes": ("scenes --out OUT --count 1 --test-count 1 --workers 1", "scenes"),
    "data convert": ("data convert IN/in.jsonl OUT --to datasets --overwrite", "set"),
    "data export": ("data export IN/in.jsonl OUT --to lmms-eval", "task"),
    "merge": ("merge IN/model IN/adapter OUT", "merged"),
    "export": ("export IN/model OUT", "exported"),
    "train, stage": ("train IN/recipe.yaml", "run/vision"),
    "train, checkpoints": ("train IN/recipe.yaml", "run/checkpoints/vision"),
}


def a_file(path: Path) -> None:
    path.write_text(TEXT)


def a_file_without_an_end_of_line_in_bytes(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\xff")


def a_file_like_its_own(path: Path) -> None:
    """What another program writes in the same format."""
    if path.suffix in (".png", ".jpg"):
        Image.new("RGB", (8, 4)).save(path)
    elif path.suffix in (".json", ".jsonl"):
        path.write_text('{"answer": 42}\n')
    else:
        path.write_text("<!DOCTYPE html>\n<html><head></head>\n")


def a_folder(path: Path) -> None:
    path.mkdir()
    for name in ("thesis.txt", "view_00.jpg", "views.json", "config.json", "checkpoint-9/x"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(TEXT)


def a_link_to_a_file(path: Path) -> None:
    (path.parent / "kept.txt").write_text(TEXT)
    path.symlink_to("kept.txt")


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


def a_link_to_a_folder(path: Path) -> None:
    a_folder(path.parent / "kept")
    path.symlink_to("kept")


def tree(folder: Path) -> dict[str, str | bytes | None]:
    """All that a folder holds: links by their target, files by their bytes."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


def words_of(command: str, home: Path, out: Path) -> list[str]:
    """The words of a command line; a recipe is written where one is named."""
    return [word.replace("OUT", str(out)).replace("IN/", f"{home}/") for word in command.split()]


OBSTACLES = [
    a_file,
    a_file_without_an_end_of_line_in_bytes,
    a_file_like_its_own,
    a_folder,
    a_link_to_a_file,
    a_link_to_nothing,
    a_link_to_a_folder,
]
WRITTEN_INTO = (a_folder, a_link_to_a_folder)
"""`convert --overwrite` takes a folder of other things, and writes beside them."""


def written_at(
    obstacle: Callable[[Path], None],
    command: str,
    case: tuple[str, str],
    home: Path,
    run_cli: Cli,
) -> tuple[Path, str]:
    """Run a command whose output is taken; it must leave all as it is. Returns output, errors."""
    line, name = case
    out = home / name
    out.parent.mkdir(parents=True, exist_ok=True)
    obstacle(out)
    before = tree(home)
    code, _, err = run_cli(*words_of(line, home, out))
    assert before.items() <= tree(home).items()
    is_beside = command == "convert" and obstacle in WRITTEN_INTO
    assert code == (0 if is_beside else 2), err
    return out, err


@pytest.mark.parametrize("obstacle", OBSTACLES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("command", FILES)
def test_a_file_is_written_over_nothing_of_others(
    command: str,
    obstacle: Callable[[Path], None],
    home: Path,
    recipe_file: Path,
    saved_model: Path,
    run_cli: Cli,
) -> None:
    out, err = written_at(obstacle, command, FILES[command], home, run_cli)
    assert str(out) in err or (command == "convert" and obstacle in WRITTEN_INTO)


@pytest.mark.parametrize(
    "obstacle",
    [a_file, a_folder, a_link_to_a_file, a_link_to_a_folder],
    ids=lambda each: each.__name__,
)
@pytest.mark.parametrize("command", FOLDERS)
def test_a_folder_is_written_over_nothing_of_others(
    command: str,
    obstacle: Callable[[Path], None],
    home: Path,
    recipe_file: Path,
    saved_model: Path,
    run_cli: Cli,
) -> None:
    written_at(obstacle, command, FOLDERS[command], home, run_cli)


@pytest.mark.parametrize("command", FILES)
def test_no_input_is_written_over(
    command: str, home: Path, recipe_file: Path, saved_model: Path, run_cli: Cli
) -> None:
    line, _ = FILES[command]
    before = tree(home)
    for given in ("a.png", "in.jsonl", "q.jsonl", "one.json", "recipe.yaml", "model/config.json"):
        if f"IN/{given}" in line:
            assert run_cli(*words_of(line, home, home / given))[0] in (0, 2)
            assert before.items() <= tree(home).items()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder that nobody can write to")
@pytest.mark.parametrize("command", ["views", "convert", "data check", "data convert", "ask"])
def test_a_place_that_cannot_be_written_to_is_an_error(
    command: str, home: Path, saved_model: Path, run_cli: Cli
) -> None:
    line, name = FILES[command]
    code, _, err = run_cli(*words_of(line, home, Path("/proc/self", name)))
    assert code == 2
    assert name in err


@pytest.mark.parametrize(
    "command",
    ["views", "convert", "data check", "data convert", "data convert --to csv", "evaluate"],
)
def test_what_a_command_wrote_it_replaces(
    command: str, home: Path, saved_model: Path, run_cli: Cli
) -> None:
    line, name = FILES[command]
    for _ in range(2):
        code, _, err = run_cli(*words_of(line, home, home / name))
        assert code == 0, err
    assert (home / name).stat().st_size


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_sheets_of_every_format_know_their_command(ending: str, home: Path, run_cli: Cli) -> None:
    out = home / f"v.{ending}"
    line = FILES["views"][0]
    assert run_cli(*words_of(line, home, out))[0] == 0
    assert run_cli(*words_of(line, home, out))[0] == 0
    assert run_cli("features", home, home / "a.png", "--out", out)[0] == 2  # which did not write it


def test_a_report_its_page_and_its_answers_are_three_files(
    home: Path, saved_model: Path, run_cli: Cli
) -> None:
    for ending in ("html", "jsonl"):
        words = (
            "evaluate",
            saved_model,
            "--data",
            home / "in.jsonl",
            "--out",
            home / f"r.{ending}",
        )
        code, _, err = run_cli(*words)
        assert code == 2
        assert "ends in .json" in err
    records = (home / "in.jsonl").read_text()
    words = ("evaluate", saved_model, "--data", home / "in.jsonl", "--out", home / "in.json")
    code, _, err = run_cli(*words)  # whose answers would go to in.jsonl
    assert code == 2
    assert "found the input itself" in err
    assert (home / "in.jsonl").read_text() == records


def test_a_lock_of_another_program_stays(home: Path, recipe_file: Path, run_cli: Cli) -> None:
    (home / "run").mkdir()
    (home / "run" / ".lock").write_text(TEXT)
    assert run_cli("train", recipe_file, "--stage", "vision")[0] == 0
    assert (home / "run" / ".lock").read_text() == TEXT
    assert yaml.safe_load(recipe_file.read_text())["output"] == str(home / "run")


def test_the_cache_removes_only_what_a_run_described(home: Path, run_cli: Cli) -> None:
    others = home / "cache" / "patch-tokens" / "mine" / "a.npy"
    others.parent.mkdir(parents=True)
    others.write_text(TEXT)
    assert run_cli("cache", "--prune", "--all")[0] == 0
    assert others.read_text() == TEXT
