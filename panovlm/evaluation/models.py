"""Asks a model everything, ours or of others, going on where a killed evaluation was."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from panovlm.errors import PanoVLMError
from panovlm.evaluation.answers import answer_limit
from panovlm.evaluation.asking import Answers, EvaluationOptions, ask_all
from panovlm.evaluation.benchmarks.items import Benchmark, Item
from panovlm.evaluation.evaluate import Evaluator
from panovlm.evaluation.guests.asking import GuestEvaluator
from panovlm.evaluation.guests.models import Guest, weights_of
from panovlm.evaluation.guests.showing import Showing
from panovlm.evaluation.journal import Journal
from panovlm.geometry.layouts import ViewLayout
from panovlm.inference.loading import load_model, model_folder
from panovlm.runtime.arithmetic import Dtype, uses_bf16
from panovlm.runtime.cached_folders import sha256
from panovlm.runtime.progress import console
from panovlm.training import ranks
from panovlm.training.outputs import STAGE_FACTS

GUEST_TOKENS = 256
"""Longest answer of a model of others to records, unless a correct one is longer."""


OpenJournal = Callable[[Any, Mapping[str, Any]], Journal]
"""Takes what is known of a model and how it is asked; returns where its answers are kept."""


@dataclass(frozen=True)
class AskedModel:
    """A model that was asked everything.

    Attributes:
        answers: What it said.
        model: Its name, or its folder.
        layout: The views that it sees.
        perspective: Those but a global one.
        journal: Keeps the answers until the report is written.
        usage: Under `usage`, what a model of others was asked and how many tokens that took.
    """

    answers: Answers[str]
    model: str
    layout: ViewLayout
    perspective: ViewLayout
    journal: Journal
    usage: dict[str, Any]


def ask_model(
    path: Path | Guest,
    benchmark: Benchmark,
    items: Sequence[Item],
    kept: Path,
    options: EvaluationOptions,
    versions: Mapping[str, str],
) -> AskedModel:
    """Ask a model everything.

    Args:
        path: A model's folder or a run, or a model of others.
        benchmark: What it is asked.
        items: The questions.
        kept: File of the answers until the report is written.
        options: How much is asked.
        versions: Of packages, on which answers rest.

    Raises:
        PanoVLMError: If there is no model, a picture is invalid, or an option does not apply.
    """

    def journal(model: Any, settings: Mapping[str, Any]) -> Journal:
        facts = _identity(model, items, {**asdict(options), **settings, "versions": versions})
        found = ranks.run_on_first(lambda: Journal(kept, facts))
        if found.num_kept:
            console.print(f"{found.num_kept} answers kept from before in {found.path}")
        return found

    if isinstance(path, Path):
        return _ask_ours(path, benchmark, items, options, journal)
    return _ask_guest(path, benchmark, items, options, journal)


def _ask_ours(
    path: Path,
    benchmark: Benchmark,
    items: Sequence[Item],
    options: EvaluationOptions,
    journal: OpenJournal,
) -> AskedModel:
    if options.show != "views" or options.instruction:
        raise PanoVLMError(
            f"found --show {options.show} or --instruction for {path}, which sees the views that "
            "it was trained on; leave them out"
        )
    dtype: Dtype = "bf16" if uses_bf16(options.dtype) else "fp32"
    model, processor = load_model(path, dtype)
    limit = options.max_tokens or benchmark.max_new_tokens or answer_limit(processor, items)
    files = sorted(file for file in model_folder(path).iterdir() if file.is_file())
    known = {file.name: sha256(file) for file in files}
    kept = journal(known, {"dtype": dtype, "max_new_tokens": limit})
    evaluator = Evaluator(
        model,
        processor,
        [item.picture for item in items],
        use_bf16=used_bf16(path),
        max_new_tokens=limit,
        journal=kept,
    )
    answers = ask_all(evaluator, benchmark, items, options)
    config = model.config
    return AskedModel(answers, str(model_folder(path)), config.layout, config.perspective, kept, {})


def _ask_guest(
    guest: Guest,
    benchmark: Benchmark,
    items: Sequence[Item],
    options: EvaluationOptions,
    journal: OpenJournal,
) -> AskedModel:
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
    limit = options.max_tokens or benchmark.max_new_tokens or guest_limit(items)
    known = {"name": guest.name, "config": weights_of(guest)}
    kept = journal(known, {"showing": asdict(showing), "max_new_tokens": limit})
    evaluator = GuestEvaluator(
        guest, showing, max_tokens=limit, journal=kept, instruction=options.instruction
    )
    answers = ask_all(evaluator, benchmark, items, options)
    usage = {"usage": evaluator.usage}
    return AskedModel(answers, guest.name, showing.ring, showing.ring, kept, usage)


def guest_limit(items: Sequence[Item]) -> int:
    """Return the longest answer of a model of others: tokens for the letters of any correct one."""
    references = (reference for item in items for reference in item.references)
    return max([GUEST_TOKENS, *map(len, references)])


def _identity(model: Any, items: Sequence[Item], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that the answers rest on, as plain data."""
    lines = "\n".join(f"{Path(item.picture).resolve()} {_as_text(item)}" for item in items)
    return {
        "model": model,
        "items": hashlib.sha256(lines.encode()).hexdigest(),
        **asked,
        "cuda": torch.cuda.is_available(),
    }


def _as_text(item: Item) -> str:
    messages = [[message.role, message.content] for message in item.prompt]
    facts = {**vars(item), "image": None, "conversation": messages, "declared": None}
    return json.dumps(facts | {"declared": str(item.declared)}, default=str, ensure_ascii=False)


def used_bf16(path: Path) -> bool:
    """Return whether the model was trained on views encoded in bf16; no where nothing tells."""
    facts = model_folder(path) / STAGE_FACTS
    return facts.is_file() and uses_bf16(json.loads(facts.read_text()).get("dtype", "auto"))
