"""VQA accuracy with the official normalisation of answers.

Source:
    Antol et al., ICCV 2015; the evaluation code of VQA v2, GT-Vision-Lab/VQA,
    PythonEvaluationTools/vqaEvaluation/vqaEval.py: lower case, punctuation, numbers in words,
    articles, contractions, in this order.
"""

import re
from collections.abc import Sequence

from panovlm.metrics.counts import NUMBER_WORDS
from panovlm.metrics.scores import NO_REFERENCE, UNREADABLE, Score

MIN_ANSWERS = 4
"""With fewer answers by people nothing could reach a full score under the official rule."""
AGREEING = 3
"""People who must have given an answer for it to be fully right."""

_DIGITS = {word: str(number) for word, number in NUMBER_WORDS.items() if number <= 10}
_DIGITS |= {"none": "0"}
_ARTICLES = frozenset(["a", "an", "the"])
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_FULL_STOP = re.compile(r"\.(?!\d)")
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_MAX_FULL_STOPS = 32
"""The official code passes a flag of this value as the number of stops to remove."""

_CONTRACTIONS_TEXT = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
    might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
    shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
    someone's something'd something'd've something'll that's there'd there'd've there're there's
    they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
    what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
    why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
    you've
"""


def _with_one_apostrophe_less(word: str) -> set[str]:
    places = [place for place, letter in enumerate(word) if letter == "'"]
    return {word[:place] + word[place + 1 :] for place in places}


_CONTRACTIONS = {
    short: word
    for word in _CONTRACTIONS_TEXT.split()
    for short in sorted(_with_one_apostrophe_less(word))
}


def normalise_answer(answer: str) -> str:
    """Give an answer as VQA accuracy compares it."""
    text = answer.replace("\n", " ").replace("\t", " ").strip()
    words = [_DIGITS.get(word, word) for word in _without_punctuation(text).lower().split()]
    kept = [word for word in words if word not in _ARTICLES]
    return " ".join(_CONTRACTIONS.get(word, word) for word in kept)


def vqa_accuracy(answer: str, references: Sequence[str]) -> Score:
    """Score an answer against those of several people.

    With `MIN_ANSWERS` references or more it is the official rule: for each of them, a third for
    each of the others that says the same, at most 1; then the mean. With fewer, 1 if any says the
    same. The official code leaves the references as they are where all agree; here both sides are
    always normalised.

    Args:
        answer: What was said; without a word it cannot be scored.
        references: What people said, ten of them in VQA v2.
    """
    said = normalise_answer(answer)
    if not said:
        return UNREADABLE
    known = [normalise_answer(reference) for reference in references]
    if not known:
        return NO_REFERENCE
    same = [reference == said for reference in known]
    if len(known) < MIN_ANSWERS:
        return Score(float(any(same)))
    each = [min(1.0, (sum(same) - own) / AGREEING) for own in same]
    return Score(sum(each) / len(each))


def _without_punctuation(text: str) -> str:
    """Drop marks next to a space, and all of them if a number has a comma; others become spaces."""
    has_comma_in_number = _COMMA_IN_NUMBER.search(text) is not None
    cleaned = text
    for mark in _PUNCTUATION:
        at_space = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if at_space or has_comma_in_number else " ")
    return _FULL_STOP.sub("", cleaned, count=_MAX_FULL_STOPS)
