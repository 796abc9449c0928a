"""The report's section on one stage: its loss beside the range expected, and its scalars."""

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite
from typing import Any

from panovlm.evaluation.pages.charts import Band, legend, line_chart, small_line_chart

Facts = Mapping[str, Any]
Log = Sequence[Mapping[str, Any]]

STAGE_TITLES = {
    "vision": "Stage 1, vision: views that share a sight come to agree",
    "resampler": "Stage 2, resampler: the language model learns to look",
    "finetune": "Stage 3, finetune: answering questions",
}
SCALARS = {
    "retrieval": "held-out tokens whose nearest token in the neighbour view is their partner",
    "retrieval_chance": "the same by chance",
    "overlap_cosine": "cosine of held-out partners",
    "overlap_mse": "mean squared distance of held-out partners",
    "latent_std": "standard deviation of the resampler's tokens; near 0 means collapse",
    "projected_std": "standard deviation of the projector's tokens; near 0 means collapse",
    "latent_rank": "effective rank of the resampler's tokens; near 1 means collapse",
    "projected_rank": "effective rank of the projector's tokens; near 1 means collapse",
    "wrap_share": "share of pairs that lead across the seam",
    "feature_std": "standard deviation of the features in training; near 0 means collapse",
    "invariance": "invariance term",
    "variance": "variance term",
    "covariance": "covariance term",
}


def stage_section(name: str, facts: Facts, log: Log) -> str:
    """Give a stage's heading, its facts, its loss curve and its scalars, as far as they are there.

    Args:
        name: Of the stage.
        facts: Any of `loss_first`, `loss_last`, `seconds`, and `expected_first` and
            `expected_last`, the ranges (low, high) of the two losses.
        log: Entries with `step`, and `loss` or any of `SCALARS`.
    """
    bands = _bands(facts)
    chart = line_chart(_points(log, "loss"), f"Loss of the stage {name}", bands)
    parts = [_stage_facts(facts)]
    if chart:
        entries = [("ours", "loss"), *([("band", "range expected of this stage")] if bands else [])]
        parts += [legend(entries), f'<div class="chart">{chart}</div>']
    content = "\n".join(filter(None, [*parts, _scalars(log)]))
    return f"<h2>{escape(STAGE_TITLES.get(name, name))}</h2>\n{content}" if content else ""


def _bands(facts: Facts) -> list[Band]:
    bands = []
    for key, when in (("expected_first", "start"), ("expected_last", "end")):
        if facts.get(key) is not None:
            low, high = facts[key]
            label = f"expected {when} {_range(facts[key])}"
            bands.append(Band(low, high, label, at_end=when == "end"))
    return bands


def _stage_facts(facts: Facts) -> str:
    said = []
    for key, when in (("first", "loss at the start"), ("last", "loss at the end")):
        if (loss := facts.get(f"loss_{key}")) is not None:
            said.append(f"{when} {loss:.4g}{_beside(loss, facts.get(f'expected_{key}'))}")
    if (seconds := facts.get("seconds")) is not None:
        said.append(f"trained in {duration(seconds)}")
    text = "; ".join(said)
    return f'<p class="soft">{escape(text[0].upper() + text[1:])}.</p>' if said else ""


def _beside(loss: float, expected: Sequence[float] | None) -> str:
    """Say where a loss lies beside its expected range."""
    if expected is None or not isfinite(loss):
        return ""
    low, high = expected
    place = "below" if loss < low else "above" if loss > high else "within"
    return f" ({place} the expected {_range(expected)})"


def _range(limits: Sequence[float]) -> str:
    return f"{limits[0]:g}–{limits[1]:g}"


def _points(log: Log, key: str) -> list[tuple[float, float]]:
    return [(float(e["step"]), float(e[key])) for e in log if e.get(key) is not None]


def _scalars(log: Log) -> str:
    """Draw the scalars that stage 1 logs, each with its last value."""
    figures = []
    for key, meaning in SCALARS.items():
        points = _points(log, key)
        if chart := small_line_chart(points, key):
            caption = f"<b>{points[-1][1]:.4g}</b> at last: {escape(meaning)}"
            figures.append(f"<figure>{chart}<figcaption>{caption}</figcaption></figure>")
    return '<div class="small">\n' + "\n".join(figures) + "\n</div>" if figures else ""


def duration(seconds: float) -> str:
    """Give a time as a person says it, in its two largest units."""
    whole = round(seconds)
    if whole >= 3600:
        minutes = round(seconds / 60)
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{seconds:.3g} s"
