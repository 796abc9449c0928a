"""`panovlm data export`: benchmarks as tasks of lmms-eval and as tables of VLMEvalKit."""

import base64
import csv
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment

from panovlm.data.record_files import raise_errors
from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.choosing import LETTERS
from panovlm.evaluation.benchmarks.items import Benchmark, Item
from panovlm.evaluation.benchmarks.names import BENCHMARKS, RECORDS_NAME
from panovlm.evaluation.lmms_eval_task import METRICS, doc_of
from panovlm.evaluation.run import Questions, read_questions
from panovlm.pictures.publishing import publishing_error
from panovlm.runtime.files import whole_folder, write_whole

TASK = Path(__file__).with_name("lmms_eval_task.yaml.jinja")
UTILS = '''"""Shows, asks and scores as panovlm does, which has to be installed."""

from panovlm.evaluation.lmms_eval_task import *
'''
RECORD_TOKENS = 64
"""Longest answer to a record, in tokens of any model."""
MISSING = re.compile(
    r"#N/A(?: N/A)?|#NA|-?1\.#(?:IND|QNAN)|-?NaN|-?nan|<NA>|N/A|n/a|NA|NULL|null|None"
)
"""Texts that pandas, by which VLMEvalKit reads tables, takes for no value."""


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Attributes:
        num_items: Questions written.
        num_without_picture: Questions left out because their picture is not there.
    """

    num_items: int
    num_without_picture: int


def export_benchmark(
    data: Path,
    out: Path,
    target: str,
    *,
    name: str = RECORDS_NAME,
    images: Path | None = None,
    limit: int | None = None,
) -> Exported:
    """Write a benchmark in another tool's format.

    Args:
        data: The benchmark's file or folder, in the format it is published in.
        out: For lmms-eval a folder to make, to be named by `--include_path` there; for VLMEvalKit
            a table to write, whose name is that of the data set there.
        target: A key of `TARGETS`.
        name: A key of `BENCHMARKS`.
        images: Folder of its pictures, and of all that is published; that of the file if left out.
        limit: Only the first so many items that have a picture.

    Raises:
        PanoVLMError: If a name is unknown, something is at `out`, no item has a picture, one names
            a file that is no picture or lies outside the folder, or the format holds nothing of the
            benchmark.
    """
    if target not in TARGETS:
        raise PanoVLMError(f"found --to {target}, expected one of {', '.join(TARGETS)}")
    _check_free(out)
    questions = read_questions(name, data, images, limit)
    raise_errors(f"{data}, to be published,", _errors(questions))
    TARGETS[target](questions.items, name, out)
    return Exported(len(questions.items), questions.num_missing)


def _errors(questions: Questions) -> Iterator[str]:
    """Yield what other tools cannot ask, and what is not to be published."""
    for item in questions.items:
        if item.declared:
            yield (
                f"item {item.name}: found `declared` of its picture, which other tools do not "
                "know, expected full spheres; make them with `panovlm convert`"
            )
        if len(item.prompt) > 1:
            yield (
                f"item {item.name}: found a conversation of {len(item.prompt)} messages, expected "
                "one question, which is all that other tools ask; leave longer ones out"
            )
    for picture in dict.fromkeys(item.image for item in questions.items):
        if error := publishing_error(picture, questions.images):
            yield error


def _check_free(out: Path) -> None:
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise PanoVLMError(f"{out}: found something there already; name another, or remove it")
    if not out.parent.is_dir():
        raise PanoVLMError(f"{out.parent}: found no such folder, expected one to write in; make it")


def _write_lmms_eval(items: Sequence[Item], name: str, out: Path) -> None:
    """Write a task: its description, its questions and the functions that score it."""
    task = f"panovlm_{name.replace('-', '_')}"
    lines = (json.dumps(doc_of(item, name), ensure_ascii=False) + "\n" for item in items)
    with whole_folder(out) as folder:
        text = _task(task, BENCHMARKS[name], out.resolve() / "items.jsonl")
        (folder / f"{task}.yaml").write_text(text, encoding="utf-8")
        (folder / "utils.py").write_text(UTILS, encoding="utf-8")
        with (folder / "items.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(lines)


def _task(task: str, benchmark: Benchmark, items: Path) -> str:
    environment = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    return environment.from_string(TASK.read_text(encoding="utf-8")).render(
        task=task,
        items=json.dumps(str(items)),
        max_new_tokens=benchmark.max_new_tokens or RECORD_TOKENS,
        metrics=METRICS,
        less_is_better=benchmark.unit.less_is_better,
        source=json.dumps(benchmark.source),
    )


def _write_vlmevalkit(items: Sequence[Item], name: str, out: Path) -> None:
    """Write a table with the pictures inside."""
    if out.suffix != ".tsv":
        raise PanoVLMError(f"found the table {out.name}, expected a name that ends in .tsv")
    letters = LETTERS[: max(len(item.facts.get("options", ())) for item in items)]
    head = ["index", "image", "question", *letters, "answer", "category"]

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t")
            writer.writerow(head)
            writer.writerows(_rows(items, len(letters)))

    write_whole(out, write)


def _rows(items: Sequence[Item], num_letters: int) -> Iterator[list[str]]:
    """Yield the cells of each item; a picture stands in its first row, others name that row."""
    first: dict[Path, int] = {}
    for index, item in enumerate(items):
        shown = first.setdefault(item.image, index)
        picture = str(shown) if shown != index else _base64(item.image)
        options = [_present(option) for option in item.facts.get("options", ())]
        cells = options + [""] * (num_letters - len(options))
        yield [
            str(index),
            picture,
            item.facts["stem"] if options else item.question,
            *cells,
            LETTERS[item.facts["right"]] if options else _answer(item),
            item.kind,
        ]


def _answer(item: Item) -> str:
    """Return the reference, or all of several as a list."""
    if len(item.references) > 1:
        return json.dumps(item.references, ensure_ascii=False)
    return _present(item.references[0]) if item.references else ""


def _present(text: str) -> str:
    """Add a stop to a text such as "None", which would be read as no value."""
    return f"{text}." if MISSING.fullmatch(text) else text


def _base64(picture: Path) -> str:
    return base64.b64encode(picture.read_bytes()).decode("ascii")


TARGETS: dict[str, Callable[[Sequence[Item], str, Path], None]] = {
    "lmms-eval": _write_lmms_eval,
    "vlmevalkit": _write_vlmevalkit,
}
"""Writers of the other tools' formats, by what `--to` calls them."""
