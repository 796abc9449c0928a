"""Every command of the README and the docs runs as written, on tiny data in their places."""

import doctest
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from panovlm.commands import app as cli
from panovlm.training.recipe import ModelSection

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NEVER_ENDS = "panovlm serve"
SMALLER = {
    "--count": "2",
    "--yaw-rotated": "2",
    "--seeds": "1",
    "--limit": "3",
    "--width": "64",
    "--face-size": "16",
    "--workers": "1",
}


def commands() -> list[str]:
    """Lines of code that call panovlm, without their comments."""
    lines = [line for page in PAGES for line in page.read_text().splitlines()]
    found = [re.match(r"(?: {4}|\$ )?(panovlm .*)", line) for line in lines]
    said = dict.fromkeys(m[1].split("#")[0].strip() for m in found if m)
    return [command for command in said if not command.startswith(NEVER_ENDS)]


def smaller(words: list[str]) -> list[str]:
    """The same command on less data."""
    for option, value in SMALLER.items():
        if option in words:
            words[words.index(option) + 1] = value
    return [*words, "--test-count", "1"] if words[1] == "scenes" else words


@pytest.fixture
def place(
    tmp_path: Path,
    model_section: ModelSection,
    scenes_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with everything the pages name: recipes, pictures, records."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path / "cache"))
    brought = {"smollm2-135m-instruct": lambda: tmp_path}
    monkeypatch.setattr("panovlm.backbones.packaged.PACKAGED", brought)
    for number, name in enumerate(("panorama", "before", "after")):
        shutil.copy(scenes_file.parent / f"{number}.png", tmp_path / f"{name}.jpg")
    (tmp_path / "photos").mkdir()
    shutil.copy(tmp_path / "panorama.jpg", tmp_path / "photos")
    (tmp_path / "QuIC-360" / "pictures").mkdir(parents=True)
    shutil.copy(tmp_path / "panorama.jpg", tmp_path / "QuIC-360" / "pictures")
    table = "url\tquery\tannotation\nhttps://example.com/panorama.jpg\tview\tA wide view.\n"
    (tmp_path / "QuIC-360" / "test.tsv").write_text(table)
    question = '{"image": "panorama.jpg", "question": "What is behind me?"}\n'
    (tmp_path / "questions.jsonl").write_text(question)
    rows = {"directions": {"name": "door", "yaw_deg": 90}}
    rows |= {"labels": {"label": "hall", "options": ["hall", "roof"]}}
    for name, row in rows.items():
        line = json.dumps({"image": "panorama.jpg"} | row)
        (tmp_path / f"{name}.jsonl").write_text(line)
    monkeypatch.setattr("builtins.input", lambda prompt: "")
    stage = {"data": str(scenes_file), "steps": 1, "batch_size": 2}
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        tiny: dict[str, Any] = {
            "output": yaml.safe_load(recipe.read_text())["output"],
            "model": model_section.model_dump(mode="json"),
            "stages": {name: stage for name in ("vision", "resampler", "finetune")},
        }
        (tmp_path / "recipes").mkdir(exist_ok=True)
        (tmp_path / "recipes" / recipe.name).write_text(yaml.safe_dump(tiny))
    return tmp_path


def test_every_command_and_every_snippet_of_the_readme_runs(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run: Callable[[], None] = cli.main
    assert len(commands()) >= 6
    for command in commands():
        monkeypatch.setattr("sys.argv", smaller(shlex.split(command)))
        with pytest.raises(SystemExit) as ended:
            run()
        assert not ended.value.code, f"{command}: {capsys.readouterr().err}"
    pages = "".join((ROOT / page).read_text() for page in ("README.md", "docs/serving.md"))
    snippets = re.findall(r"```python\n(.*?)```", pages, re.DOTALL)
    names: dict[str, Any] = {}
    for snippet in snippets:
        exec(snippet, names)
    assert names["views"].shape == (8, 224, 224, 3)


def test_snippets_of_the_geometry_page_give_what_they_say(place: Path) -> None:
    page = ROOT / "docs" / "geometry.md"
    snippets = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
    session = doctest.DocTestParser().get_doctest(snippets, {}, page.name, str(page), 0)
    said: list[str] = []
    assert doctest.DocTestRunner().run(session, out=said.append).attempted > 20
    assert not said, "".join(said)


def test_pages_link_to_files_that_are_there() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
