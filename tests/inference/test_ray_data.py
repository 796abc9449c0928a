"""Bulk inference: two workers of Ray Data answer as the command does, each picture opened once."""

import json
import re
import runpy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from panovlm.errors import PanoVLMError
from panovlm.inference.answers import SamplingParams
from panovlm.inference.assistant import Assistant
from panovlm.inference.bulk import answer_file

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
ray_data = pytest.importorskip("panovlm.inference.ray_data")

PAGE = Path(__file__).parents[2] / "docs" / "tasks" / "bulk.md"
TEXTS = ["What is behind me?", "Left?", "How many red boxes are there?"]


@pytest.fixture
def place(
    assistant: Assistant,
    pictures: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Where the page's example runs: a model, and questions that jump from picture to picture."""
    monkeypatch.chdir(tmp_path)
    assistant.model.save_pretrained("runs/demo")
    assistant.processor.save_pretrained("runs/demo")
    names = [str(picture) for picture in pictures] + ["missing.png"]
    lines: list[dict[str, Any]] = [{"image": n, "question": t} for t in TEXTS for n in names]
    lines.append({"image": names[0], "question": None})
    numbered = [{**line, "id": number} for number, line in enumerate(lines)]
    Path("questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in numbered))
    return tmp_path


@pytest.fixture
def cluster(place: Path) -> Iterator[None]:
    """Two cores of this machine; its processes start in the example's folder."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 << 20)
    yield
    ray.shutdown()


@pytest.fixture
def opened(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in which the workers log the names of the pictures that they open."""
    log = place / "opened"

    class Watched(ray_data.DatasetAnswerer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, dtype="fp32", **kwargs)  # as the fixture's
            assistant = self._answerer._assistant
            whole = assistant.open

            def noted(panorama: Path, declared: Any) -> Any:
                with log.open("a") as file:
                    file.write(f"{panorama.name}\n")
                return whole(panorama, declared)

            assistant.open = noted

    monkeypatch.setattr(ray_data, "DatasetAnswerer", Watched)
    return log


def outcome_of(line: dict[str, Any]) -> dict[str, Any]:
    """Return the question and outcome of a line, whichever way it was asked."""
    names = ("image", "question", "id", "answer", "finish_reason", "grounding", "regions", "error")
    return {name: line.get(name) for name in names}


@pytest.mark.usefixtures("cluster")
def test_the_pages_example_answers_as_the_command_does_and_opens_each_picture_once(
    assistant: Assistant, pictures: list[Path], place: Path, opened: Path
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (place / "example.py").write_text(example)
    runpy.run_path("example.py")
    table = parquet.read_table("answers")
    found = sorted(table.to_pylist(), key=lambda line: line["id"])
    out = place / "answers.jsonl"
    answer_file(assistant, place / "questions.jsonl", out, grounded=True, sampling=SamplingParams())
    expected = [outcome_of(json.loads(line)) for line in out.read_text().splitlines()]
    assert [outcome_of(line) for line in found] == expected
    assert sum(line["error"] is not None for line in found) == len(TEXTS) + 1
    counts = Counter(opened.read_text().split())
    assert {counts[picture.name] for picture in pictures} == {1}


def test_types_are_the_same_where_nothing_was_answered_and_old_outcomes_go(
    place: Path, pictures: list[Path]
) -> None:
    short = SamplingParams(max_tokens=6)
    answerer = ray_data.DatasetAnswerer("runs/demo", "", short, grounded=True)
    good = {"image": str(pictures[0]), "question": "Left?", "error": "once"}
    bad = {"image": "missing.png", "question": "Left?", "error": "once"}
    answered, refused = (answerer(pa.Table.from_pylist([row])) for row in (good, bad))
    assert answered.schema == refused.schema
    assert answered["error"].to_pylist() == [None]
    assert answered["answer"].to_pylist() != [None]
    assert "no such file" in refused["error"].to_pylist()[0]
    assert refused["answer"].to_pylist() == refused["grounding"].to_pylist() == [None]


def test_a_batch_without_its_columns_is_refused(place: Path) -> None:
    answerer = ray_data.DatasetAnswerer("runs/demo")
    with pytest.raises(PanoVLMError, match=r"picture, question without image.*rename_columns"):
        answerer(pa.Table.from_pylist([{"picture": "a.jpg", "question": "Left?"}]))
