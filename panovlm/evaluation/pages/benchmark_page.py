"""A benchmark's report as one self-contained page, in the unit of its scores.

A part of the report that was not measured leaves its section out, and where nothing could be
scored no figure stands, only why not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from panovlm.evaluation.pages.benchmark_examples import best_and_worst, example_of, without_score
from panovlm.evaluation.pages.benchmark_extras import extras_section
from panovlm.evaluation.pages.benchmark_verdict import (
    benchmark_tiles,
    benchmark_verdict,
    coverage_note,
    score_name,
)
from panovlm.evaluation.pages.charts import Bar
from panovlm.evaluation.pages.example_figures import examples_section
from panovlm.evaluation.pages.page import (
    all_values,
    beside,
    figure,
    headline,
    page,
    values_section,
    write_page,
)
from panovlm.evaluation.pages.roses import Petal, rose
from panovlm.evaluation.pages.score_sections import (
    Measure,
    baselines_section,
    kinds_section,
    on_seam_section,
    row_of,
    rows_table,
    seeds_section,
    strata_section,
)
from panovlm.evaluation.pages.sphere_sections import view_section
from panovlm.evaluation.units import SHARE, UNITS

Report = Mapping[str, Any]
_MARKS = (
    "The arrow from above shows where what is asked about is, with a ring where its pitch is known"
)
_POINTED = "the arrow from below shows where the answer points"


def write_benchmark_page(report: Report, rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Write the page.

    Args:
        report: As `evaluate_benchmark` gives it.
        rows: Its predictions.
        out: The HTML file, replaced if it is there.

    Raises:
        PanoVLMError: If a picture shown cannot be read or the page cannot be written.
    """
    title = f"PanoVLM on {report['benchmark']}"
    measure = _measure(report)
    sections = [
        headline(title, benchmark_verdict(report), benchmark_tiles(report)),
        _by_kind(report, measure),
        _baselines(report, measure),
        extras_section(report),
        _strata(report, measure),
        _on_seam(report, measure),
        _turned(report, measure),
        view_section(report),
        _seeds(report, measure),
        *_examples(report, rows),
        _source(report),
        values_section("Judge", report["judge"] or {}),
        values_section("Versions", report["versions"]),
        values_section("Settings", report["settings"]),
        all_values(report),
    ]
    write_page(page(title, "\n".join(filter(None, sections))), out)


def _measure(report: Report) -> Measure:
    name, less_is_better = score_name(report), report["less_is_better"]
    return Measure(name, name.lower(), UNITS[report["unit"]], less_is_better)


def _bar(label: str, score: Mapping[str, Any], interval: Mapping[str, Any] | None) -> Bar:
    limits = (interval["low"], interval["high"]) if interval else None
    return Bar(label, score["mean"], count=score["count"], interval=limits, scored=score["scored"])


def _bars(groups: Mapping[str, Mapping[str, Any]]) -> list[Bar]:
    return [_bar(name, score, score["interval"]) for name, score in groups.items()]


def _by_kind(report: Report, measure: Measure) -> str:
    if report["score"]["mean"] is None:
        return ""
    blind = report["baselines"].get("blind")
    others = {name: each["mean"] for name, each in blind["by_kind"].items()} if blind else {}
    total = _bar("all", report["score"], report["interval"])
    total = replace(total, is_total=True, other=blind["score"]["mean"] if blind else None)
    kinds = [replace(bar, other=others.get(bar.label)) for bar in _bars(report["by_kind"])]
    note = coverage_note(report["score"], less_is_better=report["less_is_better"])
    return kinds_section(measure, total, kinds, note)


def _baselines(report: Report, measure: Measure) -> str:
    bars = {
        name: _bar(name, each["score"], each["interval"])
        for name, each in report["baselines"].items()
    }
    return baselines_section(measure, bars, report["better_than"])


def _strata(report: Report, measure: Measure) -> str:
    if report["score"]["mean"] is None:
        return ""
    parts = {"the seam": "by_distance_from_seam", "the nearest pole": "by_distance_from_pole"}
    return strata_section(measure, {name: _bars(report[key]) for name, key in parts.items()})


def _on_seam(report: Report, measure: Measure) -> str:
    """Compare pictures turned so that the seam cuts what is asked about with those as they are."""
    seam = report.get("seam_shifted")
    if not seam:
        return ""
    as_it_is, on_seam = (
        _bar(name, seam[key], None)
        for name, key in (("where it is", "as_it_is"), ("on the seam", "score"))
    )
    return on_seam_section(measure, as_it_is, on_seam, seam["gain"])


def _turned(report: Report, measure: Measure) -> str:
    """Give scores under each turn of the camera, and over all turns."""
    turned = report.get("yaw_rotated")
    if not turned:
        return ""
    head = (
        '<h2>Turned pictures</h2>\n<p class="soft">The same questions with the camera turned '
        "right; what is right turns with it.</p>\n"
    )
    unit, bars = measure.unit, _bars(turned["by_turn"])
    listed = [*bars, _bar("all turns but 0°", turned["score"], turned["score"]["interval"])]
    rows = [row_of(unit, bar) for bar in listed]
    if every := turned.get("right_every"):
        rows.append(row_of(SHARE, _bar("right under every turn", every, every["interval"])))
    table = rows_table(measure, "turn", rows)
    if all(bar.value is None for bar in bars):
        return f"{head}{table}"
    most = unit.axis_end(max(bar.reach for bar in bars))
    petals = [
        Petal(bar.label, float(bar.label.rstrip("°")), bar.value, bar.interval, bar.scored)
        for bar in bars
    ]
    caption = f"{measure.column}, by turn" + (": short is good" if measure.less_is_better else "")
    drawn = rose(petals, f"{measure.name} by turn of the camera", most=most, unit=unit)
    return head + beside(figure(drawn, caption), table)


def _seeds(report: Report, measure: Measure) -> str:
    header = [
        "95 % interval",
        f"{measure.column}, turned",
        "right under every turn",
        "change without a view",
    ]
    rows = []
    for seed in report["seeds"]:
        interval, turned = seed["interval"], seed.get("yaw_rotated", {})
        limits = (interval["low"], interval["high"]) if interval else None
        rows.append(
            [
                str(seed["seed"]),
                measure.unit.say_limits(limits),
                measure.unit.say(turned.get("score", {}).get("mean")),
                SHARE.say(turned.get("right_every", {}).get("mean")),
                SHARE.say(seed.get("changed_by_any")),
            ]
        )
    return seeds_section(header, rows)


def _examples(report: Report, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    best, worst = best_and_worst(report, rows)
    words = "Least off" if report["less_is_better"] else "Best answers"
    others = "Furthest off" if report["less_is_better"] else "Worst answers"
    parts = {words: best, others: worst, "Without a score": without_score(rows)}
    return [
        examples_section(title, _note(chosen), [example_of(report, row) for row in chosen])
        for title, chosen in parts.items()
    ]


def _note(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say what the marks on the pictures mean, as far as there are some."""
    marks = [_MARKS] if any(row["yaw_deg"] is not None for row in rows) else []
    marks += [_POINTED] if any(row.get("answered_deg") for row in rows) else []
    return " ".join(
        ["Each is about another picture.", *([f"{', '.join(marks)}."] if marks else [])]
    )


def _source(report: Report) -> str:
    facts = {
        "metric": report["metric"],
        "format and rule": report["source"],
        "differs from the published procedure": report["differs"] or "nowhere known",
        "items without a picture, not asked": report["items_without_picture"],
    }
    return values_section("How it was scored", facts)
