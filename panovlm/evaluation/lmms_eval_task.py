"""What an exported benchmark does inside lmms-eval: it shows, asks and scores as here.

`utils.py` of an exported task takes these functions; lmms-eval calls them by name.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from panovlm.evaluation.benchmarks.items import Item, as_json, from_json
from panovlm.evaluation.benchmarks.names import BENCHMARKS
from panovlm.metrics.scores import Summary, summarise
from panovlm.pictures.panorama import load_panorama

METRICS = ("score", "score_readable", "coverage")
"""Figures of a task, each the name of a function here."""

Doc = dict[str, Any]
"""One line of an exported task; `item` holds all of an item as JSON."""
Result = dict[str, Any]
"""A doc with what was answered to it."""


def doc_of(item: Item, benchmark: str) -> Doc:
    """Return an item as a line of a task."""
    return {
        "name": item.name,
        "image": str(item.image.resolve()),
        "question": item.question,
        "target": item.references[0] if item.references else "",
        "benchmark": benchmark,
        "item": as_json(replace(item, conversation=())),  # which other tools do not ask
    }


def doc_to_visual(doc: Doc) -> list[Image.Image]:
    """Return the panorama, read as for our own models."""
    return [Image.fromarray(load_panorama(doc["image"], strict=False))]


def doc_to_text(doc: Doc) -> str:
    """Return the question, with how to answer it."""
    return str(doc["question"])


def process_results(doc: Doc, results: Sequence[str]) -> dict[str, Result]:
    """Keep an answer for each figure: scores may depend on all answers."""
    result = {"doc": doc, "answer": results[0]}
    return {name: result for name in METRICS}


def score(results: Sequence[Result]) -> float:
    """Compute the mean score, the worst for each answer that could not be read; NaN of nothing."""
    return _number(_summary(results).mean)


def score_readable(results: Sequence[Result]) -> float:
    """Compute the mean score over the answers that could be read alone; NaN if none could."""
    return _number(_summary(results).mean_readable)


def coverage(results: Sequence[Result]) -> float:
    """Compute the share of the answers that could be scored."""
    return _summary(results).coverage


def _summary(results: Sequence[Result]) -> Summary:
    items = [from_json(result["doc"]["item"]) for result in results]
    names = {result["doc"]["benchmark"] for result in results}
    answers = [result["answer"] for result in results]
    if not names:
        return summarise([])
    benchmark = BENCHMARKS[names.pop()]
    return summarise(benchmark.score(items, answers), worst=benchmark.unit.worst)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
