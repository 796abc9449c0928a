"""The report as one self-contained page: what was measured, how it trained, what it answered.

No script, no link, nothing to load: charts are inline SVG, pictures are inside the file. A part
of the report that was not measured leaves its section out.
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from PIL import Image

from panovlm.evaluation.pages.charts import Bar
from panovlm.evaluation.pages.example_figures import examples_section
from panovlm.evaluation.pages.marked_pictures import Example, as_data_uri
from panovlm.evaluation.pages.page import all_values, headline, page, values_section, write_page
from panovlm.evaluation.pages.score_sections import (
    ACCURACY,
    baselines_section,
    kinds_section,
    seeds_section,
)
from panovlm.evaluation.pages.sphere_sections import (
    direction_section,
    rotation_section,
    seam_section,
    stratum_section,
    view_section,
)
from panovlm.evaluation.pages.stage_section import Log, duration, stage_section
from panovlm.evaluation.units import NOT_MEASURED, SHARE

__all__ = ["Example", "write_report"]

Report = Mapping[str, Any]
Logs = Mapping[str, Log]


def write_report(
    report: Report,
    logs: Logs,
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
        out: The HTML file, replaced if it is there.

    Raises:
        PanoVLMError: If an example's picture cannot be read or the page cannot be written.
    """
    sections = [
        headline("PanoVLM report", verdict(report), _tiles(report)),
        _by_kind(report),
        _baselines(report),
        direction_section(report["accuracy"]),
        stratum_section(report["accuracy"]),
        seam_section(report),
        rotation_section(report),
        view_section(report),
        _seeds(report),
        *(stage_section(name, facts, logs.get(name, ())) for name, facts in _stages(report, logs)),
        _overlap(views_sheet),
        _examples("Answered right", [e for e in examples if e.is_right]),
        _examples("Answered wrong", [e for e in examples if not e.is_right]),
        values_section("Versions", report.get("versions", {})),
        values_section("Settings", report.get("settings", {})),
        all_values(report),
    ]
    write_page(page("PanoVLM report", "\n".join(filter(None, sections))), out)


def verdict(report: Report) -> str:
    """Say in one sentence how good the answers are, against guessing where that was measured.

    A gain counts as clear where its paired interval leaves out 0; where only the two shares are
    known, from two standard errors of their difference on.
    """
    accuracy = report["accuracy"]
    share, count = accuracy["overall"], accuracy["count"]
    said = f"The model answers {SHARE.say(share)} of {count:,} questions right"
    blind = _blind(report)
    if blind is None:
        return f"{said}."
    gain = share - blind["overall"]
    if gain <= _noise(report, blind):
        return f"{said}, not clearly more than without seeing the picture."
    return f"{said}, {100 * gain:.1f} points more than without seeing the picture."


def _noise(report: Report, blind: Mapping[str, Any]) -> float:
    """Give how far the gain over the blind baseline may be by chance."""
    if paired := report.get("better_than", {}).get("blind"):
        return float(paired["mean"] - paired["low"])
    accuracy = report["accuracy"]
    shares = (accuracy["overall"], blind["overall"])
    return 2 * sqrt(sum(p * (1 - p) / accuracy["count"] for p in shares))


def _tiles(report: Report) -> list[tuple[str, str, str]]:
    """Give (name, value, note) of each number that was measured."""
    accuracy, blind = report["accuracy"], _blind(report)
    of = f"of {accuracy['count']:,} questions"
    if "interval" in accuracy:
        low, high = (100 * end for end in accuracy["interval"])
        of = f"{low:.1f}–{high:.1f}, {of}"
    tiles = [("Accuracy", SHARE.say(accuracy["overall"]), of)]
    if blind is not None:
        tiles.append(
            ("Blind baseline", SHARE.say(blind["overall"]), "the same, without the picture")
        )
    if (turned := report.get("rotation_consistency")) is not None:
        tiles.append(
            ("Rotation consistency", SHARE.say(turned), "right answers on turned pictures")
        )
    if (seam := accuracy.get("seam")) is not None and accuracy.get("not_seam") is not None:
        note = f"elsewhere {SHARE.say(accuracy['not_seam'])}"
        tiles.append(("Across the seam", SHARE.say(seam), note))
    if (seconds := report.get("seconds_total")) is not None:
        tiles.append(("Total time", duration(seconds), "training and evaluation"))
    if (memory := report.get("peak_memory_mb")) is not None:
        tiles.append(("Peak memory", f"{memory / 1024:.1f} GiB", "of the process"))
    return tiles


def _blind(report: Report) -> Mapping[str, Any] | None:
    blind: Mapping[str, Any] | None = report.get("baselines", {}).get("blind")
    return blind


def _by_kind(report: Report) -> str:
    accuracy, blind = report["accuracy"], _blind(report)
    others, counts, limits = (
        facts.get(key, {})
        for facts, key in (
            (blind or {}, "by_kind"),
            (accuracy, "count_by_kind"),
            (accuracy, "interval_by_kind"),
        )
    )
    other = blind["overall"] if blind else None
    bars = [
        Bar(k, v, others.get(k), counts.get(k), interval=limits.get(k))
        for k, v in accuracy["by_kind"].items()
    ]
    return kinds_section(ACCURACY, _total(accuracy, other), bars, _coverage(accuracy))


def _total(accuracy: Mapping[str, Any], other: float | None) -> Bar:
    limits = accuracy.get("interval")
    return Bar("all", accuracy["overall"], other, accuracy["count"], is_total=True, interval=limits)


def _coverage(accuracy: Mapping[str, Any]) -> str:
    if "coverage" not in accuracy:
        return ""
    return f"Coverage {SHARE.say(accuracy['coverage'])}: an empty answer counts as wrong."


def _baselines(report: Report) -> str:
    gains: Mapping[str, Mapping[str, Any]] = report.get("better_than", {})
    if not gains:
        return ""
    bars = {
        name: Bar(name, scores["overall"], interval=scores["interval"], count=scores["count"])
        for name, scores in report["baselines"].items()
    }
    return baselines_section(ACCURACY, bars, gains)


def _seeds(report: Report) -> str:
    seeds: Sequence[Mapping[str, Any]] = report.get("seeds", ())
    shown = {
        "rotation_consistency": "right when turned",
        "right_every": "right under all turns",
        "consistent": "same under all turns",
        "changed_by_any": "change without a view",
    }
    rows = [
        [str(s["seed"]), *(SHARE.say(s[key]) if key in s else NOT_MEASURED for key in shown)]
        for s in seeds
    ]
    return seeds_section([*shown.values()], rows)


def _stages(report: Report, logs: Logs) -> list[tuple[str, Mapping[str, Any]]]:
    """Give every stage that has facts or a log, with its facts."""
    stages: Mapping[str, Mapping[str, Any]] = report.get("stages", {})
    return [(name, stages.get(name, {})) for name in dict.fromkeys([*stages, *logs])]


def _overlap(views_sheet: Image.Image | None) -> str:
    if views_sheet is None:
        return ""
    alt = "A panorama, its views, and the columns that neighbouring views share"
    return (
        '<h2>The overlap, drawn</h2>\n<p class="soft">How a panorama is cut into views. Shaded '
        "columns are seen by the neighbour of that colour too.</p>\n"
        f'<img class="sheet" src="{as_data_uri(views_sheet)}" alt="{alt}">'
    )


def _examples(title: str, examples: Sequence[Example]) -> str:
    note = (
        f"{_order(examples)} The arrow shows the direction the question is about, the bracket at "
        "the lower edge the direction answered."
    )
    return examples_section(title, note, examples)


def _order(examples: Sequence[Example]) -> str:
    if all(example.right_turns is None for example in examples):
        return "Each is about another picture."
    return "Clearest cases first: the same verdict under the most turns of the picture."
