"""`panovlm evaluate`: a model's scores beside its baselines, as JSON and as a page."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from panovlm.errors import PanoVLMError
from panovlm.evaluation.asking import EvaluationOptions, Evaluator, ask_all
from panovlm.evaluation.benchmarks.files import is_there
from panovlm.evaluation.benchmarks.items import Benchmark, Item, as_json
from panovlm.evaluation.benchmarks.names import BENCHMARKS, RECORDS_NAME
from panovlm.evaluation.guests import GuestEvaluator
from panovlm.evaluation.journal import Journal, is_journal
from panovlm.evaluation.judge import Judge
from panovlm.evaluation.ours import OurEvaluator
from panovlm.evaluation.pages.page import EVALUATE, is_page_of, write_page
from panovlm.evaluation.report import report_of, rows
from panovlm.evaluation.scoring import score_answers
from panovlm.figures.views_sheet import draw_views_sheet
from panovlm.inference.guests import Guest
from panovlm.pictures.panorama import load_panorama
from panovlm.runtime.files import check_output, has_keys, write_own
from panovlm.runtime.measure import peak_memory_mb
from panovlm.runtime.progress import console
from panovlm.stages import STAGES
from panovlm.training import ranks
from panovlm.training.log import read_log
from panovlm.training.outputs import STAGE_FACTS, load_result

PACKAGES = ("panovlm", "torch", "transformers", "peft", "accelerate", "numpy", "pillow")


@dataclass(frozen=True)
class Questions:
    """The items of a benchmark that can be asked.

    Attributes:
        data: Its file or folder.
        images: Folder of its pictures.
        items: Those with a picture.
        num_missing: How many have none.
    """

    data: Path
    images: Path
    items: Sequence[Item]
    num_missing: int


def read_questions(
    name: str, data: Path, images: Path | None = None, limit: int | None = None
) -> Questions:
    """Read a benchmark.

    Args:
        name: One of `BENCHMARKS`.
        data: Its file or folder, in the format it is published in.
        images: Folder of its pictures; that of the file if left out.
        limit: Only the first so many items that have a picture.

    Raises:
        PanoVLMError: If the benchmark is unknown, a file is invalid, or no item has a picture.
    """
    if name not in BENCHMARKS:
        raise PanoVLMError(f"found --benchmark {name}, expected one of {', '.join(BENCHMARKS)}")
    folder = images or (data if data.is_dir() else data.parent)
    listed = BENCHMARKS[name].read(data, folder)
    found = [item for item in listed if is_there(item.image)]
    if not found:
        raise PanoVLMError(
            f"found none of the {len(listed)} pictures, as {listed[0].image}; say where they are "
            "with --images"
        )
    return Questions(data, folder, found[:limit], len(listed) - len(found))


def evaluate(
    model: Path | Guest,
    data: Path,
    out: Path,
    name: str = RECORDS_NAME,
    *,
    images: Path | None = None,
    limit: int | None = None,
    since: float | None = None,
    judge: Judge | None = None,
    options: EvaluationOptions | None = None,
) -> dict[str, Any]:
    """Score a model on records or on a published benchmark, and write its report.

    Processes that `torchrun` started share the questions; the first one writes.

    Answers are kept beside `out` as they are given (`.jsonl`) until the report is written: started
    again with the same model, data and settings, a killed evaluation goes on, and ends with the
    same report but for the times and the memory, which are those of the last start.

    Args:
        model: A model's folder or a run, or a model of others.
        data: As in `read_questions`, like `name`, `images` and `limit`.
        out: JSON file; the page is written beside it with the ending `.html`.
        name: Of the benchmark.
        images: Folder of its pictures.
        limit: Most items.
        since: Unix time at which the whole job began, if this is the end of one.
        judge: Grades answers where the published score is a judge's.
        options: What is asked besides; the blind baseline if left out. Yaw-rotated pictures are
            shown only where it is known what is correct then.

    Returns:
        The report. Items whose picture is not there are counted in `items_without_picture` and
        not asked.

    Raises:
        PanoVLMError: If a file is invalid, the benchmark is unknown or takes no judge, or the model
            does not take the options.
    """
    started, options = time.perf_counter(), options or EvaluationOptions()
    ranks.initialize()
    run = model if isinstance(model, Path) else None
    with ranks.synchronized():
        if judge and name in BENCHMARKS and BENCHMARKS[name].rubric is None:
            raise PanoVLMError(f"found a judge, but {name} is scored by rule; leave out --judge")
        check_report(out, [path for path in (run, data) if path])
        questions = read_questions(name, data, images, limit)
    benchmark = BENCHMARKS[name]
    items = [item.declared_by(options.declared) for item in questions.items]
    if isinstance(model, Path):
        evaluator: Evaluator = OurEvaluator.load(model, benchmark, items, options)
    else:
        evaluator = GuestEvaluator(model, benchmark, items, options)
    evaluator.journal = _journal(evaluator, items, options, out.with_suffix(".jsonl"))
    texts = ask_all(evaluator, benchmark, items, options)

    def report() -> dict[str, Any]:
        answers = score_answers(benchmark, items, texts, judge)
        stages = _stage_facts(run) if run else {}
        facts = {
            **benchmark_facts(name, benchmark),
            **report_of(benchmark, answers, evaluator.perspective),
            **evaluator.usage,
            "judge": judge.facts(benchmark.rubric) if judge and benchmark.rubric else None,
            "stages": stages,
            **_spent(stages.values(), started, since),
            "versions": versions(),
            "items_without_picture": questions.num_missing,
            "settings": _settings(evaluator.name, questions, options),
        }
        whole = {**facts, "predictions": rows(benchmark, answers)}
        _write(whole, out)
        write_page(
            "report.html.jinja",
            out.with_suffix(".html"),
            EVALUATE,
            report=whole,
            logs=_logs(run) if run else {},
            views_sheet=draw_views_sheet(load_panorama(items[0].picture), evaluator.layout)
            if options.show in ("views", "sheet")
            else None,
        )
        evaluator.journal.end()
        return facts

    return ranks.run_on_first(report)


def _journal(
    evaluator: Evaluator, items: Sequence[Item], options: EvaluationOptions, path: Path
) -> Journal:
    """Open the file of the answers, which rest on the model, the questions and how it is asked."""
    facts = {
        "items": hashlib.sha256("\n".join(map(as_json, items)).encode()).hexdigest(),
        **asdict(options),
        **evaluator.identity,
        "versions": versions(),
        "cuda": torch.cuda.is_available(),
    }
    journal = ranks.run_on_first(lambda: Journal(path, facts))
    if journal.num_kept:
        console.print(f"{journal.num_kept} answers kept from before in {path}")
    return journal


def benchmark_facts(name: str, benchmark: Benchmark) -> dict[str, Any]:
    """Return what a report says of its benchmark."""
    return {
        "benchmark": name,
        "metric": benchmark.metric,
        "unit": benchmark.unit.name,
        "less_is_better": benchmark.unit.less_is_better,
        "source": benchmark.source,
        "differs": benchmark.differs,
    }


def _settings(model: str, questions: Questions, options: EvaluationOptions) -> dict[str, Any]:
    return {
        "model": model,
        "data": str(questions.data),
        "images": str(questions.images),
        "items": len(questions.items),
        "cpus": os.cpu_count(),
        "processes": ranks.world_size(),
        "decoding": "greedy",
        **asdict(options),
    }


def _spent(
    stages: Collection[Mapping[str, Any]], started: float, since: float | None
) -> dict[str, float]:
    """Return what all of it took: seconds, and the memory of the largest process."""
    seconds = time.perf_counter() - started
    in_stages = seconds + sum(stage["seconds"] for stage in stages)
    return {
        "seconds_evaluation": seconds,
        "seconds_total": time.time() - since if since else in_stages,
        "peak_memory_mb": max(peak_memory_mb(), *(s["peak_memory_mb"] for s in stages), 0),
    }


def _write(report: Mapping[str, Any], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    write_own(out, lambda partial: partial.write_text(text), is_report)


def is_report(path: Path) -> bool:
    """Return whether an evaluation wrote a file."""
    return has_keys(path, ("settings", "versions", "predictions"))


def check_report(out: Path, inputs: Collection[Path]) -> None:
    """Refuse a report, its page or the file of its answers where they would cost anything.

    Raises:
        PanoVLMError: If two of them are one file, one is an input, or something is there that no
            evaluation wrote.
    """
    if out.suffix in (".html", ".jsonl"):
        raise PanoVLMError(
            f"found --out {out}, expected a name that ends in .json: a page in .html and, until "
            "the end, the answers in .jsonl go beside it; change --out"
        )
    check_output(out, is_report, inputs)
    check_output(out.with_suffix(".html"), is_page_of(EVALUATE), inputs)
    check_output(out.with_suffix(".jsonl"), is_journal, inputs)


def versions() -> dict[str, str]:
    """Return the versions that a result rests on."""
    found = {name: version(name) for name in PACKAGES}
    return found | {"python": platform.python_version()}


def _stage_facts(run: Path) -> dict[str, Any]:
    """Collect what the stages of a run reported; a lone model folder has none."""
    return {
        name: vars(load_result(run, name))
        | {"expected_first": stage.expected_first, "expected_last": stage.expected_last}
        for name, stage in STAGES.items()
        if (run / name / STAGE_FACTS).is_file()
    }


def _logs(run: Path) -> dict[str, list[dict[str, Any]]]:
    files = {name: run / "logs" / f"{name}.jsonl" for name in STAGES}
    return {name: read_log(file) for name, file in files.items() if file.is_file()}
