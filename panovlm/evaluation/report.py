"""What predictions say: scores with intervals, by kind, direction and stratum.

Nothing is filled in, and counts stand beside every score.
"""

from collections.abc import Callable, Sequence
from typing import Any

from panovlm.evaluation.asking import Answers, Sample
from panovlm.evaluation.benchmarks.items import Benchmark
from panovlm.evaluation.rotation import consistent_answers, rotation
from panovlm.evaluation.scoring import Prediction, gain_over, grouped, summary_of
from panovlm.evaluation.shown import PROBES
from panovlm.evaluation.view_ablation import changed_by_view, view_ablation
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
    everything = {way: [*found] for way, found in answers.again.items()}
    return {
        **describe(benchmark, answers.seen),
        "baselines": {name: describe(benchmark, others) for name, others in baselines},
        "better_than": {
            name: gain_over(benchmark, others, answers.seen) for name, others in baselines
        },
        **_again(benchmark, answers, everything),
        "seeds": [
            _of_seed(benchmark, answers, seed, each) for seed, each in enumerate(answers.samples)
        ],
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


def _again(benchmark: Benchmark, answers: Answers[Prediction], sample: Sample) -> dict[str, Any]:
    """Sum up the answers of a sample on rotated pictures and by the probes, where asked for.

    Returns:
        `yaw_rotated`, as `rotation` returns it; for each probe `score`, `as_it_is` (of the same
        questions about the pictures as they are) and `gain`, how much higher it is then.
    """
    facts: dict[str, Any] = {}
    if "yaw_rotated" in answers.again:
        questions = [answers.rotated(place) for place in sample["yaw_rotated"]]
        facts["yaw_rotated"] = rotation(benchmark, questions)
    for name in [name for name in PROBES if name in answers.again]:
        as_it_is = [answers.seen[place] for place in sample[name]]
        moved = [p for place in sample[name] for p in answers.again[name][place]]
        facts[name] = {
            "score": summary_of(benchmark, moved),
            "as_it_is": summary_of(benchmark, as_it_is),
            "gain": gain_over(benchmark, as_it_is, moved),
        }
    return facts


def _of_seed(
    benchmark: Benchmark, answers: Answers[Prediction], seed: int, sample: Sample
) -> dict[str, Any]:
    """Return the figures of one seed alone."""
    changed = [any(_changed(answers, place)) for place in sample.get("without_view", ())]
    return {
        "seed": seed,
        "interval": summary_of(benchmark, answers.seen, seed)["interval"],
        **_again(benchmark, answers, sample),
        **({"changed_by_any": sum(changed) / len(changed)} if changed else {}),
    }


def _changed(answers: Answers[Prediction], place: int) -> list[bool]:
    """Return for each view whether an answer without it is another."""
    without = answers.again["without_view"][place]
    return changed_by_view(answers.seen[place].answer, [p.answer for p in without])


def _ablation(answers: Answers[Prediction], layout: ViewLayout) -> dict[str, Any]:
    """Sum up the answers without a view, under `view_ablation`; empty if none was asked."""
    places = answers.again.get("without_view", {})
    if not places:
        return {}
    items, changed = [answers.seen[p].item for p in places], [_changed(answers, p) for p in places]
    return {"view_ablation": view_ablation(items, changed, layout)}


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
    if item.declared:
        row["declared"] = item.declared.said
    if rotated := answers.rotated(place):
        row["yaw_rotated"] = [_answered(p) for p in rotated]
        row["rotated_back"] = consistent_answers(rotated)
    for name, found in answers.again.items():
        if place in found and name in PROBES:
            row[name] = _answered(found[place][0])
        elif place in found and name == "without_view":
            row["changed_by_view"] = _changed(answers, place)
    return row


def _answered(prediction: Prediction) -> dict[str, Any]:
    score = prediction.score
    return {"answer": prediction.answer, "score": score.value, "missing": score.missing}
