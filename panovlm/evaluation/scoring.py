"""Predictions: what a model answered, and how each answer scores."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from panovlm.evaluation.asking import Answers
from panovlm.evaluation.benchmarks.items import Benchmark, Item, summary_over_panoramas
from panovlm.evaluation.judge import Judge
from panovlm.evaluation.shown import expected
from panovlm.metrics.intervals import difference_interval
from panovlm.metrics.scores import Score, counted
from panovlm.runtime.progress import progress_bar


@dataclass(frozen=True)
class Prediction:
    """One answer and its score.

    Attributes:
        item: The question, with what is correct for the picture as it was shown.
        answer: What the model said.
        score: Of the answer.
    """

    item: Item
    answer: str
    score: Score

    @property
    def panorama(self) -> str:
        """The picture's file; intervals are over whole panoramas."""
        return str(self.item.image)


def score_answers(
    benchmark: Benchmark, items: Sequence[Item], answers: Answers[str], judge: Judge | None = None
) -> Answers[Prediction]:
    """Score all answers, by the judge where there is one.

    Args:
        benchmark: Its rule scores.
        items: Questions with what is correct.
        answers: To these questions.
        judge: Grades the answers to pictures as they are, in place of the benchmark's rule.
    """

    def predictions(texts: Sequence[str]) -> list[Prediction]:
        scores = _score(benchmark, items, texts, judge)
        return [*map(Prediction, items, texts, scores)]

    def steps(way: str, place: int, texts: Sequence[str]) -> Iterator[Prediction]:
        for step, text in enumerate(texts, start=1):
            item = expected(benchmark, items[place], way, step, len(texts) + 1)
            if item is None:
                raise ValueError("found an answer about a changed picture where none is known")
            yield Prediction(item, text, benchmark.score([item], [text])[0])

    return Answers(
        seen=predictions(answers.seen),
        baselines={name: predictions(texts) for name, texts in answers.baselines.items()},
        again={
            way: {place: [*steps(way, place, texts)] for place, texts in found.items()}
            for way, found in answers.again.items()
        },
        samples=answers.samples,
    )


def _score(
    benchmark: Benchmark, items: Sequence[Item], texts: Sequence[str], judge: Judge | None
) -> list[Score]:
    if judge is None or benchmark.rubric is None:
        return benchmark.score(items, texts)
    with progress_bar("judged", len(items)) as advance:
        return judge.grade(benchmark.rubric, items, texts, advance)


def summary_of(
    benchmark: Benchmark, predictions: Sequence[Prediction], seed: int = 0
) -> dict[str, Any]:
    """Return the summary of the scores of predictions, with its interval over panoramas."""
    items, scores = [p.item for p in predictions], [p.score for p in predictions]
    return summary_over_panoramas(items, scores, benchmark.unit.worst, seed)


def gain_over(
    benchmark: Benchmark, others: Sequence[Prediction], ours: Sequence[Prediction]
) -> dict[str, Any] | None:
    """Compute how much higher `ours` score on the same questions, with its paired interval."""
    worst = benchmark.unit.worst
    first, second = (counted([p.score for p in each], worst) for each in (others, ours))
    gain = difference_interval(first, second, [prediction.panorama for prediction in ours])
    return asdict(gain) if gain else None


def grouped(
    predictions: Sequence[Prediction], key_of: Callable[[Prediction], str | None]
) -> dict[str, list[Prediction]]:
    """Group predictions: strata by their distance, all else by name; None leaves one out."""
    groups: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        if (key := key_of(prediction)) is not None:
            groups.setdefault(key, []).append(prediction)
    return {key: groups[key] for key in sorted(groups, key=_rank)}


def _rank(key: str) -> tuple[int, str]:
    stratum = re.match(r"(\d+)-\d+°$", key)
    return int(stratum[1]) if stratum else -1, key
