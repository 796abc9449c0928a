"""Predictions: what a model answered, and how each answer scores."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from panovlm.evaluation.asking import Answers
from panovlm.evaluation.benchmarks.items import Benchmark, Item
from panovlm.evaluation.judge import Judge
from panovlm.evaluation.shown import PROBES
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

    @property
    def is_right(self) -> bool:
        """Whether the answer has the full score."""
        return self.score.value == 1.0


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

    def one(item: Item | None, text: str) -> Prediction:
        if item is None:
            raise ValueError("found an answer about a changed picture where none is known")
        return Prediction(item, text, benchmark.score([item], [text])[0])

    def rotated(place: int, texts: Sequence[str]) -> list[Prediction]:
        shifts_deg = [360.0 * stride / len(texts) for stride in range(len(texts))]
        pairs = zip(shifts_deg, texts, strict=True)
        return [one(benchmark.rotated(items[place], deg), text) for deg, text in pairs]

    seen = predictions(answers.seen)
    return Answers(
        seen=seen,
        baselines={name: predictions(texts) for name, texts in answers.baselines.items()},
        yaw_rotated={
            place: [seen[place], *rotated(place, texts)[1:]]
            for place, texts in answers.yaw_rotated.items()
        },
        changed=answers.changed,
        probed={
            name: {p: one(PROBES[name].expect(benchmark, items[p]), t) for p, t in texts.items()}
            for name, texts in answers.probed.items()
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


def gain_over(
    others: Sequence[Prediction], ours: Sequence[Prediction], worst: float
) -> dict[str, Any] | None:
    """Compute how much higher `ours` score on the same questions, with its paired interval.

    Args:
        others: Answers to compare with.
        ours: Answers to the same questions.
        worst: What one counts as that could not be read.
    """
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
