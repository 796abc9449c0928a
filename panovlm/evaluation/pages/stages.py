"""The training stages of a report: their losses beside the ranges expected, and their scalars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

from panovlm.evaluation.pages.charts import Band, Curve, Point
from panovlm.evaluation.pages.scores import Facts, duration

Log = Sequence[Mapping[str, Any]]

STAGE_TITLES = {
    "vision": "Stage 1, vision: neighbouring views agree on their overlap",
    "resampler": "Stage 2, resampler: the language model learns to read views",
    "finetune": "Stage 3, finetune: answering questions",
}
SCALARS = {
    "retrieval": "retrieval accuracy of held-out tokens among those of the neighbouring view",
    "retrieval_chance": "retrieval accuracy by chance",
    "overlap_cosine": "cosine similarity of held-out pairs of tokens",
    "overlap_mse": "mean squared distance of held-out pairs of tokens",
    "latent_std": "standard deviation of the resampler's tokens; near 0 means collapse",
    "projected_std": "standard deviation of the projector's tokens; near 0 means collapse",
    "latent_rank": "effective rank of the resampler's tokens; near 1 means collapse",
    "projected_rank": "effective rank of the projector's tokens; near 1 means collapse",
    "wrap_share": "share of pairs across the seam",
    "feature_std": "standard deviation of the features in training; near 0 means collapse",
    "invariance": "invariance term of the loss",
    "variance": "variance term of the loss",
    "covariance": "covariance term of the loss",
}


class Scalar(NamedTuple):
    """A scalar of the log: its key, what it means, its last value, and its curve."""

    key: str
    meaning: str
    last: float
    curve: Curve


@dataclass(frozen=True)
class StageView:
    """A stage as the page shows it; what was not measured is None or empty."""

    name: str
    title: str
    note: str
    loss: Curve | None
    scalars: list[Scalar]


def stages_of(stages: Mapping[str, Facts], logs: Mapping[str, Log]) -> list[StageView]:
    """Return every stage of which something is known.

    Args:
        stages: Of each stage any of `loss_first`, `loss_last`, `seconds`, and `expected_first` and
            `expected_last`, the ranges (low, high) of the two losses.
        logs: Of each stage entries with `step`, and `loss` or any of `SCALARS`.
    """
    names = dict.fromkeys([*stages, *logs])
    found = [_stage(name, stages.get(name, {}), logs.get(name, ())) for name in names]
    return [stage for stage in found if stage.note or stage.loss or stage.scalars]


def _stage(name: str, facts: Facts, log: Log) -> StageView:
    bands = [
        Band(facts[key][0], facts[key][1], key == "expected_last")
        for key in ("expected_first", "expected_last")
        if facts.get(key) is not None
    ]
    losses = _finite(_points(log, "loss"))
    scalars = [
        Scalar(key, meaning, points[-1][1], Curve(_finite(points), max_ticks=3))
        for key, meaning in SCALARS.items()
        if _finite(points := _points(log, key))
    ]
    loss = Curve(losses, bands) if losses else None
    return StageView(name, STAGE_TITLES.get(name, name), _note(facts), loss, scalars)


def _note(facts: Facts) -> str:
    parts = []
    for key, when in (("first", "loss at the start"), ("last", "loss at the end")):
        if (loss := facts.get(f"loss_{key}")) is not None:
            parts.append(f"{when} {loss:.4g}{_beside(loss, facts.get(f'expected_{key}'))}")
    if (seconds := facts.get("seconds")) is not None:
        parts.append(f"trained in {duration(seconds)}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if parts else ""


def _beside(loss: float, expected: Sequence[float] | None) -> str:
    """Describe where a loss lies beside its expected range."""
    if expected is None or not isfinite(loss):
        return ""
    low, high = expected
    place = "below" if loss < low else "above" if loss > high else "within"
    return f" ({place} the expected {low:g}–{high:g})"


def _points(log: Log, key: str) -> list[Point]:
    return [(float(e["step"]), float(e[key])) for e in log if e.get(key) is not None]


def _finite(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if all(map(isfinite, point))]
