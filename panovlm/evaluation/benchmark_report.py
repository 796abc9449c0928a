"""What the predictions for a benchmark say: scores with intervals, by kind and stratum."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from panovlm.evaluation.asking import Answers, Sample
from panovlm.evaluation.benchmarks.items import (
    Benchmark,
    interval_over_panoramas,
    summary_over_panoramas,
)
from panovlm.evaluation.records_report import ablation_facts, changed_share
from panovlm.evaluation.scoring import Prediction, gain_over, grouped
from panovlm.geometry.layouts import ViewLayout
from panovlm.metrics.choices import every_order_right
from panovlm.metrics.scores import summarise
from panovlm.metrics.strata import pole_stratum, seam_stratum

Predictions = Sequence[Prediction]


def benchmark_report(
    benchmark: Benchmark, answers: Answers[Prediction], layout: ViewLayout
) -> dict[str, Any]:
    """Return everything that the answers say.

    Args:
        benchmark: What was asked.
        answers: Of any number of items but 0.
        layout: The model's views.
    """
    return {
        **describe(benchmark, answers.seen),
        "baselines": {
            name: describe(benchmark, others) for name, others in answers.baselines.items()
        },
        "better_than": {
            name: gain_over(others, answers.seen, benchmark.worst)
            for name, others in answers.baselines.items()
        },
        **_rotation_facts(benchmark, [*answers.yaw_rotated.values()]),
        **_seam_shifted_facts(benchmark, answers),
        "seeds": [
            _of_seed(benchmark, answers, seed, each) for seed, each in enumerate(answers.samples)
        ],
        **ablation_facts(answers, layout),
    }


def describe(benchmark: Benchmark, predictions: Predictions) -> dict[str, Any]:
    """Summarise scores: overall with its interval, by kind, by stratum, and the extras."""

    def by(key_of: Callable[[Prediction], str | None]) -> dict[str, Any]:
        groups = grouped(predictions, key_of)
        return {key: _summary(benchmark, group) for key, group in groups.items()}

    items, scores = [p.item for p in predictions], [p.score for p in predictions]
    return {
        "score": _score(benchmark, predictions),
        "interval": interval_over_panoramas(items, scores, benchmark.worst),
        "by_kind": by(lambda p: p.item.kind),
        "by_distance_from_seam": by(lambda p: seam_stratum(p.item.yaw_deg)),
        "by_distance_from_pole": by(lambda p: pole_stratum(p.item.pitch_deg)),
        "extras": benchmark.extras(items, [p.answer for p in predictions], scores),
    }


def _score(benchmark: Benchmark, predictions: Predictions) -> dict[str, Any]:
    scores = [prediction.score for prediction in predictions]
    return asdict(summarise(scores, worst=benchmark.worst))


def _summary(benchmark: Benchmark, predictions: Predictions) -> dict[str, Any]:
    return summary_over_panoramas(
        [prediction.item for prediction in predictions],
        [prediction.score for prediction in predictions],
        benchmark.worst,
    )


def _rotation_facts(benchmark: Benchmark, questions: Sequence[Predictions]) -> dict[str, Any]:
    """Sum up the answers to some items under every yaw rotation; empty if none was asked.

    Returns:
        Under `yaw_rotated`: `score`, of the answers on rotated pictures, the unrotated left out;
        `by_rotation`, the same by the degrees the camera turned right, from 0; `right_every`, in
        which an item counts 1 if it has the full score under every rotation (not of errors, which
        are never quite 0).
    """
    if not questions:
        return {}
    columns = [*zip(*questions, strict=True)]
    facts = {
        "score": _summary(benchmark, [p for column in columns[1:] for p in column]),
        "by_rotation": {
            f"{place * 360 / len(columns):g}°": _summary(benchmark, column)
            for place, column in enumerate(columns)
        },
    }
    if not benchmark.less_is_better:
        facts["right_every"] = _right_every(questions)
    return {"yaw_rotated": facts}


def _right_every(questions: Sequence[Predictions]) -> dict[str, Any]:
    asked = [(place, p) for place, question in enumerate(questions) for p in question]
    every = every_order_right([p.score for _, p in asked], [place for place, _ in asked])
    items = [questions[place][0].item for place in every]
    return summary_over_panoramas(items, [*every.values()])


def _seam_shifted_facts(benchmark: Benchmark, answers: Answers[Prediction]) -> dict[str, Any]:
    """Compare the scores on seam-shifted pictures with those on the pictures as they are."""
    if not answers.seam_shifted:
        return {}
    as_it_is = [answers.seen[place] for place in answers.seam_shifted]
    shifted = [*answers.seam_shifted.values()]
    facts = {
        "score": _score(benchmark, shifted),
        "as_it_is": _score(benchmark, as_it_is),
        "gain": gain_over(as_it_is, shifted, benchmark.worst),
    }
    return {"seam_shifted": facts}


def _of_seed(
    benchmark: Benchmark, answers: Answers[Prediction], seed: int, sample: Sample
) -> dict[str, Any]:
    """Return the figures of one seed alone."""
    items, scores = [p.item for p in answers.seen], [p.score for p in answers.seen]
    return {
        "seed": seed,
        "interval": interval_over_panoramas(items, scores, benchmark.worst, seed),
        **_rotation_facts(benchmark, [answers.yaw_rotated[place] for place in sample.yaw_rotated]),
        **changed_share(answers, sample),
    }


def rows(benchmark: Benchmark, answers: Answers[Prediction]) -> list[dict[str, Any]]:
    """Return every item as plain data, with all that was answered to it."""
    return [_row(benchmark, answers, place) for place in range(len(answers.seen))]


def _row(benchmark: Benchmark, answers: Answers[Prediction], place: int) -> dict[str, Any]:
    seen = answers.seen[place]
    item = seen.item
    row: dict[str, Any] = {
        "name": item.name,
        "image": str(item.image),
        "question": item.question,
        "references": [*item.references],
        **_answered(seen),
        "kind": item.kind,
        "yaw_deg": item.yaw_deg,
        "pitch_deg": item.pitch_deg,
        "baselines": {name: _answered(ps[place]) for name, ps in answers.baselines.items()},
    }
    if benchmark.point is not None:
        row["answered_deg"] = benchmark.point(seen.answer)
    if place in answers.yaw_rotated:
        row["yaw_rotated"] = [_answered(p) for p in answers.yaw_rotated[place]]
    if place in answers.changed:
        row["changed_by_view"] = answers.changed[place]
    if place in answers.seam_shifted:
        row["seam_shifted"] = _answered(answers.seam_shifted[place])
    return row


def _answered(prediction: Prediction) -> dict[str, Any]:
    score = prediction.score
    return {"answer": prediction.answer, "score": score.value, "missing": score.missing}
