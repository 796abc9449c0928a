"""The sections on scores that the pages of records and of benchmarks share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from panovlm.evaluation.pages.charts import Bar, bar_chart, legend
from panovlm.evaluation.pages.page import data_table, folded
from panovlm.evaluation.units import NOT_MEASURED, SHARE, Unit

BASELINES_SEE = {
    "blind": "nothing (blind)",
    "single_view": "the front view alone",
    "low_resolution": "a panorama of one view's pixels",
}
"""What each baseline leaves of the picture."""
MAX_KINDS = 20
"""Kinds in a chart; those asked most often are taken."""
_INTERVAL = "95 % interval, drawn by whole panoramas"


@dataclass(frozen=True)
class Measure:
    """What a page's scores are, in the words of its headings.

    Attributes:
        name: Heads sections, as in "Accuracy by kind".
        column: Heads the scores in tables.
        unit: Of the scores.
        less_is_better: Whether a score is an error.
    """

    name: str
    column: str
    unit: Unit
    less_is_better: bool = False


ACCURACY = Measure("Accuracy", "right", SHARE)


def kinds_section(measure: Measure, total: Bar, kinds: Sequence[Bar], note: str = "") -> str:
    """Give scores by kind of question, beside the blind baseline where that was asked.

    Args:
        measure: What the scores are.
        total: Of all kinds.
        kinds: Of each.
        note: Said below the chart.
    """
    drawn = [bar for bar in kinds if bar in _most_asked(kinds)]
    if len(drawn) < len(kinds):
        note = f"The {MAX_KINDS} kinds asked most often of {len(kinds):,}. {note}".strip()
    bars = (total, *drawn)
    chart = bar_chart(bars, f"{measure.name} by kind of question", "blind", measure.unit)
    ours = "this model; less is better" if measure.less_is_better else "this model"
    entries = [("ours", ours)]
    entries += [("other", "blind baseline")] if any(bar.other is not None for bar in bars) else []
    entries += [("thin", _INTERVAL)] if any(bar.interval for bar in bars) else []
    said = f'<p class="soft">{escape(note)}</p>\n' if note else ""
    return (
        f'<h2>{measure.name} by kind</h2>\n{legend(entries)}\n<div class="chart">{chart}</div>\n'
        f"{said}{folded('As a table', bars_table(measure, 'kind', (total, *kinds)))}"
    )


def bars_table(measure: Measure, column: str, bars: Sequence[Bar]) -> str:
    """Give the rows of a chart as a table; `column` heads what they are told by."""
    return rows_table(measure, column, [row_of(measure.unit, bar) for bar in bars])


def rows_table(measure: Measure, column: str, rows: Sequence[Sequence[str]]) -> str:
    """Give a table of rows of `row_of`; `column` heads what they are told by."""
    header = [column, measure.column, "95 % interval", "blind", "scored", "asked"]
    return data_table(f"{measure.name} by {column}", header, rows)


def row_of(unit: Unit, bar: Bar) -> list[str]:
    """Give a bar's label and its `cells`."""
    return [bar.label, *cells(unit, bar)]


def cells(unit: Unit, bar: Bar) -> list[str]:
    """Give value, interval, what it is compared with, how many were scored, how many asked."""
    return [
        unit.say(bar.value),
        unit.say_limits(bar.interval),
        unit.say(bar.other),
        *(NOT_MEASURED if count is None else f"{count:,}" for count in (bar.scored, bar.count)),
    ]


def strata_section(measure: Measure, parts: Mapping[str, Sequence[Bar]], end: str = "") -> str:
    """Give scores by distance from something; a stratum alone compares nothing and is left out.

    Args:
        measure: What the scores are.
        parts: The strata of each distance, by what it is from.
        end: HTML below them.
    """
    drawn = [
        f'<h3>By distance from {place}</h3>\n<div class="chart">'
        + bar_chart(bars, f"{measure.name} by distance from {place}", "", measure.unit)
        + f"</div>\n{folded('As a table', bars_table(measure, 'distance', bars))}"
        for place, bars in parts.items()
        if len(bars) > 1
    ]
    return "<h2>Seam and poles</h2>\n" + "\n".join([*drawn, end]) if drawn else ""


def baselines_section(
    measure: Measure, baselines: Mapping[str, Bar], gains: Mapping[str, Mapping[str, Any] | None]
) -> str:
    """List the same model with less to see, and what the whole picture brings over each.

    Args:
        measure: What the scores are.
        baselines: Scores by the baselines' names.
        gains: The gain over each with its paired interval; None where nothing was scored in both.
    """
    if not baselines or not gains:
        return ""
    adds = "the whole picture adds"
    adds += " (less than 0 is better)" if measure.less_is_better else ""
    header = ["what the model sees", measure.column, "95 % interval", adds, "scored", "asked"]
    rows = []
    for name, bar in baselines.items():
        value, limits, _, scored, asked = cells(measure.unit, bar)
        gained = _gain(measure.unit, gains[name], bar)
        rows.append([BASELINES_SEE[name], value, limits, gained, scored, asked])
    return f"<h2>With less to see</h2>\n{data_table('Baselines', header, rows)}"


def seeds_section(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """List what each seed drew, where there were several."""
    if len(rows) < 2:
        return ""
    return (
        '<h2>Seeds</h2>\n<p class="soft">Answers are greedy and do not depend on a seed; it draws '
        "which questions are asked again, and the resamples of intervals.</p>\n"
        + data_table("By seed", ["seed", *header], rows)
    )


def _gain(unit: Unit, gain: Mapping[str, Any] | None, bar: Bar) -> str:
    if gain is None:
        return "nothing scored in both"
    said = (
        f"{unit.signed(gain['mean'])} ({unit.signed(gain['low'])} to {unit.signed(gain['high'])})"
    )
    return said if gain.get("count", bar.count) == bar.count else f"{said} on {gain['count']:,}"


def _most_asked(kinds: Sequence[Bar]) -> list[Bar]:
    return sorted(kinds, key=lambda bar: -(bar.count or 0))[:MAX_KINDS]


def on_seam_section(
    measure: Measure, as_it_is: Bar, on_seam: Bar, gain: Mapping[str, float] | None
) -> str:
    """Compare pictures turned so that the seam cuts what is asked about with those as they are.

    Args:
        measure: What the scores are.
        as_it_is: Score of the pictures as they are.
        on_seam: Score of the turned ones, on the same questions.
        gain: Mean, low and high of the difference; None if nothing was scored in both.
    """
    unit, note = measure.unit, "No question was scored in both."
    if gain:
        reach = f"[{unit.signed(gain['low'])}, {unit.signed(gain['high'])}]"
        note = f"On the seam against where it is: {unit.say_step(gain['mean'])} {reach}"
        note += f" on the {gain['count']:,} scored in both"
        note += ", less than 0 is better." if measure.less_is_better else "."
    table = bars_table(measure, "what is asked about", [as_it_is, on_seam])
    return f'<h2>On the seam</h2>\n<p class="soft">{note}</p>\n{table}'
