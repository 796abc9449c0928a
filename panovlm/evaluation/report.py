"""What predictions say: scores with intervals, by kind, direction and stratum.

Nothing is filled in, and counts stand beside every score.
"""

from collections.abc import Callable, Sequence
from typing import Any

from panovlm.evaluation.asking import Answers, Sample
from panovlm.evaluation.benchmarks.items import Benchmark, interval_over_panoramas
from panovlm.evaluation.rotation import consistent_answers, rotation, summary_of
from panovlm.evaluation.scoring import Prediction, gain_over, grouped
from panovlm.evaluation.view_ablation import view_ablation
from panovlm.geometry.layouts import ViewLayout
from panovlm.metrics.angles import sector
from panovlm.metrics.strata import pole_stratum, seam_stratum

Predictions = Sequence[Prediction]
KeyOf = Callable[[Prediction], str | None]


def _direction(prediction: Prediction) -> str | None:
    yaw_deg = prediction.item.yaw_deg
    return None if yaw_deg is None else sector(yaw_deg)


def _crossing(prediction: Prediction) -> str | None:
    crosses = prediction.item.facts.get("crosses_seam")
    return None if crosses is None else "cut by the seam" if crosses else "not cut"


GROUPS: dict[str, KeyOf] = {
    "by_kind": lambda p: p.item.kind,
    "by_direction": _direction,
    "by_distance_from_seam": lambda p: seam_stratum(p.item.yaw_deg),
    "by_seam": _crossing,
    "by_distance_from_pole": lambda p: pole_stratum(p.item.pitch_deg),
}
"""What scores are grouped by: the direction in eight sectors, whether the seam cuts a target."""


def report_of(
    benchmark: Benchmark, answers: Answers[Prediction], layout: ViewLayout
) -> dict[str, Any]:
    """Return everything that the answers say.

    Args:
        benchmark: What was asked.
        answers: Of any number of questions but 0.
        layout: The model's views.
    """
    baselines = answers.baselines.items()
    samples = enumerate(answers.samples)
    return {
        **describe(benchmark, answers.seen),
        "baselines": {name: describe(benchmark, others) for name, others in baselines},
        "better_than": {
            name: gain_over(others, answers.seen, benchmark.worst) for name, others in baselines
        },
        **_again(benchmark, answers, _all_of(answers)),
        "seeds": [_of_seed(benchmark, answers, seed, each) for seed, each in samples],
        **_ablation(answers, layout),
    }


def describe(benchmark: Benchmark, predictions: Predictions) -> dict[str, Any]:
    """Summarise scores.

    Returns:
        `score`, with its `interval` over panoramas and its coverage; the same for each of `GROUPS`,
        and for each kind with a direction `by_kind_and_direction`, where there are two; and the
        benchmark's own `extras`.
    """
    kinds = grouped([p for p in predictions if p.item.yaw_deg is not None], GROUPS["by_kind"])
    answers, scores = [p.answer for p in predictions], [p.score for p in predictions]
    return {
        "score": summary_of(benchmark, predictions),
        **{name: _by(benchmark, predictions, key_of) for name, key_of in GROUPS.items()},
        "by_kind_and_direction": {
            kind: _by(benchmark, own, _direction) for kind, own in kinds.items() if len(kinds) > 1
        },
        "extras": benchmark.extras([p.item for p in predictions], answers, scores),
    }


def _by(benchmark: Benchmark, predictions: Predictions, key_of: KeyOf) -> dict[str, Any]:
    groups = grouped(predictions, key_of)
    return {key: summary_of(benchmark, group) for key, group in groups.items()}


def _all_of(answers: Answers[Prediction]) -> Sample:
    """Return all the questions that were asked again, whichever seed sampled them."""
    probed = {name: [*found] for name, found in answers.probed.items()}
    return Sample([*answers.yaw_rotated], [*answers.changed], probed)


def _again(benchmark: Benchmark, answers: Answers[Prediction], sample: Sample) -> dict[str, Any]:
    """Sum up the answers of a sample on rotated pictures and by the probes, where asked for.

    Returns:
        `yaw_rotated`, as `rotation` returns it; for each probe `score`, `as_it_is` (of the same
        questions about the pictures as they are) and `gain`, how much higher it is then.
    """
    facts: dict[str, Any] = {}
    if sample.yaw_rotated:
        questions = [answers.yaw_rotated[place] for place in sample.yaw_rotated]
        facts["yaw_rotated"] = rotation(benchmark, questions)
    for name, found in answers.probed.items():
        as_it_is = [answers.seen[place] for place in sample.probed[name]]
        moved = [found[place] for place in sample.probed[name]]
        facts[name] = {
            "score": summary_of(benchmark, moved),
            "as_it_is": summary_of(benchmark, as_it_is),
            "gain": gain_over(as_it_is, moved, benchmark.worst),
        }
    return facts


def _of_seed(
    benchmark: Benchmark, answers: Answers[Prediction], seed: int, sample: Sample
) -> dict[str, Any]:
    """Return the figures of one seed alone."""
    items, scores = [p.item for p in answers.seen], [p.score for p in answers.seen]
    changed = [any(answers.changed[place]) for place in sample.ablated]
    return {
        "seed": seed,
        "interval": interval_over_panoramas(items, scores, benchmark.worst, seed),
        **_again(benchmark, answers, sample),
        **({"changed_by_any": sum(changed) / len(changed)} if changed else {}),
    }


def _ablation(answers: Answers[Prediction], layout: ViewLayout) -> dict[str, Any]:
    """Sum up the answers without a view, under `view_ablation`; empty if none was asked."""
    if not answers.changed:
        return {}
    items = [answers.seen[place].item for place in answers.changed]
    return {"view_ablation": view_ablation(items, [*answers.changed.values()], layout)}


def rows(benchmark: Benchmark, answers: Answers[Prediction]) -> list[dict[str, Any]]:
    """Return every question as plain data, with all that was answered to it."""
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
    if rotated := answers.yaw_rotated.get(place):
        row["yaw_rotated"] = [_answered(p) for p in rotated]
        row["rotated_back"] = consistent_answers(rotated)
    if changed := answers.changed.get(place):
        row["changed_by_view"] = changed
    probed = answers.probed.items()
    return row | {name: _answered(found[place]) for name, found in probed if place in found}


def _answered(prediction: Prediction) -> dict[str, Any]:
    score = prediction.score
    return {"answer": prediction.answer, "score": score.value, "missing": score.missing}
