"""BLEU, ROUGE-L and CIDEr of captions, as pycocoevalcap computes them, without Java.

`score_captions` takes texts. Every other function takes one candidate for each picture, a list of
words or None where there is no answer, and the references of each picture as lists of words. What
was not answered has no score of its own, and counts as an empty text in those of the whole set.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from panovlm.metrics.scores import NO_REFERENCE, UNREADABLE, WITHOUT_WEIGHT, Score, summarise
from panovlm.metrics.tokens import caption_tokens

Words = Sequence[str]
Gram = tuple[str, ...]
Grams = Counter[Gram]
_WeightOf = Callable[[Gram], float]

MAX_ORDER = 4
"""Longest n-grams counted."""
ROUGE_BETA = 1.2
"""How much more recall counts than precision, in COCO's ROUGE-L."""
CIDER_SIGMA = 6.0
"""Width of CIDEr-D's penalty on length."""
_TINY, _SMALL = 1e-15, 1e-9
"""What pycocoevalcap adds to counts so that nothing is divided by 0."""


@dataclass(frozen=True)
class CaptionScores:
    """Scores of a whole set of captions; None where nothing could be scored.

    Attributes:
        bleu: BLEU-1 to BLEU-4 of the corpus, in [0, 1].
        rouge_l: Mean ROUGE-L, in [0, 1].
        cider: Mean of what pycocoevalcap and papers call CIDEr, which is CIDEr-D, in [0, 10].
        cider_plain: Mean CIDEr without the clipping and the penalty of CIDEr-D, in [0, 10].
        cider_of_each: `cider` of each picture, or why it has none.
    """

    bleu: tuple[float, ...] | None
    rouge_l: float | None
    cider: float | None
    cider_plain: float | None
    cider_of_each: tuple[Score, ...]


def score_captions(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionScores:
    """Score captions against the references of their pictures, over `caption_tokens`.

    Args:
        candidates: One caption for each picture; one without words has no score.
        references: Captions by people for each picture; empty ones are left out.
    """
    words = [caption_tokens(candidate) or None for candidate in candidates]
    known = [[*filter(None, map(caption_tokens, texts))] for texts in references]
    each = cider(words, known)
    return CaptionScores(
        bleu=bleu(words, known),
        rouge_l=summarise(rouge_l(words, known)).mean,
        cider=summarise(each).mean,
        cider_plain=summarise(cider(words, known, clipped=False)).mean,
        cider_of_each=tuple(each),
    )


def bleu(
    candidates: Sequence[Words | None], references: Sequence[Sequence[Words]]
) -> tuple[float, ...] | None:
    """Compute BLEU-1 to BLEU-4 of a corpus, in [0, 1]; None without references.

    Source:
        Papineni et al., ACL 2002, as in pycocoevalcap 1.2: the length of a reference is the
        one nearest to the candidate's.
    """
    pairs = [
        (candidate or (), known)
        for candidate, known in zip(candidates, references, strict=True)
        if known
    ]
    if not pairs:
        return None
    found, possible = np.zeros(MAX_ORDER), np.zeros(MAX_ORDER)
    length = reference_length = 0.0
    for candidate, known in pairs:
        found += _clipped_counts(candidate, known)
        possible += [max(0, len(candidate) - order) for order in range(MAX_ORDER)]
        length += len(candidate)
        reference_length += _nearest_length(candidate, known)
    ratio = (length + _TINY) / (reference_length + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    products = np.cumprod((found + _TINY) / (possible + _SMALL))
    return tuple(
        float(product ** (1 / order) * brevity) for order, product in enumerate(products, start=1)
    )


def rouge_l(
    candidates: Sequence[Words | None], references: Sequence[Sequence[Words]]
) -> list[Score]:
    """Compute ROUGE-L of each candidate, in [0, 1].

    Source:
        Lin, ACL 2004, as in pycocoevalcap 1.2: the best precision and the best recall over the
        references, which may be of different ones, with β = 1.2.
    """
    return [
        _score_one(candidate, known, _rouge_l_of)
        for candidate, known in zip(candidates, references, strict=True)
    ]


def cider(
    candidates: Sequence[Words | None],
    references: Sequence[Sequence[Words]],
    *,
    clipped: bool = True,
) -> list[Score]:
    """Compute CIDEr of each candidate, in [0, 10].

    How much a word weighs depends on the references of all pictures, answered or not: scores on
    other sets of pictures, and on parts of one, do not compare. Where every word of a picture's
    references weighs nothing, since all pictures have it or there is one picture alone, no caption
    could score anything, and there is no score.

    Args:
        candidates: Words for each picture.
        references: References of each picture.
        clipped: CIDEr-D, with counts clipped at the reference's and a penalty on length, which
            pycocoevalcap and papers call CIDEr; otherwise CIDEr without them.

    Source:
        Vedantam et al., CVPR 2015, as in pycocoevalcap 1.2: no stemming, σ = 6, and the length is
        the number of pairs of words.
    """
    weight_of = _inverse_frequency(references)

    def score(candidate: Words, known: Sequence[Words]) -> float | None:
        own = _Weighted(candidate, weight_of)
        weighted = [_Weighted(words, weight_of) for words in known]
        if not any(norm for each in weighted for norm in each.norms):
            return None
        return 10 * float(np.mean([_similarity(own, each, clipped) for each in weighted]))

    return [
        _score_one(candidate, known, score)
        for candidate, known in zip(candidates, references, strict=True)
    ]


class _Weighted:
    """The n-grams of a text by order, each with its count times its weight."""

    def __init__(self, words: Words, weight_of: _WeightOf) -> None:
        self.length = max(0, len(words) - 1)
        self.orders: list[dict[Gram, float]] = [{} for _ in range(MAX_ORDER)]
        for gram, count in _grams(words).items():
            self.orders[len(gram) - 1][gram] = count * weight_of(gram)
        self.norms = [math.sqrt(sum(w * w for w in order.values())) for order in self.orders]


def _inverse_frequency(references: Sequence[Sequence[Words]]) -> _WeightOf:
    """Return what weighs an n-gram: the logarithm of pictures over pictures that have it."""
    described = [known for known in references if known]
    pictures_with: Grams = Counter()
    for known in described:
        pictures_with.update({gram for words in known for gram in _grams(words)})
    log_pictures = math.log(max(1, len(described)))
    return lambda gram: log_pictures - math.log(max(1, pictures_with[gram]))


def _similarity(own: _Weighted, other: _Weighted, clipped: bool) -> float:
    """Compute the mean cosine over the orders of n-grams."""
    cosines = []
    for order in range(MAX_ORDER):
        ours, theirs = own.orders[order], other.orders[order]
        shared = sum(
            (min(weight, theirs[gram]) if clipped else weight) * theirs[gram]
            for gram, weight in ours.items()
            if gram in theirs
        )
        norms = own.norms[order] * other.norms[order]
        cosines.append(shared / norms if norms else shared)
    gap = own.length - other.length
    penalty = math.exp(-(gap**2) / (2 * CIDER_SIGMA**2)) if clipped else 1.0
    return float(np.mean(cosines)) * penalty


def _grams(words: Words) -> Grams:
    """Count the n-grams of every order."""
    return Counter(
        tuple(words[start : start + order])
        for order in range(1, MAX_ORDER + 1)
        for start in range(len(words) - order + 1)
    )


def _clipped_counts(candidate: Words, known: Sequence[Words]) -> list[int]:
    """Count the candidate's n-grams that a reference has too, order by order."""
    most: Grams = Counter()
    for words in known:
        most |= _grams(words)
    shared = _grams(candidate) & most
    return [
        sum(count for gram, count in shared.items() if len(gram) == order)
        for order in range(1, MAX_ORDER + 1)
    ]


def _nearest_length(candidate: Words, known: Sequence[Words]) -> int:
    lengths = [len(words) for words in known]
    return min(lengths, key=lambda length: (abs(length - len(candidate)), length))


def _rouge_l_of(candidate: Words, known: Sequence[Words]) -> float:
    shared = [longest_common(candidate, words) for words in known]
    precision = max(shared) / len(candidate)
    recall = max(length / len(words) for length, words in zip(shared, known, strict=True))
    if not precision or not recall:
        return 0.0
    squared = ROUGE_BETA**2
    return (1 + squared) * precision * recall / (recall + squared * precision)


def longest_common(first: Words, second: Words) -> int:
    """Compute the length of the longest common subsequence of words, or of a text's letters."""
    row = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for place, other in enumerate(second, start=1):
            above = row[place]
            row[place] = diagonal + 1 if word == other else max(above, row[place - 1])
            diagonal = above
    return row[-1]


def _score_one(
    candidate: Words | None,
    known: Sequence[Words],
    score: Callable[[Words, Sequence[Words]], float | None],
) -> Score:
    if not known:
        return NO_REFERENCE
    if not candidate:
        return UNREADABLE
    value = score(candidate, known)
    return WITHOUT_WEIGHT if value is None else Score(value)
