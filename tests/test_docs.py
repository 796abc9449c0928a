"""Every command and every snippet of the pages runs as written, on tiny data in their places."""

import ast
import doctest
import json
import re
import shlex
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import yaml

import panovlm
from panovlm.commands import app as cli
from panovlm.training.sections import ModelSection

ROOT = Path(__file__).parents[1]
NAVIGATION = re.findall(r"\S+\.md$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
PAGES = [ROOT / "README.md", *(ROOT / "docs" / page for page in NAVIGATION)]  # as one reads them
TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"
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


def code_of(page: Path, language: str) -> list[str]:
    """The blocks of code of a language on a page, without the indent that lists give them."""
    blocks = re.findall(
        rf"^ *```{language}\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE
    )
    return [textwrap.dedent(block) for block in blocks]


def commands() -> list[str]:
    """Lines of shell code that call panovlm, without their comments."""
    lines = [
        line for page in PAGES for block in code_of(page, "bash") for line in block.split("\n")
    ]
    found = [line.split("#")[0].strip() for line in lines if line.startswith("panovlm ")]
    return [each for each in dict.fromkeys(found) if not each.startswith(NEVER_ENDS)]


def smaller(words: list[str]) -> list[str]:
    """The same command on less data."""
    for option, value in SMALLER.items():
        if option in words:
            words[words.index(option) + 1] = value
    return [*words, "--test-count", "1"] if words[1] == "scenes" else words


def annotate(file: Path, pictures: list[Path]) -> None:
    """Write that there is a car in each of some pictures, of different places."""
    size = {"pitch_deg": 0, "width_deg": 9, "height_deg": 9}
    lines = [
        {
            "image": str(picture),
            "digest": picture.stem,
            "teacher": {"name": "oracle", "labels": ["car", "dog"]},
            "group": picture.stem,
            "sightings": [{"label": "car", "yaw_deg": 90, **size}],
        }
        for picture in pictures
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_video(path: Path) -> None:
    """A second of a grey panorama."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        grey = av.VideoFrame.from_ndarray(np.full((32, 64, 3), 90, np.uint8), format="rgb24")
        container.mux([*stream.encode(grey), *stream.encode()])


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
    detector = "panovlm.annotating.packaged"
    monkeypatch.setattr(f"{detector}.PackagedTeacher.prepare", lambda teacher: None)
    monkeypatch.setattr(f"{detector}._detector", lambda: None)
    monkeypatch.setattr(f"{detector}.detect", lambda *given: [])
    for number, name in enumerate(("panorama", "before", "after")):
        shutil.copy(scenes_file.parent / f"{number}.png", tmp_path / f"{name}.jpg")
    for name in ("strip", "raw", "eyes"):
        shutil.copy(tmp_path / "panorama.jpg", tmp_path / f"{name}.jpg")
    write_video(tmp_path / "tour.mp4")
    (tmp_path / "photos").mkdir()
    shutil.copy(tmp_path / "panorama.jpg", tmp_path / "photos")
    (tmp_path / "QuIC-360" / "pictures").mkdir(parents=True)
    shutil.copy(tmp_path / "panorama.jpg", tmp_path / "QuIC-360" / "pictures")
    table = "url\tquery\tannotation\nhttps://example.com/panorama.jpg\tview\tA wide view.\n"
    (tmp_path / "QuIC-360" / "test.tsv").write_text(table)
    question = '{"image": "panorama.jpg", "question": "What is behind me?"}\n'
    (tmp_path / "questions.jsonl").write_text(question)
    annotate(tmp_path / "annotations.jsonl", sorted(scenes_file.parent.glob("*.png")))
    record = {"messages": [{"role": role, "content": "Wood."} for role in ("user", "assistant")]}
    rows: dict[str, dict[str, Any]] = {"records": record, "test": record}
    rows |= {"directions": {"name": "door", "yaw_deg": 90}}
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


def test_every_command_and_every_snippet_runs(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run: Callable[[], None] = cli.main
    assert len(commands()) >= 40
    # The pretrained model's backbones are downloads: a trained run stands for it.
    for command in sorted(commands(), key=lambda command: " ask small " in command):
        words = shlex.split(command.replace(" ask small ", " ask runs/demo "))
        monkeypatch.setattr("sys.argv", smaller(words))
        with pytest.raises(SystemExit) as ended:
            run()
        assert not ended.value.code, f"{command}: {capsys.readouterr().err}"
    pages = (ROOT / name for name in ("README.md", "docs/tasks/views.md", "docs/tasks/ask.md"))
    names: dict[str, Any] = {}
    for snippet in [snippet for page in pages for snippet in code_of(page, "python")]:
        exec(snippet, names)
    assert names["views"].shape == (8, 224, 224, 3)


def test_snippets_of_the_geometry_page_print_what_they_show(place: Path) -> None:
    page = ROOT / "docs" / "tasks" / "geometry.md"
    snippets = "\n".join(code_of(page, "python"))
    session = doctest.DocTestParser().get_doctest(snippets, {}, page.name, str(page), 0)
    said: list[str] = []
    assert doctest.DocTestRunner().run(session, out=said.append).attempted > 20
    assert not said, "".join(said)


def test_pages_link_to_files_that_are_there() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def texts_of_the_package() -> str:
    """Every text in the package's code, a line each; what is put into them reads "..."."""
    files = (ROOT / "panovlm").rglob("*.py")
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    return "\n".join(filter(None, map(_text, nodes)))


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "..." for part in node.values)
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return node.value if is_text else ""


def test_messages_of_the_troubleshooting_page_stand_in_the_code() -> None:
    quoted = re.findall(r"^(?:### |\| )(`+) ?(.+?) ?\1", TROUBLESHOOTING.read_text(), re.MULTILINE)
    assert len(quoted) > 40
    texts = texts_of_the_package()
    missing = [message for _, message in quoted if message not in texts]
    assert not missing, f"{TROUBLESHOOTING.name} quotes what no message says: {missing}"


def test_api_page_documents_every_public_name() -> None:
    page = (ROOT / "docs" / "reference" / "api.md").read_text()
    documented = {path.rpartition(".")[2] for path in re.findall(r"^::: (\S+)", page, re.MULTILINE)}
    assert set(panovlm.__all__) <= documented


def test_every_command_is_on_the_page_of_commands() -> None:
    page = (ROOT / "docs" / "reference" / "commands.md").read_text()
    for app, group in ((cli.app, ""), (cli.data_app, "data ")):
        for command in app.registered_commands:
            assert command.callback
            name = command.name or command.callback.__name__
            assert f"| `{group}{name} " in page or f"| `{group}{name}`" in page, name
