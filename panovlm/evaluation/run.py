"""`panovlm evaluate`: a model's scores beside its baselines, as JSON and as a page."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from panovlm.data.record_files import read_records
from panovlm.data.records import Needs, Record
from panovlm.errors import PanoVLMError
from panovlm.evaluation.answers import answer_limit
from panovlm.evaluation.asking import Answers, EvaluationOptions, ask_all
from panovlm.evaluation.benchmarks.records import RECORDS, item_of
from panovlm.evaluation.evaluate import Evaluator
from panovlm.evaluation.guests.asking import GuestEvaluator
from panovlm.evaluation.guests.models import Guest, weights_of
from panovlm.evaluation.guests.showing import Showing
from panovlm.evaluation.journal import Journal, is_journal
from panovlm.evaluation.pages.examples import choose_examples
from panovlm.evaluation.pages.page import EVALUATE, is_page_of
from panovlm.evaluation.pages.report_page import write_report
from panovlm.evaluation.records_report import records_report, rows
from panovlm.evaluation.scoring import score_answers
from panovlm.figures.views_sheet import draw_views_sheet
from panovlm.geometry.layouts import ViewLayout
from panovlm.inference.loading import load_model, model_folder
from panovlm.model.processing import view_words
from panovlm.pictures.panorama import load_panorama
from panovlm.runtime.arithmetic import Dtype, uses_bf16
from panovlm.runtime.cached_folders import sha256
from panovlm.runtime.files import check_output, has_keys, write_own
from panovlm.runtime.measure import peak_memory_mb
from panovlm.runtime.progress import console
from panovlm.stages import STAGES
from panovlm.training import ranks
from panovlm.training.log import read_log
from panovlm.training.outputs import STAGE_FACTS, load_result

GUEST_TOKENS = 256
"""Longest answer of a model of others to a record, in tokens, unless a correct one is longer."""
PACKAGES = ("panovlm", "torch", "transformers", "peft", "accelerate", "numpy", "pillow")


def evaluate(
    path: Path | Guest,
    data: Path,
    out: Path,
    *,
    limit: int | None = None,
    since: float | None = None,
    options: EvaluationOptions | None = None,
) -> dict[str, Any]:
    """Score a model and write its report.

    Processes that `torchrun` started share the questions; the first one writes.

    Answers are kept beside `out` as they are given (`.jsonl`) until the report is written: started
    again with the same model, data and settings, a killed evaluation goes on, and ends with the
    same report but for the times and the memory, which are those of the last start.

    Args:
        path: A model's folder or a run, or a model of others.
        data: Records with correct answers.
        out: JSON file; the page is written beside it with the ending `.html`.
        limit: Only the first so many records.
        since: Unix time at which the whole job began, if this is the end of one.
        options: What is asked besides; the blind baseline if left out.

    Returns:
        The report.

    Raises:
        PanoVLMError: If a file is invalid, or the model does not take the options.
    """
    started, options = time.perf_counter(), options or EvaluationOptions()
    ranks.initialize()
    with ranks.synchronized():
        check_report(out, [*inputs_of(path), data])
        records = read_records(data, Needs(text=True, image=True), options.declared)[:limit]
    run = run_evaluation(path, records, out, options)

    def report() -> dict[str, Any]:
        items = [item_of(record, number) for number, record in enumerate(records, start=1)]
        answers = score_answers(RECORDS, items, records, run.answers)
        facts = records_report(answers, run.perspective) | _stage_facts(path)
        facts |= _spent(facts["stages"].values(), started, since) | run.usage
        facts["versions"] = versions()
        facts["settings"] = {
            "model": run.model,
            "data": str(data),
            "records": len(records),
            "cpus": os.cpu_count(),
            "processes": ranks.world_size(),
            "decoding": "greedy, exact match up to case and a final stop",
            **asdict(options),
        }

        def write_page(page: Path) -> None:
            sheet = draw_views_sheet(load_panorama(records[0].picture), run.layout)
            examples = choose_examples(answers, view_words(run.perspective))
            write_report(facts, _logs(path), examples, sheet, page)

        run.write(facts, rows(answers), write_page)
        return facts

    return ranks.run_on_first(report)


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


@dataclass(frozen=True)
class EvaluationRun:
    """A model that was asked everything, and the report to write of it.

    Attributes:
        answers: What the model said.
        model: Its name, or its folder.
        layout: The views that it sees.
        perspective: Those but a global one.
        out: The report's JSON file.
        journal: Keeps the answers until the report is written.
        usage: Under `usage`, what a model of others was asked and how many tokens that took.
    """

    answers: Answers[str]
    model: str
    layout: ViewLayout
    perspective: ViewLayout
    out: Path
    journal: Journal
    usage: dict[str, Any]

    def write(
        self,
        report: Mapping[str, Any],
        predictions: Sequence[Mapping[str, Any]],
        write_page: Callable[[Path], None],
    ) -> None:
        """Write the report as JSON with every prediction, and as a page; end the journal."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        whole = {**report, "predictions": predictions}
        text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
        write_own(self.out, lambda partial: partial.write_text(text), is_report)
        write_page(self.out.with_suffix(".html"))
        self.journal.end()


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


def inputs_of(model: Path | Guest) -> list[Path]:
    """Return the folder of a model, if it is ours."""
    return [model] if isinstance(model, Path) else []


def run_evaluation(
    path: Path | Guest,
    records: Sequence[Record],
    out: Path,
    options: EvaluationOptions,
    *,
    max_new_tokens: int | None = None,
    rotatable: Sequence[int] | None = None,
) -> EvaluationRun:
    """Ask a model everything, going on where a killed evaluation was.

    Args:
        path: A model's folder or a run, or a model of others.
        records: Questions.
        out: The report to come: answers are kept beside it, with the ending `.jsonl`.
        options: How much is asked.
        max_new_tokens: Where an answer is cut off; None for just behind the longest correct one.
        rotatable: As in `ask_all`.

    Raises:
        PanoVLMError: If there is no model, a picture is invalid, or an option does not apply.
    """
    if not isinstance(path, Path):
        return _run_guest(path, records, out, options, max_new_tokens, rotatable)
    if options.show != "views" or options.instruction:
        raise PanoVLMError(
            f"found --show {options.show} or --instruction for {path}, which sees the views that "
            "it was trained on; leave them out"
        )
    dtype: Dtype = "bf16" if uses_bf16(options.dtype) else "fp32"
    model, processor = load_model(path, dtype)
    max_new_tokens = options.max_tokens or max_new_tokens or answer_limit(processor, records)
    settings = {**asdict(options), "dtype": dtype, "max_new_tokens": max_new_tokens}
    files = sorted(file for file in model_folder(path).iterdir() if file.is_file())
    journal = _journal(out, {file.name: sha256(file) for file in files}, records, settings)
    evaluator = Evaluator(
        model,
        processor,
        records,
        use_bf16=used_bf16(path),
        max_new_tokens=max_new_tokens,
        journal=journal,
    )
    answers = ask_all(evaluator, options, rotatable)
    name, config = str(model_folder(path)), model.config
    return EvaluationRun(answers, name, config.layout, config.perspective, out, journal, {})


def _run_guest(
    guest: Guest,
    records: Sequence[Record],
    out: Path,
    options: EvaluationOptions,
    max_new_tokens: int | None,
    rotatable: Sequence[int] | None,
) -> EvaluationRun:
    """Ask a model of others everything, in this process alone."""
    if ranks.world_size() > 1:
        raise PanoVLMError(
            f"found {ranks.world_size()} processes for {guest.name}, which is asked from one; "
            "start the command without torchrun"
        )
    showing = Showing(options.show)
    if options.num_ablated and not showing.shows_views:
        raise PanoVLMError(
            f"found --ablated {options.num_ablated} with --show {options.show}, of which no view "
            "can be blanked; use --ablated 0"
        )
    max_tokens = options.max_tokens or max_new_tokens or guest_limit(records)
    settings = {**asdict(options), "showing": asdict(showing), "max_new_tokens": max_tokens}
    known = {"name": guest.name, "config": weights_of(guest)}
    journal = _journal(out, known, records, settings)
    evaluator = GuestEvaluator(
        guest,
        showing,
        records,
        max_tokens=max_tokens,
        journal=journal,
        instruction=options.instruction,
    )
    answers = ask_all(evaluator, options, rotatable)
    usage = {"usage": evaluator.usage}
    return EvaluationRun(answers, guest.name, showing.ring, showing.ring, out, journal, usage)


def guest_limit(records: Sequence[Record]) -> int:
    """Return the longest answer of a model of others: tokens for the letters of any correct one."""
    return max([GUEST_TOKENS, *(len(record.response) for record in records)])


def _journal(out: Path, model: Any, records: Sequence[Record], settings: dict[str, Any]) -> Journal:
    """Return the journal beside a report, with the answers kept from before."""
    identity = _identity(model, records, settings)
    journal = ranks.run_on_first(lambda: Journal(out.with_suffix(".jsonl"), identity))
    if journal.num_kept:
        console.print(f"{journal.num_kept} answers kept from before in {journal.path}")
    return journal


def _identity(model: Any, records: Sequence[Record], asked: dict[str, Any]) -> dict[str, Any]:
    """Return everything that the answers rest on, as plain data."""
    lines = "\n".join(
        f"{Path(record.picture).resolve()} {record.model_dump_json(exclude={'image'})}"
        for record in records
    )
    return {
        "model": model,
        "records": hashlib.sha256(lines.encode()).hexdigest(),
        **asked,
        "versions": versions(),
        "cuda": torch.cuda.is_available(),
    }


def used_bf16(path: Path) -> bool:
    """Return whether the model was trained on views encoded in bf16; no where nothing tells."""
    facts = model_folder(path) / STAGE_FACTS
    return facts.is_file() and uses_bf16(json.loads(facts.read_text()).get("dtype", "auto"))


def versions() -> dict[str, str]:
    """Return the versions that a result rests on."""
    found = {name: version(name) for name in PACKAGES}
    return found | {"python": platform.python_version()}


def _stage_facts(path: Path | Guest) -> dict[str, Any]:
    """Collect what the stages of a run reported; a lone model folder has none."""
    stages: dict[str, Any] = {}
    if not isinstance(path, Path):
        return {"stages": stages}
    for name, stage in STAGES.items():
        if (path / name / STAGE_FACTS).is_file():
            stages[name] = vars(load_result(path, name)) | {
                "expected_first": stage.expected_first,
                "expected_last": stage.expected_last,
            }
    return {"stages": stages}


def _logs(path: Path | Guest) -> dict[str, list[dict[str, Any]]]:
    if not isinstance(path, Path):
        return {}
    files = {name: path / "logs" / f"{name}.jsonl" for name in STAGES}
    return {name: read_log(file) for name, file in files.items() if file.is_file()}
