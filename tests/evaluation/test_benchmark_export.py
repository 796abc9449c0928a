"""An exported benchmark is read back in the other tool's format, and scored there as here."""

import base64
import csv
import importlib.util
import json
import math
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from PIL import Image

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmark_export import export_benchmark
from panovlm.evaluation.benchmarks.items import from_json
from panovlm.evaluation.benchmarks.names import BENCHMARKS
from panovlm.evaluation.lmms_eval_task import doc_of

DATA: dict[str, list[dict[str, Any]]] = {
    "quic-360": [
        {"url": "a.png", "query": "sky", "annotation": "A grey sky."},
        {"url": "a.png", "query": "sky", "annotation": "Some clouds."},
        {"url": "a.png", "query": "cars", "annotation": "NA"},
        {"url": "none.png", "query": "cars", "annotation": "None."},
    ],
    "360bench": [
        {"question": 'A "tab":\t?', "multi-choice options": "['A. one', 'B. two']", "answer": "B"},
        {"question": "Who?", "multi-choice options": "['A. he', 'B. she', 'C. None']"}
        | {"answer": "C"},
    ],
    "hstar-bench": [
        {"task": "Find it.", "yaw": [170, -170], "pitch": [-5, 5]},
        {"task": "Walk.", "yaw": [10, 20]},
    ],
}


@pytest.fixture
def data(scenes_file: Path, tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(scenes_file.parent / "0.png", folder / "a.png")
    (folder / "annotation.json").write_text(json.dumps(DATA["hstar-bench"]))
    files = {"hstar-bench": folder / "annotation.json", "records": scenes_file}
    same = {"image_file": "a.png", "category": "c", "l2-category": "d", "bbox": "", "index": "1"}
    tables = {"quic-360": DATA["quic-360"], "360bench": [same | row for row in DATA["360bench"]]}
    for name, rows in tables.items():
        files[name] = folder / f"{name}.tsv"
        with files[name].open("w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0]], delimiter="\t")
            writer.writeheader()
            writer.writerows(rows)
    return files


ANSWERS = {
    "quic-360": ["A grey sky with clouds.", ""],
    "360bench": ["two", "A"],
    "hstar-bench": ["submit(175,0)", "I do not know."],
}


def utils_of(task: Path) -> ModuleType:
    """Load the file of functions as lmms-eval does."""
    spec = importlib.util.spec_from_file_location("utils", task / "utils.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def described(task: Path) -> dict[str, Any]:
    """Read a task's description, its functions by their names."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))
    (file,) = task.glob("*.yaml")
    found: dict[str, Any] = yaml.load(file.read_text(), Loader)
    return found


@pytest.mark.parametrize("name", ANSWERS)
def test_a_task_of_lmms_eval_shows_asks_and_scores_as_here(
    name: str, data: dict[str, Path], tmp_path: Path
) -> None:
    task = tmp_path / "task"
    export_benchmark(data[name], task, "lmms-eval", name=name)
    told, utils = described(task), utils_of(task)
    assert told["task"] == f"panovlm_{name.replace('-', '_')}"
    assert told["generation_kwargs"]["max_new_tokens"] == BENCHMARKS[name].max_new_tokens
    lines = Path(told["dataset_kwargs"]["data_files"]["test"]).read_text().splitlines()
    docs = [json.loads(line) for line in lines]
    items = BENCHMARKS[name].read(data[name], data[name].parent)[: len(docs)]
    assert [utils.doc_to_text(doc) for doc in docs] == [item.question for item in items]
    (shown,) = utils.doc_to_visual(docs[0])
    with Image.open(items[0].image) as picture:
        assert shown.tobytes() == picture.convert("RGB").tobytes()
    results = [
        utils.process_results(doc, [answer])
        for doc, answer in zip(docs, ANSWERS[name], strict=True)
    ]
    here = [each.value for each in BENCHMARKS[name].score(items, ANSWERS[name])]
    known = [value for value in here if value is not None]
    figures = {}
    for metric in told["metric_list"]:
        function = getattr(utils, metric["aggregation"].removeprefix("utils."))
        figures[metric["metric"]] = function([result[metric["metric"]] for result in results])
        assert metric["higher_is_better"] is True
    assert figures["score"] == pytest.approx(sum(known) / len(here))  # unreadable is wrong
    assert figures["score_readable"] == pytest.approx(sum(known) / len(known))
    assert figures["coverage"] == pytest.approx(len(known) / len(here))


def test_an_unreadable_error_is_the_largest_and_an_error_is_better_when_low(tmp_path: Path) -> None:
    row = {"refexp": [["a"]], "annotationid": 1, "xlng_deg": 0, "ylat_deg": 0, "img_cat": "b"}
    (tmp_path / "a.json").write_text(json.dumps([row | {"img_src": "p.png"}]))
    (tmp_path / "refer360images").mkdir()
    Image.new("RGB", (4, 2)).save(tmp_path / "refer360images" / "p.png")
    export_benchmark(tmp_path / "a.json", tmp_path / "task", "lmms-eval", name="refer360")
    told, utils = described(tmp_path / "task"), utils_of(tmp_path / "task")
    higher = {each["metric"]: each["higher_is_better"] for each in told["metric_list"]}
    assert higher == {"score": False, "score_readable": False, "coverage": True}
    doc = json.loads((tmp_path / "task" / "items.jsonl").read_text())
    result = utils.process_results(doc, ["somewhere"])["score"]
    assert utils.score([result]) == 180.0
    assert math.isnan(utils.score_readable([result]))
    assert utils.coverage([result]) == 0.0


@pytest.mark.parametrize("name", ANSWERS)
def test_items_survive_the_way_through_json(name: str, data: dict[str, Path]) -> None:
    items = BENCHMARKS[name].read(data[name], data[name].parent)
    again = [from_json(json.loads(json.dumps(doc_of(item, name)))["item"]) for item in items]
    assert [item.references for item in again] == [item.references for item in items]
    answers = (ANSWERS[name] * 2)[: len(items)]
    assert BENCHMARKS[name].score(again, answers) == BENCHMARKS[name].score(items, answers)


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_a_table_of_vlmevalkit_holds_choices_and_every_picture_once(
    data: dict[str, Path], tmp_path: Path
) -> None:
    csv.field_size_limit(10_000_000)
    out = tmp_path / "CHOICES_PANO.tsv"
    assert export_benchmark(data["360bench"], out, "vlmevalkit", name="360bench").num_items == 2
    first, second = table_of(out)
    assert [*first] == ["index", "image", "question", "A", "B", "C", "answer", "category"]
    assert base64.b64decode(first["image"]) == (tmp_path / "data" / "a.png").read_bytes()
    assert len(first["image"]) > 64
    assert (second["index"], second["image"]) == ("1", "0")  # as the row of that index
    assert (first["question"], first["A"], first["B"]) == ('A "tab":\t?', "one", "two")
    assert (first["C"], first["answer"]) == ("", "B")
    assert (second["C"], second["answer"]) == ("None.", "C")  # pandas reads "None" as nothing


def test_a_table_of_vlmevalkit_holds_open_questions(data: dict[str, Path], tmp_path: Path) -> None:
    csv.field_size_limit(10_000_000)
    out = tmp_path / "QUIC.tsv"
    done = export_benchmark(data["quic-360"], out, "vlmevalkit", name="quic-360")
    assert (done.num_items, done.num_without_picture) == (2, 1)
    sky, cars = table_of(out)
    assert [*sky] == ["index", "image", "question", "answer", "category"]
    assert json.loads(sky["answer"]) == ["A grey sky.", "Some clouds."]
    assert (cars["answer"], cars["category"]) == ("NA.", "cars")


def test_records_are_exported_too(data: dict[str, Path], tmp_path: Path) -> None:
    done = export_benchmark(data["records"], tmp_path / "task", "lmms-eval", limit=3)
    assert done.num_items == 3
    utils = utils_of(tmp_path / "task")
    docs = [json.loads(line) for line in (tmp_path / "task" / "items.jsonl").open()]
    answers = [f" {docs[0]['target'].upper()}. ", "nonsense", ""]
    pairs = zip(docs, answers, strict=True)
    results = [utils.process_results(doc, [answer])["score"] for doc, answer in pairs]
    assert utils.score(results) == pytest.approx(1 / 3)
    assert utils.score_readable(results) == 0.5


@pytest.mark.parametrize("target", ["vlmevalkit", "lmms-eval"])
def test_only_pictures_of_the_folder_are_published(tmp_path: Path, target: str) -> None:
    inside, outside = tmp_path / "data", tmp_path / "private"
    for folder in (inside, outside):
        folder.mkdir()
        Image.new("RGB", (64, 32)).save(folder / "a.png")
    (inside / "b.png").write_text("password: 1234")
    (inside / "cut.png").write_bytes((inside / "a.png").read_bytes()[:60])
    (inside / "link.png").symlink_to(outside / "a.png")
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    for named, said in {
        "/etc/passwd": "found a file outside",
        "../private/a.png": "found a file outside",
        str(outside / "a.png"): "found a file outside",
        "link.png": "found a file outside",
        "b.png": "found no readable picture",
        "cut.png": "found a truncated or damaged file",
    }.items():
        lines = [{"image": image, "messages": messages} for image in ("a.png", named)]
        file = inside / "records.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        with pytest.raises(PanoVLMError, match=said):
            export_benchmark(file, tmp_path / "OUT.tsv", target)
        assert not (tmp_path / "OUT.tsv").exists()
    file.write_text(json.dumps({"image": "../private/a.png", "messages": messages}))
    export_benchmark(file, tmp_path / "OUT.tsv", target, images=tmp_path)


def test_mistakes_are_named(data: dict[str, Path], tmp_path: Path) -> None:
    out, given = tmp_path / "task", data["quic-360"]
    for target, name, error in [
        ("helm", "quic-360", "found --to helm, expected one of lmms-eval, vlmevalkit"),
        ("lmms-eval", "quic", "found --benchmark quic, expected one of quic-360"),
        ("vlmevalkit", "quic-360", "expected a name that ends in .tsv"),
    ]:
        with pytest.raises(PanoVLMError, match=error):
            export_benchmark(given, out, target, name=name)
        assert not out.exists()
    with pytest.raises(PanoVLMError, match="found something there already"):
        export_benchmark(given, given, "vlmevalkit", name="quic-360")
    with pytest.raises(PanoVLMError, match="found no such folder"):
        export_benchmark(given, tmp_path / "a" / "b.tsv", "vlmevalkit", name="quic-360")
    with pytest.raises(PanoVLMError, match="found none of the 3 pictures"):
        export_benchmark(given, out, "lmms-eval", name="quic-360", images=tmp_path)
    turns = [{"role": role, "content": "?"} for role in ("user", "assistant") * 2]
    (tmp_path / "long.jsonl").write_text(json.dumps({"image": "data/a.png", "messages": turns}))
    with pytest.raises(PanoVLMError, match="item 1: found a conversation of 3 messages"):
        export_benchmark(tmp_path / "long.jsonl", out, "lmms-eval")
