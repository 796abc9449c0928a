"""VQA 360°: questions of five types about rooms, each with one answer of a few words."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.files import items_of, picture_at, read_objects, read_table
from panovlm.evaluation.benchmarks.items import Benchmark, Item, each
from panovlm.metrics.scores import NO_REFERENCE, UNREADABLE, Score, summarise, summarise_by
from panovlm.metrics.vqa import normalise_answer

KEYS = ("image", "question", "answer", "type")
FORMS = {
    "scene": "Answer with a room's name, or with yes or no.",
    "exist": "Answer yes or no.",
    "counting": 'Answer with a number, or "more than 4".',
    "property": "Answer in one or two words.",
    "spatial": "Answer with a side, or in a few words.",
}
"""How to answer questions of each type."""
_MORE_THAN = re.compile(r"more than (\d+)")


def read(path: Path, images: Path) -> list[Item]:
    """Read questions with one right answer each.

    Args:
        path: A list of objects (`.json`), one a line (`.jsonl`), or a table (`.csv`, `.tsv`) with
            `image`, `question`, `answer` and `type`.
        images: Folder below which the pictures lie.

    Raises:
        PanoVLMError: If a field is missing or a type is unknown.
    """
    is_table = path.suffix in (".csv", ".tsv")
    rows = read_table(path, KEYS) if is_table else read_objects(path, KEYS)
    return items_of(path, rows, lambda row, number: _item(row, number, images))


def _item(row: Mapping[str, Any], number: int, images: Path) -> Item:
    kind, answer = str(row["type"]).strip().lower(), row["answer"]
    if kind not in FORMS:
        raise PanoVLMError(f"entry {number}: found the type {kind!r}, expected one of {[*FORMS]}")
    if not isinstance(answer, str | int) or isinstance(answer, bool):
        raise PanoVLMError(f"entry {number}: found the answer {answer!r}, expected a text")
    return Item(
        name=str(number),
        image=picture_at(images, str(row["image"])),
        question=f"{row['question']}\n{FORMS[kind]}",
        references=(str(answer),) if str(answer).strip() else (),
        kind=kind,
    )


def score_one(item: Item, answer: str) -> Score:
    """Score 1 for the right answer and 0 for another, by VQA's normalisation.

    Where "more than 4" is right, so is every number above 4, alone.
    """
    said = normalise_answer(answer)
    if not item.references:
        return NO_REFERENCE
    if not said:
        return UNREADABLE
    right = normalise_answer(item.references[0])
    beyond = _MORE_THAN.fullmatch(right)
    is_beyond = beyond is not None and said.isdecimal() and int(said) > int(beyond[1])
    return Score(float(said == right or is_beyond))


def extras(
    items: Sequence[Item], answers: Sequence[str], scores: Sequence[Score]
) -> dict[str, Any]:
    """Give the mean of the types' accuracies, in which an unreadable answer is wrong."""
    types = summarise_by(scores, [item.kind for item in items]).values()
    means = [summary.mean_unreadable_wrong for summary in types]
    return {"mean_of_types": asdict(summarise(Score(mean) for mean in means if mean is not None))}


VQA_360 = Benchmark(
    read=read,
    score=each(score_one),
    metric="share of equal answers",
    source="Chou et al., WACV 2020, arXiv 2001.03339",
    differs="the published models choose among the answers of the training set and ours writes; "
    "normalisation is VQA's, our words ask for the form, numbers beyond 'more than 4' count, and "
    "the fields are the paper's words: the released files were not at hand",
    max_new_tokens=16,
    extras=extras,
)
