"""What the predictions for records say: accuracy with intervals, by kind, direction and stratum.

Nothing is filled in, and counts stand beside every share.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from panovlm.evaluation.asking import Answers, Sample
from panovlm.evaluation.rotation import consistent_answers, rotation
from panovlm.evaluation.scoring import Prediction, accuracy, gain_over, grouped
from panovlm.evaluation.view_ablation import view_ablation
from panovlm.geometry.layouts import ViewLayout
from panovlm.inference.views_mattered import view_shares
from panovlm.metrics.angles import sector
from panovlm.metrics.listings import is_listing, listing_scores
from panovlm.metrics.scores import summarise
from panovlm.metrics.strata import pole_stratum, seam_distance_deg, seam_stratum


def records_report(answers: Answers[Prediction], layout: ViewLayout) -> dict[str, Any]:
    """Return everything that the answers say.

    Args:
        answers: Of any number of questions but 0.
        layout: The model's views.
    """
    return {
        "accuracy": describe(answers.seen),
        "baselines": {name: describe(others) for name, others in answers.baselines.items()},
        "better_than": {
            name: gain_over(others, answers.seen) for name, others in answers.baselines.items()
        },
        **_rotation_facts(answers),
        **ablation_facts(answers, layout),
        **_seam_shifted_facts(answers),
        "seeds": [_of_seed(answers, seed, each) for seed, each in enumerate(answers.samples)],
    }


def describe(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Score predictions by exact match.

    Returns:
        `overall`, `count`, `interval` (low, high; None of fewer than five panoramas), and
        `coverage`, the share of answers that are not empty (an empty one counts as wrong).
        `by_kind`, `count_by_kind`, `interval_by_kind`, `coverage_by_kind`; the same four
        `_by_sector` (the direction asked about), `_by_seam_distance` and `_by_pole_distance` as far
        as these are known, and `by_kind_and_sector`. `seam` and `not_seam`, with counts and
        intervals, where objects that cross the seam and others are asked about. `listings`, as
        `listing_scores` returns it, where listings are asked for.
    """
    whole = accuracy(predictions)
    result: dict[str, Any] = {
        "overall": whole.mean,
        "count": whole.count,
        "interval": whole.limits,
        "coverage": coverage(predictions),
    }
    for name, key_of in _GROUPS.items():
        result |= _by(name, predictions, key_of)
    result |= _kinds_and_sectors(predictions) | _seam_strata(predictions)
    return result | _listing_facts(predictions)


def coverage(predictions: Sequence[Prediction]) -> float:
    """Compute the share of answers, at least one, that could be read."""
    return summarise(prediction.score for prediction in predictions).coverage


def _listing_facts(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Score listings by direction and label: hardly one is correct as a whole."""
    listings = [p for p in predictions if is_listing(p.expected)]
    if not listings:
        return {}
    pairs = [(p.expected, p.answer) for p in listings]
    return {"listings": listing_scores(pairs, [p.panorama for p in listings])}


def _sector(prediction: Prediction) -> str | None:
    yaw_deg = prediction.record.yaw_deg
    return None if yaw_deg is None else sector(yaw_deg)


_GROUPS: Mapping[str, Callable[[Prediction], str | None]] = {
    "kind": lambda p: p.item.kind,
    "sector": _sector,
    "seam_distance": lambda p: seam_stratum(p.record.yaw_deg),
    "pole_distance": lambda p: pole_stratum(p.record.pitch_deg),
}
"""What scores are grouped by; None leaves a prediction out."""


def _by(
    name: str, predictions: Sequence[Prediction], key_of: Callable[[Prediction], str | None]
) -> dict[str, Any]:
    groups = grouped(predictions, key_of)
    found = {key: accuracy(group) for key, group in groups.items()}
    if not found:
        return {}
    return {
        f"coverage_by_{name}": {key: coverage(group) for key, group in groups.items()},
        f"by_{name}": {key: each.mean for key, each in found.items()},
        f"count_by_{name}": {key: each.count for key, each in found.items()},
        f"interval_by_{name}": {key: each.limits for key, each in found.items()},
    }


def _kinds_and_sectors(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Score each kind that has directions by them, where there are two."""
    kinds = grouped([p for p in predictions if p.record.yaw_deg is not None], _GROUPS["kind"])
    if len(kinds) < 2:
        return {}
    found = {kind: _by("sector", own, _sector) for kind, own in kinds.items()}
    return {"by_kind_and_sector": found}


def _seam_strata(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Compare questions about objects that cross the seam with those about all other objects."""
    about = [p for p in predictions if p.record.yaw_deg is not None]
    strata = grouped(about, lambda p: "seam" if p.record.crosses_seam else "not_seam")
    if len(strata) < 2:
        return {}
    found = {name: accuracy(strata[name]) for name in ("seam", "not_seam")}
    return {
        **{name: each.mean for name, each in found.items()},
        **{f"count_{name}": each.count for name, each in found.items()},
        **{f"interval_{name}": each.limits for name, each in found.items()},
    }


def _rotation_facts(answers: Answers[Prediction]) -> dict[str, Any]:
    """Sum up the answers on yaw-rotated pictures; empty if none was asked.

    Returns:
        `rotation_consistency`, the accuracy on rotated pictures (the unrotated left out), its
        interval and count, and `rotation`, as `rotation()` returns it.
    """
    if not answers.yaw_rotated:
        return {}
    questions = [*answers.yaw_rotated.values()]
    found = accuracy(_really_rotated(questions))
    return {
        "rotation_consistency": found.mean,
        "rotation_interval": found.limits,
        "rotation_count": found.count,
        "rotation": rotation(questions),
    }


def _really_rotated(questions: Sequence[Sequence[Prediction]]) -> list[Prediction]:
    return [prediction for question in questions for prediction in question[1:]]


def ablation_facts(answers: Answers[Prediction], layout: ViewLayout) -> dict[str, Any]:
    """Sum up the answers without a view, under `view_ablation`; empty if none was asked."""
    if not answers.changed:
        return {}
    records = [answers.seen[place].record for place in answers.changed]
    return {"view_ablation": view_ablation(records, [*answers.changed.values()], layout)}


def _seam_shifted_facts(answers: Answers[Prediction]) -> dict[str, Any]:
    """Compare answers on seam-shifted pictures with those on the pictures as they are.

    Returns:
        Under `seam_shifted`: `overall` accuracy, with `count` and `interval`; `as_it_is`; and
        `gain`, how much higher it is seam-shifted, with its paired interval. Empty if none was
        asked.
    """
    if not answers.seam_shifted:
        return {}
    as_it_is = [answers.seen[place] for place in answers.seam_shifted]
    shifted = [*answers.seam_shifted.values()]
    found = accuracy(shifted)
    facts = {
        "overall": found.mean,
        "count": found.count,
        "interval": found.limits,
        "as_it_is": accuracy(as_it_is).mean,
        "gain": gain_over(as_it_is, shifted),
    }
    return {"seam_shifted": facts}


def _of_seed(answers: Answers[Prediction], seed: int, sample: Sample) -> dict[str, Any]:
    """Return the figures of one seed alone, for their spread."""
    limits = accuracy(answers.seen, seed).limits
    facts: dict[str, Any] = {"seed": seed, "accuracy_interval": limits}
    if sample.yaw_rotated:
        questions = [answers.yaw_rotated[place] for place in sample.yaw_rotated]
        facts["rotation_consistency"] = accuracy(_really_rotated(questions)).mean
        summed = rotation(questions)
        facts |= {key: summed[key] for key in ("right_every", "consistent") if key in summed}
    facts |= changed_share(answers, sample)
    if sample.seam_shifted:
        shifted = [answers.seam_shifted[place] for place in sample.seam_shifted]
        facts["seam_shifted"] = accuracy(shifted).mean
    return facts


def changed_share(answers: Answers[Prediction], sample: Sample) -> dict[str, float]:
    """Return `changed_by_any` of what one seed sampled; empty if nothing."""
    changed = [any(answers.changed[place]) for place in sample.ablated]
    return {"changed_by_any": sum(changed) / len(changed)} if changed else {}


def rows(answers: Answers[Prediction]) -> list[dict[str, Any]]:
    """Return every question as plain data, with all that was answered to it."""
    return [_row(answers, place) for place in range(len(answers.seen))]


def _row(answers: Answers[Prediction], place: int) -> dict[str, Any]:
    seen = answers.seen[place]
    record = seen.record
    row = {
        "image": str(record.image),
        "question": record.messages[-2].content,
        "expected": seen.expected,
        **_answered(seen),
        "kind": record.kind,
        "yaw_deg": record.yaw_deg,
        "pitch_deg": record.pitch_deg,
        "seam_distance_deg": None if record.yaw_deg is None else seam_distance_deg(record.yaw_deg),
        "crosses_seam": record.crosses_seam,
        "baselines": {name: ps[place].answer for name, ps in answers.baselines.items()},
    }
    if rotated := answers.yaw_rotated.get(place):
        row["yaw_rotated"] = [_answered(p) for p in rotated]
        row["rotated_back"] = consistent_answers(rotated)
    if changed := answers.changed.get(place):
        row["changed_by_view"] = changed
        row["view_shares"] = view_shares(changed)
    if shifted := answers.seam_shifted.get(place):
        row["seam_shifted"] = _answered(shifted)
    return row


def _answered(prediction: Prediction) -> dict[str, Any]:
    return {"answer": prediction.answer, "right": prediction.is_right}
