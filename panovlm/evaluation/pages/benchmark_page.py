"""A benchmark's report as a page, in the unit of its scores.

A part of the report that was not measured leaves its section out, and where nothing could be
scored no figure stands, only why not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from panovlm.evaluation.pages.benchmark_examples import best_and_worst, example_of, without_score
from panovlm.evaluation.pages.benchmark_extras import directions_answered, metric_rows
from panovlm.evaluation.pages.charts import Bar
from panovlm.evaluation.pages.page import EVALUATE, render, write_page
from panovlm.evaluation.pages.scores import INPUTS, Facts, Measure, limits_of
from panovlm.evaluation.units import UNITS
from panovlm.metrics.scores import Missing

REASONS = {
    Missing.UNREADABLE: "unreadable (counted as wrong)",
    Missing.NO_REFERENCE: "without a reference answer",
    Missing.NOT_JUDGED: "not judged",
    Missing.WITHOUT_WEIGHT: "whose references hold no word that weighs",
}
"""Why answers have no score, in a few words."""


def write_benchmark_page(report: Facts, rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Write the page.

    Args:
        report: As `evaluate_benchmark` gives it.
        rows: Its predictions.
        out: The HTML file, replaced if it is such a page.

    Raises:
        PanoVLMError: If a picture shown cannot be read or the page cannot be written.
    """
    best, worst = best_and_worst(report, rows)
    names = ("Best answers", "Worst answers")
    if report["less_is_better"]:
        names = ("Smallest errors", "Largest errors")
    examples = dict(zip((*names, "Not scored"), (best, worst, without_score(rows)), strict=True))
    html = render(
        "benchmark.html.jinja",
        EVALUATE,
        report=report,
        verdict=benchmark_verdict(report),
        measure=_measure(report),
        unscored=unscored(report["score"]),
        **_scores(report),
        **_sphere_scores(report),
        extras=metric_rows(report),
        directions_answered=directions_answered(report["extras"]),
        examples={k: [example_of(report, row) for row in v] for k, v in examples.items()},
    )
    write_page(html, out, EVALUATE)


def benchmark_verdict(report: Facts) -> str:
    """Describe in one sentence how good the answers are, and against the blind baseline."""
    measure, score = _measure(report), report["score"]
    if score["mean"] is None:
        return f"Nothing could be scored: of {score['count']:,} answers, {unscored(score)}."
    verdict = measure.result(_bar("all", score, report["interval"]), report["metric"])
    if "blind" in report["baselines"]:
        gain = report["better_than"]["blind"]
        beside = "not comparable with the blind baseline, as no question has a score in both"
        verdict += f", {measure.against_blind(gain) if gain else beside}"
    return f"{verdict}; {unscored(score)}." if score["missing"] else f"{verdict}."


def unscored(score: Facts) -> str:
    """Describe how many answers have no score, and why; empty if all have one."""
    return ", ".join(
        f"{count:,} {REASONS[Missing(reason)]}" for reason, count in score["missing"].items()
    )


def _measure(report: Facts) -> Measure:
    name = "Mean error" if report["less_is_better"] else "Score"
    return Measure(name, UNITS[report["unit"]], report["less_is_better"])


def _bar(label: str, score: Facts, interval: Facts | None) -> Bar:
    limits = limits_of(interval)
    return Bar(label, score["mean"], count=score["count"], interval=limits, scored=score["scored"])


def _bars(groups: Mapping[str, Facts]) -> list[Bar]:
    return [_bar(name, score, score["interval"]) for name, score in groups.items()]


def _scores(report: Facts) -> dict[str, Any]:
    """Return the scores, those by kind of question, and those of the baselines."""
    blind: Facts = report["baselines"].get("blind", {"by_kind": {}, "score": {"mean": None}})
    others = {name: each["mean"] for name, each in blind["by_kind"].items()}
    total = _bar("all", report["score"], report["interval"])
    return {
        "total": replace(total, other=blind["score"]["mean"], is_total=True),
        "kinds": [replace(bar, other=others.get(bar.label)) for bar in _bars(report["by_kind"])],
        "baselines": [
            (_bar(INPUTS[name], each["score"], each["interval"]), report["better_than"][name])
            for name, each in report["baselines"].items()
        ],
    }


def _sphere_scores(report: Facts) -> dict[str, Any]:
    """Return what only a panorama has: scores by stratum and when rotated."""
    seam, rotated = report.get("seam_shifted"), report.get("yaw_rotated")
    labels = {"as_it_is": "original", "score": "seam-shifted"}
    bars, sums, shares = [], [], []
    if rotated:
        score, every = rotated["score"], rotated.get("right_every")
        bars = _bars(rotated["by_rotation"])
        sums = [_bar("all but 0°", score, score["interval"])]
        shares = [_bar("correct under every rotation", every, every["interval"])] if every else []
    return {
        "strata": {
            "the seam": _bars(report["by_distance_from_seam"]),
            "the nearest pole": _bars(report["by_distance_from_pole"]),
        },
        "seam_shifted": [_bar(labels[key], seam[key], None) for key in labels] if seam else [],
        "rotations": (bars, sums, shares),
    }
