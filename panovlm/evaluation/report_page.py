"""The report as one self-contained page: what was measured, how it trained, what it answered.

No script, no link, nothing to load: charts are inline SVG, pictures are inside the file. A part
of the report that was not measured leaves its section out.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import sqrt
from pathlib import Path
from typing import Any

from PIL import Image

from panovlm.evaluation.charts import Bar, bar_chart, legend, percent
from panovlm.evaluation.marked_pictures import Example, as_data_uri, draw_marks
from panovlm.evaluation.page import NOT_MEASURED, data_table, folded, page
from panovlm.evaluation.sphere_sections import (
    direction_section,
    rotation_section,
    stratum_section,
    view_section,
)
from panovlm.evaluation.stage_section import Log, duration, stage_section
from panovlm.model.errors import PanoVLMError
from panovlm.model.processing import view_words

__all__ = ["Example", "write_report"]

BASELINES_SEE = {
    "blind": "nothing (blind)",
    "single_view": "the front view alone",
    "squeezed": "a panorama of one view's pixels",
}
"""What each baseline leaves of the picture."""
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
        _headline(report),
        _by_kind(report),
        _baselines(report),
        direction_section(report["accuracy"]),
        stratum_section(report["accuracy"]),
        rotation_section(report),
        view_section(report),
        _seeds(report),
        *(stage_section(name, facts, logs.get(name, ())) for name, facts in _stages(report, logs)),
        _overlap(views_sheet),
        _examples("Answered right", [e for e in examples if e.is_right]),
        _examples("Answered wrong", [e for e in examples if not e.is_right]),
        _table("Versions", report.get("versions", {})),
        _table("Settings", report.get("settings", {})),
        _all_values(report),
    ]
    text = page("PanoVLM report", "\n".join(filter(None, sections)))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PanoVLMError(
            f"cannot write the page {out}: {error}; free some space or name another file"
        ) from error


def _headline(report: Report) -> str:
    tiles = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note in _tiles(report)
    )
    return (
        f'<h1>PanoVLM report</h1>\n<p class="verdict">{escape(verdict(report))}</p>\n'
        f'<dl class="tiles">\n{tiles}\n</dl>'
    )


def verdict(report: Report) -> str:
    """Say in one sentence how good the answers are, against guessing where that was measured.

    A gain counts as clear where its paired interval leaves out 0; where only the two shares are
    known, from two standard errors of their difference on.
    """
    accuracy = report["accuracy"]
    share, count = accuracy["overall"], accuracy["count"]
    said = f"The model answers {percent(share)} of {count:,} questions right"
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
    tiles = [("Accuracy", percent(accuracy["overall"]), of)]
    if blind is not None:
        tiles.append(("Blind baseline", percent(blind["overall"]), "the same, without the picture"))
    if (turned := report.get("rotation_consistency")) is not None:
        tiles.append(("Rotation consistency", percent(turned), "right answers on turned pictures"))
    if (seam := accuracy.get("seam")) is not None and accuracy.get("not_seam") is not None:
        note = f"elsewhere {percent(accuracy['not_seam'])}"
        tiles.append(("Across the seam", percent(seam), note))
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
    counts = accuracy.get("count_by_kind", {})
    others = blind["by_kind"] if blind else {}
    other = blind["overall"] if blind else None
    total = Bar(
        "all",
        accuracy["overall"],
        other,
        accuracy["count"],
        is_total=True,
        interval=accuracy.get("interval"),
    )
    limits = accuracy.get("interval_by_kind", {})
    bars = [
        Bar(k, v, others.get(k), counts.get(k), interval=limits.get(k))
        for k, v in accuracy["by_kind"].items()
    ]
    chart = bar_chart([total, *bars], "Accuracy by kind of question", "blind")
    entries = [("ours", "this model"), *([("other", "blind baseline")] if blind else [])]
    entries += [("thin", "95 % interval, drawn by whole panoramas")] if limits else []
    table = data_table(
        "Accuracy by kind",
        ["kind", "right", "95 % interval", "blind", "asked"],
        [[bar.label, *_cells(bar)] for bar in (total, *bars)],
    )
    note = _coverage(accuracy)
    return (
        f'<h2>Accuracy by kind</h2>\n{legend(entries)}\n<div class="chart">{chart}</div>\n'
        f"{note}{folded('As a table', table)}"
    )


def _cells(bar: Bar) -> list[str]:
    limits = NOT_MEASURED
    if bar.interval is not None:
        limits = f"{100 * bar.interval[0]:.1f}–{100 * bar.interval[1]:.1f}"
    other = NOT_MEASURED if bar.other is None else percent(bar.other)
    return [
        percent(bar.value),
        limits,
        other,
        NOT_MEASURED if bar.count is None else f"{bar.count:,}",
    ]


def _coverage(accuracy: Mapping[str, Any]) -> str:
    if "coverage" not in accuracy:
        return ""
    share = percent(accuracy["coverage"])
    return f'<p class="soft">Coverage {share}: an empty answer counts as wrong.</p>\n'


def _baselines(report: Report) -> str:
    """List the same model with less to see, and what the whole picture brings over each."""
    baselines, gains = report.get("baselines", {}), report.get("better_than", {})
    if not gains:
        return ""
    rows = []
    for name, scores in baselines.items():
        gain = gains[name]
        low, high = (100 * gain[end] for end in ("low", "high"))
        bar = Bar(name, scores["overall"], interval=scores["interval"], count=scores["count"])
        right, limits, _, count = _cells(bar)
        gained = f"{100 * gain['mean']:+.1f} ({low:+.1f} to {high:+.1f})"
        rows.append([BASELINES_SEE[name], right, limits, gained, count])
    header = ["what the model sees", "right", "95 % interval", "the whole picture adds", "asked"]
    return f"<h2>With less to see</h2>\n{data_table('Baselines', header, rows)}"


def _seeds(report: Report) -> str:
    """List what each seed drew, where there were several."""
    seeds: Sequence[Mapping[str, Any]] = report.get("seeds", ())
    if len(seeds) < 2:
        return ""
    shown = {
        "rotation_consistency": "right when turned",
        "right_every": "right under all turns",
        "consistent": "same under all turns",
        "changed_by_any": "change without a view",
    }
    keys = [key for key in shown if key in seeds[0]]
    rows = [
        [str(each["seed"]), *(percent(each[key]) if key in each else NOT_MEASURED for key in keys)]
        for each in seeds
    ]
    table = data_table("By seed", ["seed", *(shown[key] for key in keys)], rows)
    return (
        '<h2>Seeds</h2>\n<p class="soft">Answers are greedy and do not depend on a seed; it draws '
        f"which questions are asked again.</p>\n{table}"
    )


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
    if not examples:
        return ""
    note = (
        f"{_order(examples)} The arrow shows the direction the question is about, the bracket at "
        "the lower edge the direction answered."
    )
    figures = "\n".join(map(_example, examples))
    return f'<h2>{escape(title)}</h2>\n<p class="soft">{note}</p>\n{figures}'


def _order(examples: Sequence[Example]) -> str:
    if all(example.right_turns is None for example in examples):
        return "Each is about another picture."
    return "Clearest cases first: the same verdict under the most turns of the picture."


def _example(example: Example) -> str:
    verdict_class = "right" if example.is_right else "wrong"
    return (
        f'<figure class="example card"><img src="{as_data_uri(draw_marks(example))}" '
        f'alt="Panorama {escape(example.picture.name)}">\n<figcaption>'
        f'<span class="kind">{escape(example.kind)}</span>'
        f'<div class="question">{escape(example.question)}</div>\n<dl class="answers">'
        f"<dt>right answer</dt><dd>{escape(example.expected)}</dd>"
        f'<dt>given answer</dt><dd class="{verdict_class}">{escape(example.answer)}</dd>'
        f"{_also(example)}</dl></figcaption></figure>"
    )


def _also(example: Example) -> str:
    """Say what turning the picture and blanking its views did to the answer, where it was asked."""
    facts = []
    if example.right_turns is not None:
        right, turns = example.right_turns
        facts.append(("turned", f"right under {right} of {turns} turns"))
    if example.changed_views:
        words = zip(view_words(len(example.changed_views)), example.changed_views, strict=True)
        carried = ", ".join(word for word, changed in words if changed)
        facts.append(("changes without", f"the view {carried}" if carried else "no single view"))
    return "".join(f"<dt>{name}</dt><dd>{escape(said)}</dd>" for name, said in facts)


def _table(title: str, values: Mapping[str, Any]) -> str:
    return f"<h2>{escape(title)}</h2>\n{_rows(_flat(values))}" if values else ""


def _all_values(report: Report) -> str:
    """List every value of the report under its keys in the JSON file."""
    measured = {key: value for key, value in report.items() if key not in ("versions", "settings")}
    return (
        "<h2>All numbers</h2>\n<details><summary>Every value under its keys in the JSON report"
        f"</summary>\n{_rows(_flat(measured))}\n</details>"
    )


def _rows(pairs: Iterable[tuple[str, Any]]) -> str:
    cells = "\n".join(
        f"<tr><td><code>{escape(key)}</code></td><td>{escape(str(value))}</td></tr>"
        for key, value in pairs
    )
    return f"<table>\n{cells}\n</table>"


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Give nested values as (keys joined by dots, value), leaving out what was not measured."""
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{key}.")
        elif value is not None:
            pairs.append((f"{prefix}{key}", value))
    return pairs
