"""A report as a page: what was measured, how it trained, what it answered.

A part of the report that was not measured leaves its section out, and where nothing could be
scored no figure stands, only why not.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from panovlm.evaluation.asking import Answers
from panovlm.evaluation.benchmarks.items import Benchmark
from panovlm.evaluation.benchmarks.names import RECORDS_NAME
from panovlm.evaluation.pages.charts import Bar
from panovlm.evaluation.pages.examples import choose_examples
from panovlm.evaluation.pages.extras import directions_answered, metric_rows
from panovlm.evaluation.pages.page import EVALUATE, render, write_page
from panovlm.evaluation.pages.scores import (
    INPUTS,
    Facts,
    Measure,
    bar_of,
    bars_of,
    unscored,
    verdict,
)
from panovlm.evaluation.pages.stages import Log, stages_of
from panovlm.evaluation.scoring import Prediction
from panovlm.evaluation.shown import PROBES
from panovlm.figures.sheets import as_data_uri
from panovlm.geometry.sphere import DIRECTIONS


def write_report(
    report: Facts,
    benchmark: Benchmark,
    answers: Answers[Prediction],
    logs: Mapping[str, Log],
    views_sheet: Image.Image | None,
    out: Path,
) -> None:
    """Write the page.

    Args:
        report: As `evaluate` makes it.
        benchmark: What was asked.
        answers: Of which some are shown with their pictures.
        logs: For each stage the entries of its log, each with `step`, and `loss` or other scalars.
        views_sheet: Picture of the views and their overlap; None leaves it out.
        out: The HTML file, replaced if it is such a page.

    Raises:
        PanoVLMError: If an example's picture cannot be read or the page cannot be written.
    """
    is_records = report["benchmark"] == RECORDS_NAME
    html = render(
        "report.html.jinja",
        EVALUATE,
        report=report,
        title="PanoVLM report" if is_records else f"PanoVLM on {report['benchmark']}",
        verdict=verdict(report),
        measure=Measure.of(report),
        unscored=unscored(report["score"]),
        **_scores(report),
        **_sphere_scores(report),
        extras=metric_rows(report),
        directions_answered=directions_answered(report["extras"]),
        stages=stages_of(report["stages"], logs),
        views_sheet=as_data_uri(views_sheet) if views_sheet else None,
        examples=choose_examples(
            benchmark, answers, report.get("view_ablation", {}).get("views", ())
        ),
    )
    write_page(html, out, EVALUATE)


def _scores(report: Facts) -> dict[str, Any]:
    """Return the scores, those by kind of question, and those of the baselines."""
    blind: Facts = report["baselines"].get("blind", {"by_kind": {}, "score": {"mean": None}})
    return {
        "total": bar_of("all", report["score"], blind["score"]["mean"], is_total=True),
        "kinds": bars_of(report["by_kind"], blind["by_kind"]),
        "baselines": [
            (bar_of(INPUTS[name], each["score"]), report["better_than"][name])
            for name, each in report["baselines"].items()
        ],
    }


def _sphere_scores(report: Facts) -> dict[str, Any]:
    """Return what only a panorama has: scores by direction, by stratum, and when rotated."""
    roses = {"all kinds": report["by_direction"], **report["by_kind_and_direction"]}
    return {
        "roses": {name: _sectors(scores) for name, scores in roses.items() if scores},
        "strata": {
            "the seam": bars_of(report["by_distance_from_seam"]),
            "the nearest pole": bars_of(report["by_distance_from_pole"]),
        },
        "crossing": bars_of(report["by_seam"]),
        "probes": {name: _probe(name, report[name]) for name in PROBES if name in report},
        "rotations": _rotations(report.get("yaw_rotated")),
    }


def _sectors(scores: Mapping[str, Facts]) -> list[Bar]:
    """Return scores by the true direction, from the front on to the right."""
    found = {bar.label: bar for bar in bars_of(scores)}
    return [found.get(word, Bar(word, None)) for word in DIRECTIONS]


def _probe(name: str, facts: Facts) -> list[Bar]:
    pairs = {"original": facts["as_it_is"], name.replace("_", "-"): facts["score"]}
    return bars_of(pairs)


def _rotations(rotated: Facts | None) -> tuple[list[Bar], list[Bar], list[Bar]]:
    """Return scores under each rotation, over all of them, and shares of consistent answers."""
    if rotated is None:
        return [], [], []
    labels = {
        "right_every": "correct under every rotation",
        "consistent": "same answer under every rotation",
    }
    shares = [bar_of(label, rotated[key]) for key, label in labels.items() if key in rotated]
    if "agreement" in rotated:
        count = rotated["consistent"]["count"]
        shares.append(Bar("pairs of rotations that agree", rotated["agreement"], count=count))
    return bars_of(rotated["by_rotation"]), [bar_of("all but 0°", rotated["score"])], shares
