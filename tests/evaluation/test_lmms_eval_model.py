"""Inside lmms-eval a model answers as it does here; a stand-in takes that package's place."""

import dataclasses
import importlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from panovlm.errors import PanoVLMError
from panovlm.evaluation.asking import ask
from panovlm.evaluation.benchmark_export import export_benchmark
from panovlm.evaluation.benchmarks.records import RECORDS
from panovlm.evaluation.lmms_eval_task import doc_to_text, doc_to_visual
from panovlm.evaluation.ours import OurEvaluator

TASK, SPLIT = "panovlm_records", "test"


class Lmms:
    """What a model inherits in lmms-eval, as far as it is used."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.cache_hook = SimpleNamespace(add_partial=lambda *given: self.kept.append(given))
        self.task_dict: dict[str, Any] = {}


@dataclasses.dataclass(frozen=True)
class Manifest:
    model_id: str
    simple_class_path: str


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The plug-in, beside lmms-eval if it is installed and its stand-in otherwise."""
    name = "panovlm.evaluation.lmms_eval_model"
    if importlib.util.find_spec("lmms_eval") is None:
        parts = ["lmms_eval", "lmms_eval.api", "lmms_eval.models"]
        modules = {part: ModuleType(part) for part in parts}
        modules["lmms_eval.api.model"] = ModuleType("lmms_eval.api.model")
        modules["lmms_eval.api.model"].lmms = Lmms  # type: ignore[attr-defined]
        modules["lmms_eval.models.registry_v2"] = ModuleType("lmms_eval.models.registry_v2")
        modules["lmms_eval.models.registry_v2"].ModelManifest = Manifest  # type: ignore[attr-defined]
        for part, module in modules.items():
            monkeypatch.setitem(sys.modules, part, module)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


@pytest.fixture
def records(scenes_file: Path, tmp_path: Path) -> Path:
    """Records whose mark is nowhere, so that the picture comes directly before the question."""
    shutil.copytree(scenes_file.parent, tmp_path / "scenes")
    text = scenes_file.read_text().replace("<image>\\n", "")
    (tmp_path / "scenes" / scenes_file.name).write_text(text)
    return tmp_path / "scenes" / scenes_file.name


@pytest.fixture
def docs(records: Path, tmp_path: Path) -> list[dict[str, Any]]:
    export_benchmark(records, tmp_path / "task", "lmms-eval")
    return [json.loads(line) for line in (tmp_path / "task" / "items.jsonl").open()]


def requests(docs: list[dict[str, Any]], options: dict[str, Any]) -> list[SimpleNamespace]:
    """Requests as lmms-eval makes them of a task's questions."""
    return [
        SimpleNamespace(args=(doc_to_text(doc), options, doc_to_visual, place, TASK, SPLIT))
        for place, doc in enumerate(docs)
    ]


def test_the_entry_point_names_the_model(plugin: ModuleType) -> None:
    told = plugin.manifest()
    module, name = told.simple_class_path.rsplit(".", 1)
    assert told.model_id == "panovlm"
    assert getattr(importlib.import_module(module), name) is plugin.PanoVLM
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'panovlm = "{plugin.__name__}:manifest"' in project


def test_answers_are_those_of_an_evaluation_here(
    plugin: ModuleType, saved_model: Path, docs: list[dict[str, Any]], records: Path
) -> None:
    model = plugin.PanoVLM(str(saved_model), batch_size=1)
    model.task_dict = {TASK: {SPLIT: docs}}
    asked = requests(docs, {"max_new_tokens": 8, "temperature": 0})
    said = model.generate_until(asked)
    items = RECORDS.read(records, records.parent)
    evaluator = OurEvaluator(
        model.model,
        model.processor,
        [item.picture for item in items],
        use_bf16=False,
        max_new_tokens=8,
    )
    assert said == ask(evaluator, "here", items, "original")
    assert len({*said}) > 1
    assert model.generate_until(asked[::-1]) == said[::-1]


def test_answers_end_where_a_task_says(
    plugin: ModuleType, saved_model: Path, docs: list[dict[str, Any]]
) -> None:
    model = plugin.PanoVLM(str(saved_model))
    model.task_dict = {TASK: {SPLIT: docs}}
    (whole,) = model.generate_until(requests(docs[:1], {"max_new_tokens": 8}))
    stop = whole[3:5]
    for until in (stop, [stop, ""]):
        (cut,) = model.generate_until(requests(docs[:1], {"max_new_tokens": 8, "until": until}))
        assert cut == whole.split(stop)[0].strip()


@pytest.mark.parametrize(
    ("shown", "error"),
    [
        ([], "found 0 visuals, expected one picture"),
        ([Image.new("RGB", (8, 4))] * 2, "found 2 visuals"),
        (["video.mp4"], "found 1 visuals"),
        (None, "found NoneType"),
        ([Image.new("RGB", (8, 8))], "expected"),
    ],
)
def test_what_is_no_panorama_is_refused(
    plugin: ModuleType, saved_model: Path, docs: list[dict[str, Any]], shown: Any, error: str
) -> None:
    model = plugin.PanoVLM(str(saved_model))
    model.task_dict = {TASK: {SPLIT: docs}}
    request = SimpleNamespace(args=("?", {}, lambda doc: shown, 0, TASK, SPLIT))
    with pytest.raises(PanoVLMError, match=error):
        model.generate_until([request])


def test_other_ways_of_scoring_are_refused(plugin: ModuleType, saved_model: Path) -> None:
    model = plugin.PanoVLM(str(saved_model))
    with pytest.raises(PanoVLMError, match="scored by likelihoods"):
        model.loglikelihood([])
    with pytest.raises(PanoVLMError, match="several rounds"):
        model.generate_until_multi_round([])
