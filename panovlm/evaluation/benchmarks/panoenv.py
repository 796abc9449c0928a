"""PanoEnv-QA: yes or no, choices, distances, relations and counts in rendered outdoor scenes.

Read is a published split, `val.jsonl` or `test.jsonl`; the folder of pictures holds the
environments.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.files import read_objects, reading
from panovlm.evaluation.benchmarks.items import Benchmark, Figures, Item, each, summed, summed_by
from panovlm.metrics.captions import longest_common
from panovlm.metrics.number_words import NUMBER_WORDS
from panovlm.metrics.scores import UNREADABLE, Score

KEYS = ("conversations", "image", "question_type", "accu_reward_method", "expected_answer")
FORMS = {
    "true_false": 'The answer is "Yes" or "No".',
    "multiple_choice": "The answer is one of the options named, word for word.",
    "open_ended": "The answer is short, under 20 words.",
}
PROMPT = "{question}\nReason within <Reasoning> tags, then answer within <Answer> tags. {form}"
ALIKE = 0.75
"""Similarity above which two texts count as the same."""
FULL = 0.99
"""A score from which an answer counts as correct in the published accuracy."""

_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_ARTICLES = re.compile(r"\b(?:the|an|a)\b", re.IGNORECASE)
_AFTER_SUBJECT = re.compile(
    r"\b(?:is|are|was|were|has|have|had|can|could|will|would|should|may|might|must|do|does|did|in|"
    r"on|at|to|from|with|by|for|of|near|behind|above|below|under|over|between|among|through|during|"
    r"before|after|since|until)\b",
    re.IGNORECASE,
)
_SHORT_WORDS = 4
_METRES = {
    r"met(?:er|re)s?|m": 1.0,
    r"kilomet(?:er|re)s?|km": 1000.0,
    r"centimet(?:er|re)s?|cm": 0.01,
    r"millimet(?:er|re)s?|mm": 0.001,
    r"feet|foot|ft": 0.3048,
    r"inch(?:es)?": 0.0254,
}
_RELATIONS = {
    "depth front": "front, forward, ahead, in front of",
    "depth back": "back, behind, rear, at the back",
    "side left": "left, leftward, to the left, on the left",
    "side right": "right, rightward, to the right, on the right",
    "height up": "above, up, upper, over, top, higher",
    "height down": "below, down, under, lower, beneath, bottom",
}
"""Axis and relation, and the phrases for it."""


def _item(row: Mapping[str, Any], number: str, images: Path) -> Item:
    method, form = row["accu_reward_method"], FORMS.get(row["question_type"])
    if method not in METHODS or form is None:
        raise PanoVLMError(
            f"found {row['question_type']!r} scored by {method!r}, expected one of "
            f"{[*FORMS]} scored by one of {[*METHODS]}"
        )
    question = row["conversations"][0]["value"].replace("<image>", "").strip()
    tagged = _TAGGED.search(row["expected_answer"])
    return Item(
        name=number,
        image=images / row["image"],
        question=PROMPT.format(question=question, form=form),
        references=((tagged[1] if tagged else row["expected_answer"]).strip(),),
        kind=method,
        facts={"question_type": row["question_type"]},
    )


def score_one(item: Item, answer: str) -> Score:
    """Score what stands within `<Answer>` tags, in [0, 1]; without them nothing is read."""
    tagged = _TAGGED.search(answer)
    if not tagged or not tagged[1].strip():
        return UNREADABLE
    return Score(METHODS[item.kind](tagged[1].strip(), item.references[0]))


def similarity(first: str, second: str) -> float:
    """Compute the share of two texts that is in the same order in both, in [0, 1].

    Source:
        `ratio` of the package Levenshtein, which is twice the longest common subsequence over the
        sum of lengths.
    """
    length = len(first) + len(second)
    return 2 * longest_common(first, second) / length if length else 1.0


def _distance(answer: str, reference: str) -> float:
    """Score 1 within a tenth of the correct distance, a half within a fifth."""
    length, known = _metres(answer), _metres(reference)
    if length is None or not known:
        return float(similarity(answer.lower(), reference.lower()) > ALIKE)
    error = abs(length - known) / known
    return 1.0 if error <= 0.1 else 0.5 if error <= 0.2 else 0.0


def _spatial(answer: str, reference: str) -> float:
    """Compute the share of the correct relations that were named."""
    known, named = _relations(reference), _relations(answer)
    return sum(named.get(axis) == word for axis, word in known.items()) / max(1, len(known))


def _counting(answer: str, reference: str) -> float:
    number, known = _metres(answer), _metres(reference)
    return float(number is not None and known is not None and abs(number - known) < 0.01)


def _text(answer: str, reference: str) -> float:
    first, second = (
        " ".join(_ARTICLES.sub("", text).split()).lower() for text in (answer, reference)
    )
    return float(similarity(first, second) > ALIKE)


METHODS: dict[str, Callable[[str, str], float]] = {
    "yes_no": lambda answer, reference: float(answer.lower() == reference.lower()),
    "mcq": lambda answer, reference: float(_entity(answer) == _entity(reference)),
    "distance": _distance,
    "spatial": _spatial,
    "counting": _counting,
    "default": _text,
}
"""The published rules, by the name each question gives."""


def _entity(text: str) -> str:
    """Return the letters of what a text names: all of a short one, a sentence up to its verb."""
    verb = _AFTER_SUBJECT.search(text) if len(text.split()) > _SHORT_WORDS else None
    subject = (text[: verb.start()].strip() if verb else "") or text
    return re.sub(r"[^a-zA-Z0-9]", "", _ARTICLES.sub("", subject)).lower()


def _metres(text: str) -> float | None:
    """Read the first length in metres, else the first number, else the least number word."""
    lengths = [
        (found.start(), float(found[1]) * metres)
        for unit, metres in _METRES.items()
        if (found := re.search(rf"(\d+\.?\d*)\s*(?:{unit})\b", text.lower()))
    ]
    if lengths:
        return min(lengths)[1]
    if number := re.search(r"\d+\.?\d*", text):
        return float(number[0])
    words = re.findall(r"[a-z]+", text.lower())
    return min((float(NUMBER_WORDS[word]) for word in words if word in NUMBER_WORDS), default=None)


def _relations(text: str) -> dict[str, str]:
    """Return the relation named on each axis; the longest phrase decides between two."""
    named = [
        (phrase, *key.split())
        for key, phrases in _RELATIONS.items()
        for phrase in phrases.split(", ")
        if re.search(rf"\b{phrase}\b", text.lower())
    ]
    found: dict[str, str] = {}
    for _, axis, relation in sorted(named, key=lambda each: -len(each[0])):
        found.setdefault(axis, relation)
    return found


def extras(items: Sequence[Item], answers: Sequence[str], scores: Sequence[Score]) -> Figures:
    """Return the published accuracy, the share of answers with the full score, by type too."""
    correct = [
        Score(float(score.value >= FULL)) if score.value is not None else score for score in scores
    ]
    types = [item.facts["question_type"] for item in items]
    return {"accuracy": summed(correct), "accuracy_by_type": summed_by(correct, types)}


PANOENV = Benchmark(
    read=reading(read_objects, KEYS, _item),
    score=each(score_one),
    metric="reward in [0, 1] by the method each question names",
    source="CVPR 2026, arXiv 2602.21992; 7zk1014/PanoEnv, qwen_module.py, accuracy_reward_vqa",
    differs="the prompt is in our words; millimetres are not read as metres; 'in' is no inch",
    max_new_tokens=512,
    extras=extras,
)
