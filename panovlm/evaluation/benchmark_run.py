"""`panovlm evaluate --benchmark`: a model's scores on a published benchmark, as JSON."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from panovlm.data.records import Record, Turn
from panovlm.evaluation.benchmarks.bench_360 import BENCH_360
from panovlm.evaluation.benchmarks.hstar_bench import HSTAR_BENCH
from panovlm.evaluation.benchmarks.items import Benchmark, Item
from panovlm.evaluation.benchmarks.odi_bench import ODI_BENCH, ODI_BENCH_OPEN
from panovlm.evaluation.benchmarks.omnicot import OMNICOT
from panovlm.evaluation.benchmarks.osr_bench import OSR_BENCH
from panovlm.evaluation.benchmarks.panoenv import PANOENV
from panovlm.evaluation.benchmarks.panovqa import PANOVQA
from panovlm.evaluation.benchmarks.quic360 import QUIC_360
from panovlm.evaluation.benchmarks.refer360 import REFER_360
from panovlm.evaluation.benchmarks.vqa_360 import VQA_360
from panovlm.evaluation.evaluate import Evaluator
from panovlm.evaluation.judge import Judge
from panovlm.evaluation.run import used_bf16, versions, write_json
from panovlm.inference import load_model, model_folder
from panovlm.metrics.intervals import difference_interval, mean_interval
from panovlm.metrics.scores import Score, summarise, summarise_by, values_of
from panovlm.metrics.strata import pole_stratum, seam_stratum
from panovlm.model.errors import PanoVLMError
from panovlm.progress import progress_bar

BENCHMARKS = {
    "quic-360": QUIC_360,
    "osr-bench": OSR_BENCH,
    "hstar-bench": HSTAR_BENCH,
    "panoenv": PANOENV,
    "360bench": BENCH_360,
    "omnicot": OMNICOT,
    "panovqa": PANOVQA,
    "refer360": REFER_360,
    "odi-bench": ODI_BENCH,
    "odi-bench-open": ODI_BENCH_OPEN,
    "vqa-360": VQA_360,
}
"""The benchmarks by the names the command line takes."""


def evaluate_benchmark(
    path: Path,
    data: Path,
    out: Path,
    name: str,
    *,
    images: Path | None = None,
    limit: int | None = None,
    judge: Judge | None = None,
) -> dict[str, Any]:
    """Score a model on a published benchmark, beside the same model without pictures.

    Args:
        path: A model's folder or a run.
        data: The benchmark's file or folder, in the format it is published in.
        out: JSON file to write.
        name: One of `BENCHMARKS`.
        images: Folder of its pictures; that of the file if left out.
        limit: Only the first so many items that have a picture.
        judge: Grades answers where the published score is a judge's.

    Returns:
        The report. Items whose picture is not there are counted in `items_without_picture` and
        not asked.

    Raises:
        PanoVLMError: If the benchmark is unknown or takes no judge, or no item has a picture.
    """
    started = time.perf_counter()
    benchmark = _benchmark(name)
    if judge and benchmark.rubric is None:
        raise PanoVLMError(f"found a judge, but {name} is scored by rule; leave out --judge")
    folder = images or (data if data.is_dir() else data.parent)
    listed = benchmark.read(data, folder)
    items = [item for item in listed if item.image.is_file()]
    if not items:
        raise PanoVLMError(
            f"found none of the {len(listed)} pictures, as {listed[0].image}; say where they are "
            "with --images"
        )
    num_missing, items = len(listed) - len(items), items[:limit]
    seen, blind = _answers(path, items, benchmark.max_new_tokens)
    scores, blind_scores = (_score(benchmark, items, each, judge) for each in (seen, blind))
    pictures = [str(item.image) for item in items]
    difference = difference_interval(blind_scores, scores, groups=pictures)
    report: dict[str, Any] = {
        "benchmark": name,
        "metric": benchmark.metric,
        "source": benchmark.source,
        "differs": benchmark.differs,
        **describe(benchmark, items, seen, scores),
        "baselines": {"blind": describe(benchmark, items, blind, blind_scores)},
        "better_than_blind": asdict(difference) if difference else None,
        "items_without_picture": num_missing,
        "judge": judge.facts(benchmark.rubric) if judge and benchmark.rubric else None,
        "versions": versions(),
        "settings": {"model": str(model_folder(path)), "data": str(data), "items": len(items)},
        "seconds_evaluation": time.perf_counter() - started,
    }
    rows = zip(items, seen, scores, strict=True)
    write_json(out, report | {"predictions": [_as_json(*row) for row in rows]})
    return report


def describe(
    benchmark: Benchmark, items: Sequence[Item], answers: Sequence[str], scores: Sequence[Score]
) -> dict[str, Any]:
    """Summarise scores: overall with its interval, by kind, by stratum, and the extras."""
    pictures = [str(i.image) for i, s in zip(items, scores, strict=True) if s.value is not None]
    interval = mean_interval(values_of(scores), groups=pictures)
    seam = [seam_stratum(item.yaw_deg) for item in items]
    pole = [pole_stratum(item.pitch_deg) for item in items]
    return {
        "score": asdict(summarise(scores)),
        "interval": asdict(interval) if interval else None,
        "by_kind": _grouped(scores, [item.kind for item in items]),
        "by_distance_from_seam": _grouped(scores, seam),
        "by_distance_from_pole": _grouped(scores, pole),
        "extras": benchmark.extras(items, answers, scores),
    }


def _benchmark(name: str) -> Benchmark:
    if name not in BENCHMARKS:
        raise PanoVLMError(f"found --benchmark {name}, expected one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def _answers(path: Path, items: Sequence[Item], max_new_tokens: int) -> tuple[list[str], list[str]]:
    """Ask everything with pictures and without."""
    records = [_record(item) for item in items]
    evaluator = Evaluator(
        *load_model(path), records, use_bf16=used_bf16(path), max_new_tokens=max_new_tokens
    )
    seen = [prediction.answer for prediction in evaluator.predict("questions")]
    blind = [prediction.answer for prediction in evaluator.predict_blind("questions, blind")]
    return seen, blind


def _record(item: Item) -> Record:
    """Give the question alone, with an empty response to be filled."""
    turns = (Turn(role="user", content=item.question), Turn(role="assistant", content=""))
    return Record(image=item.image, messages=turns, kind=item.kind)


def _score(
    benchmark: Benchmark, items: Sequence[Item], answers: Sequence[str], judge: Judge | None
) -> list[Score]:
    if judge is None or benchmark.rubric is None:
        return benchmark.score(items, answers)
    with progress_bar("judged", len(items)) as advance:
        return judge.grade(benchmark.rubric, items, answers, advance)


def _grouped(scores: Sequence[Score], keys: Sequence[str | None]) -> dict[str, Any]:
    return {name: asdict(summary) for name, summary in summarise_by(scores, keys).items()}


def _as_json(item: Item, answer: str, score: Score) -> dict[str, Any]:
    return {
        "name": item.name,
        "image": str(item.image),
        "question": item.question,
        "references": [*item.references],
        "answer": answer,
        "score": score.value,
        "missing": score.missing,
        "kind": item.kind,
        "yaw_deg": item.yaw_deg,
        "pitch_deg": item.pitch_deg,
    }
