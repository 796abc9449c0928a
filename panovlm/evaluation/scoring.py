"""Predictions: what a model answered, and how each answer scores."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from panovlm.data.records import Record
from panovlm.evaluation.asking import Answers
from panovlm.evaluation.benchmarks.items import Benchmark, Item
from panovlm.evaluation.judge import Judge
from panovlm.evaluation.seam_shifted import yaw_shift_to_seam_deg
from panovlm.metrics.intervals import Interval, difference_interval, share_interval
from panovlm.metrics.scores import Score, counted
from panovlm.runtime.progress import progress_bar


@dataclass(frozen=True)
class Prediction:
    """One answer and its score.

    Attributes:
        record: The question, as it was asked.
        item: The question, with what is correct for the picture as it was shown.
        answer: What the model said.
        score: Of the answer.
    """

    record: Record
    item: Item
    answer: str
    score: Score

    @property
    def panorama(self) -> str:
        """The picture's file; intervals are over whole panoramas."""
        return str(self.item.image)

    @property
    def expected(self) -> str:
        """The first reference."""
        return self.item.references[0]

    @property
    def is_right(self) -> bool:
        """Whether the answer has the full score."""
        return self.score.value == 1.0


def score_answers(
    benchmark: Benchmark,
    items: Sequence[Item],
    records: Sequence[Record],
    answers: Answers[str],
    judge: Judge | None = None,
) -> Answers[Prediction]:
    """Score all answers, by the judge where there is one.

    Args:
        benchmark: Its rule scores.
        items: Questions with what is correct.
        records: The same questions, as they were asked.
        answers: To these questions.
        judge: Grades the answers to pictures as they are, in place of the benchmark's rule.
    """

    def predictions(texts: Sequence[str]) -> list[Prediction]:
        scores = _score(benchmark, items, texts, judge)
        return [Prediction(*each) for each in zip(records, items, texts, scores, strict=True)]

    def rotated(place: int, yaw_shift_deg: float, text: str) -> Prediction:
        item = benchmark.rotate(items[place], yaw_shift_deg) if benchmark.rotate else None
        if item is None:
            raise ValueError("found an answer about a rotated picture, expected a `rotate`")
        return Prediction(records[place], item, text, benchmark.score([item], [text])[0])

    seen = predictions(answers.seen)
    return Answers(
        seen=seen,
        baselines={name: predictions(texts) for name, texts in answers.baselines.items()},
        yaw_rotated={
            place: [
                seen[place],
                *(
                    rotated(place, 360.0 * stride / len(texts), text)
                    for stride, text in enumerate(texts[1:], start=1)
                ),
            ]
            for place, texts in answers.yaw_rotated.items()
        },
        changed=answers.changed,
        seam_shifted={
            place: rotated(place, yaw_shift_to_seam_deg(items[place].yaw_deg or 0.0), text)
            for place, text in answers.seam_shifted.items()
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


def accuracy(predictions: Sequence[Prediction], seed: int = 0) -> Interval:
    """Compute the share of correct answers, with its interval over whole panoramas."""
    return share_interval(
        [p.is_right for p in predictions], [p.panorama for p in predictions], seed
    )


def gain_over(
    others: Sequence[Prediction], ours: Sequence[Prediction], worst: float = 0.0
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
