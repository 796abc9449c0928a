"""`panovlm evaluate --benchmark`: a model's scores on a benchmark, as JSON and as a page."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from panovlm.data.records import Message, Record
from panovlm.errors import PanoVLMError
from panovlm.evaluation.asking import EvaluationOptions
from panovlm.evaluation.benchmark_report import benchmark_report, rows
from panovlm.evaluation.benchmarks.bench_360 import BENCH_360
from panovlm.evaluation.benchmarks.directions import DIRECTION_ERRORS
from panovlm.evaluation.benchmarks.files import is_there
from panovlm.evaluation.benchmarks.hstar_bench import HSTAR_BENCH
from panovlm.evaluation.benchmarks.items import Item
from panovlm.evaluation.benchmarks.labels import LABELS
from panovlm.evaluation.benchmarks.omnicot import OMNICOT
from panovlm.evaluation.benchmarks.osr_bench import OSR_BENCH
from panovlm.evaluation.benchmarks.panoenv import PANOENV
from panovlm.evaluation.benchmarks.panovqa import PANOVQA
from panovlm.evaluation.benchmarks.quic360 import QUIC_360, QUIC_360_ROWS
from panovlm.evaluation.benchmarks.refer360 import REFER_360
from panovlm.evaluation.guests.models import Guest
from panovlm.evaluation.judge import Judge
from panovlm.evaluation.pages.benchmark_page import write_benchmark_page
from panovlm.evaluation.run import check_report, inputs_of, run_evaluation, versions
from panovlm.evaluation.scoring import score_answers
from panovlm.geometry.sphere import wrap_deg
from panovlm.training import ranks

BENCHMARKS = {
    "quic-360": QUIC_360,
    "quic-360-rows": QUIC_360_ROWS,
    "osr-bench": OSR_BENCH,
    "hstar-bench": HSTAR_BENCH,
    "panoenv": PANOENV,
    "360bench": BENCH_360,
    "omnicot": OMNICOT,
    "panovqa": PANOVQA,
    "refer360": REFER_360,
    "directions": DIRECTION_ERRORS,
    "labels": LABELS,
}
"""The benchmarks by the names the command line takes."""


def evaluate_benchmark(
    path: Path | Guest,
    data: Path,
    out: Path,
    name: str,
    *,
    images: Path | None = None,
    limit: int | None = None,
    judge: Judge | None = None,
    options: EvaluationOptions | None = None,
) -> dict[str, Any]:
    """Score a model on a published benchmark, beside the same model with less to see.

    Answers are kept beside `out`, as `evaluate` keeps them, so that a killed evaluation goes on.

    Args:
        path: A model's folder or a run, or a model of others.
        data: The benchmark's file or folder, in the format it is published in.
        out: JSON file to write; the page is written beside it with the ending `.html`.
        name: One of `BENCHMARKS`.
        images: Folder of its pictures; that of the file if left out.
        limit: Only the first so many items that have a picture.
        judge: Grades answers where the published score is a judge's.
        options: What is asked besides; the blind baseline if left out. Yaw-rotated pictures are
            shown only where the benchmark knows what is correct then.

    Returns:
        The report. Items whose picture is not there are counted in `items_without_picture` and
        not asked.

    Raises:
        PanoVLMError: If the benchmark is unknown or takes no judge, or no item has a picture.
    """
    started, options = time.perf_counter(), options or EvaluationOptions()
    ranks.initialize()
    with ranks.synchronized():
        if name not in BENCHMARKS:
            raise PanoVLMError(f"found --benchmark {name}, expected one of {', '.join(BENCHMARKS)}")
        benchmark = BENCHMARKS[name]
        if judge and benchmark.rubric is None:
            raise PanoVLMError(f"found a judge, but {name} is scored by rule; leave out --judge")
        check_report(out, [*inputs_of(path), data])
        folder = pictures_folder(data, images)
        listed = benchmark.read(data, folder)
        items = with_pictures(listed)
    num_missing, items = len(listed) - len(items), items[:limit]
    records = [as_record(item).declared_by(options.declared) for item in items]
    run = run_evaluation(
        path,
        records,
        out,
        options,
        max_new_tokens=benchmark.max_new_tokens,
        rotatable=[place for place, item in enumerate(items) if benchmark.is_rotatable(item)],
    )

    def report() -> dict[str, Any]:
        answers = score_answers(benchmark, items, records, run.answers, judge)
        facts = {
            "benchmark": name,
            "metric": benchmark.metric,
            "unit": benchmark.unit.name,
            "less_is_better": benchmark.less_is_better,
            "source": benchmark.source,
            "differs": benchmark.differs,
            **benchmark_report(benchmark, answers, run.perspective),
            **run.usage,
            "judge": judge.facts(benchmark.rubric) if judge and benchmark.rubric else None,
            "versions": versions(),
            "items_without_picture": num_missing,
            "settings": {
                "model": run.model,
                "data": str(data),
                "images": str(folder),
                "items": len(items),
                "processes": ranks.world_size(),
                **asdict(options),
            },
            "seconds_evaluation": time.perf_counter() - started,
        }
        predictions = rows(benchmark, answers)
        run.write(facts, predictions, lambda page: write_benchmark_page(facts, predictions, page))
        return facts

    return ranks.run_on_first(report)


def pictures_folder(data: Path, images: Path | None) -> Path:
    """Return the folder of a benchmark's pictures: that of its file where none is named."""
    return images or (data if data.is_dir() else data.parent)


def with_pictures(items: Sequence[Item]) -> list[Item]:
    """Return the items whose picture is there.

    Raises:
        PanoVLMError: If there is none.
    """
    found = [item for item in items if is_there(item.image)]
    if not found:
        raise PanoVLMError(
            f"found none of the {len(items)} pictures, as {items[0].image}; say where they are "
            "with --images"
        )
    return found


def as_record(item: Item) -> Record:
    """Return the question alone, with an empty response to be filled."""
    messages = (Message(role="user", content=item.question), Message(role="assistant", content=""))
    return Record(
        image=item.image,
        messages=messages,
        kind=item.kind,
        yaw_deg=None if item.yaw_deg is None else wrap_deg(item.yaw_deg),
        pitch_deg=item.pitch_deg,
    )
