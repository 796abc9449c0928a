"""OmniCoT: reasoning about directions and ways in rooms, answered in a word.

Read is the published list of questions, or its `metadata.jsonl`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from panovlm.evaluation.benchmarks.files import picture_at, read_objects, reading
from panovlm.evaluation.benchmarks.items import Benchmark, Figures, Item, each, summed, summed_by
from panovlm.metrics.scores import UNREADABLE, Score, score_read

KEYS = ("question", "answer", "type")
PROMPT = (
    "The picture is a 360° panorama. X points east and y points north.\n{objects}{question}\n"
    "Reason within <think> tags, then answer within <answer> tags with a name, Yes or No, a "
    "compass direction or an angle; if it cannot be told, with <answer>{refusal}</answer>."
)
REFUSAL = "Failed to Answer"
MAX_OBJECTS = 3
GROUPS = {"viewpoint": "See", "multi": "Locate", "move": "Move"}
"""The published groups, by the first word of a question's type."""
_COMPASS = frozenset(
    ["north", "south", "east", "west", "northeast", "northwest", "southeast", "southwest"]
)
_TAGGED = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.IGNORECASE | re.DOTALL)
_STATED = re.compile(r"answer\s*:\s*(.+)$", re.IGNORECASE | re.DOTALL)


def _item(row: Mapping[str, Any], number: str, images: Path) -> Item:
    objects = "".join(f"{place}\n" for place in (row.get("random_objects") or ())[:MAX_OBJECTS])
    given = f"Some objects and where they are:\n{objects}" if objects else ""
    return Item(
        name=str(row.get("QA_id") or row.get("qa_id") or number),
        image=picture_at(images, str(row.get("image") or row.get("file_name"))),
        question=PROMPT.format(objects=given, question=row["question"], refusal=REFUSAL),
        references=(str(row["answer"]),),
        kind=str(row["type"]),
        facts={"group": GROUPS.get(str(row["type"]).split("_")[0])},
    )


def parse_answer(answer: str) -> str | None:
    """Read what is within tags, else after "answer:", else the last line, without its dress.

    Returns:
        Letters and digits; the first number of up to three digits alone if there is one; None if
        nothing was answered or the model says that it cannot tell.
    """
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    if tagged := _TAGGED.search(answer):
        text = tagged[1]
    elif stated := _STATED.search(answer.strip()):
        text = stated[1].splitlines()[0]
    else:
        text = lines[-1] if lines else ""
    plain = _plain(text)
    return None if plain in ("", _plain(REFUSAL)) else plain


def _plain(text: str) -> str:
    text = re.sub(r"^[a-d]\s*[).:-]\s*", "", text.lower().strip())
    if number := re.search(r"\b\d{1,3}\b", text):
        return number[0]
    without = re.sub(r"\b(?:the|an|a)\b", " ", text.replace("_", " "))
    return re.sub(r"[^a-z0-9]", "", without)


def _score_one(item: Item, answer: str) -> Score:
    return score_read(parse_answer(answer), lambda named: named == _plain(item.references[0]))


def _contains(item: Item, answer: str) -> Score:
    """Score 1 also where one of both holds the other, but for compass directions."""
    named, reference = parse_answer(answer), _plain(item.references[0])
    if named is None:
        return UNREADABLE
    if named == reference or {named, reference} & _COMPASS:
        return Score(float(named == reference))
    return Score(float(bool(reference) and (named in reference or reference in named)))


def extras(items: Sequence[Item], answers: Sequence[str], scores: Sequence[Score]) -> Figures:
    """Return the looser published accuracy, and both by the published groups."""
    loose = [_contains(item, answer) for item, answer in zip(items, answers, strict=True)]
    groups = [item.facts["group"] for item in items]
    return {
        "contains_accuracy": summed(loose),
        "accuracy_by_group": summed_by(scores, groups),
        "contains_accuracy_by_group": summed_by(loose, groups),
    }


OMNICOT = Benchmark(
    read=reading(read_objects, KEYS, _item),
    score=each(_score_one),
    metric="share of equal answers",
    source="ECCV 2026, arXiv 2606.30378; Chenfei-Liao/OmniCoT, lmms_eval/tasks/omnicot/utils.py",
    differs="the prompt is in our words; answers end at 512 tokens (published: 8192), where those "
    "without an answer are wrong; the judge of the reasoning is not asked",
    max_new_tokens=512,
    extras=extras,
)
