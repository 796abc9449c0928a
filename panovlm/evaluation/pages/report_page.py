"""The report on records as a page: what was measured, how it trained, what it answered.

A part of the report that was not measured leaves its section out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from panovlm.evaluation.pages.charts import Bar
from panovlm.evaluation.pages.marked_pictures import Example
from panovlm.evaluation.pages.page import EVALUATE, render, write_page
from panovlm.evaluation.pages.scores import ACCURACY, INPUTS, Facts, limits_of
from panovlm.evaluation.pages.stages import Log, stages_of
from panovlm.evaluation.units import NOT_MEASURED, SHARE
from panovlm.figures.sheets import as_data_uri
from panovlm.geometry.sphere import DIRECTIONS

_LISTING_SHARES = ("occupied", "lines", "recall", "precision")


def write_report(
    report: Facts,
    logs: Mapping[str, Log],
    examples: Sequence[Example],
    views_sheet: Image.Image | None,
    out: Path,
) -> None:
    """Write the page.

    Args:
        report: As `evaluate` writes it: `accuracy` with `overall`, `count` and `by_kind`, as shares
            in [0, 1]; all else may be missing.
        logs: For each stage the entries of its log, each with `step`, and `loss` or other scalars.
        examples: Questions to show with their pictures, right and wrong.
        views_sheet: Picture of the views and their overlap; None leaves it out.
        out: The HTML file, replaced if it is such a page.

    Raises:
        PanoVLMError: If an example's picture cannot be read or the page cannot be written.
    """
    html = render(
        "report.html.jinja",
        EVALUATE,
        report=report,
        verdict=verdict(report),
        measure=ACCURACY,
        total=_total(report),
        **_scores(report),
        **_sphere_scores(report),
        listings=_listings(report),
        stages=stages_of(report.get("stages", {}), logs),
        views_sheet=as_data_uri(views_sheet) if views_sheet else None,
        right=[example for example in examples if example.is_right],
        wrong=[example for example in examples if not example.is_right],
    )
    write_page(html, out, EVALUATE)


def verdict(report: Facts) -> str:
    """Describe in one sentence how good the answers are, and against guessing, where asked."""
    text = ACCURACY.result(_total(report))
    if gain := report.get("better_than", {}).get("blind"):
        text += f", {ACCURACY.against_blind(gain)}"
    return f"{text}."


def _blind(report: Facts) -> Facts:
    blind: Facts = report.get("baselines", {}).get("blind", {})
    return blind


def _total(report: Facts) -> Bar:
    accuracy, other = report["accuracy"], _blind(report).get("overall")
    total = _bar("all", accuracy)
    return replace(total, other=other, is_total=True)


def _bar(label: str, scores: Facts) -> Bar:
    """Return the accuracy over all questions."""
    count, covered = scores["count"], scores.get("coverage")
    read = None if covered is None else round(covered * count)
    return Bar(label, scores["overall"], count=count, interval=scores.get("interval"), scored=read)


def _bars(accuracy: Facts, name: str, others: Mapping[str, float] | None = None) -> list[Bar]:
    """Return accuracy by one of its groupings, as `by_kind` and what is beside it."""
    counts, limits, read = (
        accuracy.get(f"{part}_by_{name}", {}) for part in ("count", "interval", "coverage")
    )
    return [
        Bar(
            key,
            share,
            (others or {}).get(key),
            counts.get(key),
            interval=limits.get(key),
            scored=round(read[key] * counts[key]) if key in read else None,
        )
        for key, share in accuracy.get(f"by_{name}", {}).items()
    ]


def _scores(report: Facts) -> dict[str, Any]:
    """Return the scores by kind of question, and those of the baselines with what they lack."""
    baselines = [
        (_bar(INPUTS[name], each), gain)
        for name, gain in report.get("better_than", {}).items()
        for each in [report["baselines"][name]]
    ]
    kinds = _bars(report["accuracy"], "kind", _blind(report).get("by_kind"))
    return {"kinds": kinds, "baselines": baselines}


def _listings(report: Facts) -> list[list[Any]]:
    """Return a row for the whole panorama and for each baseline."""
    inputs = {"full panorama": report["accuracy"]}
    inputs |= {INPUTS[name]: scores for name, scores in report.get("baselines", {}).items()}
    return [
        [
            name,
            found["count"],
            *map(_share_text, map(found.get, _LISTING_SHARES)),
            f"{found['f1']:.3f}",
        ]
        for name, scores in inputs.items()
        if (found := scores.get("listings"))
    ]


def _share_text(share: Facts | None) -> str:
    if share is None:
        return NOT_MEASURED
    limits = limits_of(share)
    text = SHARE.score_text(share["mean"])
    return f"{text} ({SHARE.limits_text(limits)})" if limits else text


def _sphere_scores(report: Facts) -> dict[str, Any]:
    """Return what only a panorama has: scores by direction, by stratum, and when rotated."""
    accuracy = report["accuracy"]
    roses = {"all kinds": accuracy, **accuracy.get("by_kind_and_sector", {})}
    crossing = [
        Bar(label, accuracy[k], None, accuracy[f"count_{k}"], interval=accuracy[f"interval_{k}"])
        for label, k in (("cut by the seam", "seam"), ("not cut", "not_seam"))
        if f"count_{k}" in accuracy
    ]
    return {
        "roses": {name: _sectors(scores) for name, scores in roses.items()},
        "strata": {
            "the seam": _bars(accuracy, "seam_distance"),
            "the nearest pole": _bars(accuracy, "pole_distance"),
        },
        "crossing": crossing,
        "seam_shifted": _seam_shifted(report.get("seam_shifted")),
        "rotations": _rotations(report.get("rotation")),
    }


def _sectors(scores: Facts) -> list[Bar]:
    """Return accuracy by the true direction, from the front on to the right."""
    found = {bar.label: bar for bar in _bars(scores, "sector")}
    return [found.get(word, Bar(word, None)) for word in DIRECTIONS] if found else []


def _seam_shifted(seam: Facts | None) -> list[Bar]:
    if seam is None:
        return []
    return [
        Bar("original", seam["as_it_is"], count=seam["count"]),
        Bar("seam-shifted", seam["overall"], count=seam["count"], interval=seam["interval"]),
    ]


def _rotations(rotation: Facts | None) -> tuple[list[Bar], list[Bar]]:
    """Return accuracy under each rotation, and over all of them."""
    if rotation is None:
        return [], []
    count, limits = rotation["count"], rotation["interval_by_rotation"]
    bars = [Bar(k, v, None, count, interval=limits[k]) for k, v in rotation["by_rotation"].items()]
    sums = {
        "right_every": ("correct under every rotation", count),
        "consistent": ("same answer under every rotation", rotation.get("consistent_count")),
        "agreement": ("pairs of rotations that agree", rotation.get("consistent_count")),
    }
    return bars, [
        Bar(label, rotation[key], None, asked, interval=rotation.get(f"interval_{key}"))
        for key, (label, asked) in sums.items()
        if key in rotation
    ]
