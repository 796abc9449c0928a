"""PanoVQA: open questions about street strips, graded by a judge.

Read is a published list of conversations; the category is what the id begins with. The pictures are
strips of 9600 x 600 pixels, all around but not up and down, which have to be declared as such.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from panovlm.evaluation.benchmarks.files import read_objects, reading
from panovlm.evaluation.benchmarks.items import SAME_MEANING, Benchmark, Figures, Item, each, summed
from panovlm.metrics.scores import NOT_JUDGED, Score, summarise_by

KEYS = ("id", "image", "conversations")


def _item(row: Mapping[str, Any], number: str, images: Path) -> Item:
    asked, answered = row["conversations"][:2]
    return Item(
        name=str(row["id"]),
        image=images / row["image"],
        question=_text(asked).replace("<image>", "").strip(),
        references=(_text(answered),),
        kind=str(row["id"]).split("_")[0],
    )


def _text(message: Mapping[str, str]) -> str:
    return message["content"] if "content" in message else message["value"]


def extras(items: Sequence[Item], answers: Sequence[str], scores: Sequence[Score]) -> Figures:
    """Return the published figure: the mean of the categories' means."""
    kinds = summarise_by(scores, [item.kind for item in items]).values()
    means = [Score(kind.mean) for kind in kinds if kind.mean is not None]
    return {"mean_of_categories": summed(means)}


PANOVQA = Benchmark(
    read=reading(read_objects, KEYS, _item),
    score=each(lambda item, answer: NOT_JUDGED),
    metric="a judge's grade of 1 to 5, as 0 to 1",
    source="CVPR 2026, arXiv 2603.09573; InSAI-Lab/PanoVQA, eval_benchmark/get_gpt_score.py",
    differs="the judge's instruction is in our words, so grades compare only under one judge; a "
    "failed judge gives no score (published: the worst grade)",
    max_new_tokens=128,
    extras=extras,
    rubric=SAME_MEANING,
)
