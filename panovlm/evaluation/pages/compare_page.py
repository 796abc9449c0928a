"""A comparison of two models as one self-contained page."""

from collections.abc import Mapping
from html import escape
from typing import Any

from panovlm.evaluation.pages.difference_chart import Difference, difference_chart
from panovlm.evaluation.pages.page import data_table, page
from panovlm.evaluation.units import NOT_MEASURED, UNITS, Unit

Facts = Mapping[str, Any]


def comparison_page(comparison: Facts) -> str:
    """Give the page of what `compare` returned."""
    parts = {"all": comparison["overall"], **comparison["by_kind"]}
    body = f"""<h1>Two models compared</h1>
<p class="verdict">{escape(comparison_verdict(comparison))}</p>
<p class="soft">First: <code>{escape(comparison["first"])}</code><br>
Second: <code>{escape(comparison["second"])}</code></p>
<p class="soft">{escape(_shared(comparison))}</p>
<h2>Difference by kind</h2>
{_chart(comparison, parts)}
{_table(comparison, parts)}
<p class="soft">Paired bootstrap over whole panoramas, 95 %. An interval says how far the difference
would move on other questions, not on other seeds of training; over many kinds, one in twenty
misses by chance.</p>"""
    return page("PanoVLM comparison", body)


def comparison_verdict(comparison: Facts) -> str:
    """Say in one sentence whether one model is better, and by how much."""
    facts, unit = comparison["overall"], UNITS[comparison["unit"]]
    if facts["difference"] is None:
        return "Nothing can be compared: no question could be scored for both models."
    reach = f"[{unit.signed(facts['low'])}, {unit.signed(facts['high'])}]"
    questions = f"{facts['count']:,} questions"
    measured = f"{unit.say_step(facts['difference'])} {reach} on {questions}"
    if comparison["benchmark"] is not None:
        measured += f" of {comparison['benchmark']} ({comparison['metric']})"
    if facts["low"] <= 0 <= facts["high"]:
        return f"No clear difference: {measured}."
    better = "second" if (facts["low"] > 0) != comparison["less_is_better"] else "first"
    return f"The {better} model is better: {measured}."


def _chart(comparison: Facts, parts: Facts) -> str:
    differences = [
        Difference(name, f["difference"], f["low"], f["high"], comparison["less_is_better"])
        for name, f in parts.items()
        if f["difference"] is not None
    ]
    if not differences:
        return ""
    title = "Difference of the means, second less first, with 95 % intervals"
    chart = difference_chart(differences, title, UNITS[comparison["unit"]])
    note = ", less than 0 is better" if comparison["less_is_better"] else ""
    return f'<p class="soft">Second less first{note}.</p>\n<div class="chart">{chart}</div>'


def _shared(comparison: Facts) -> str:
    left_out = comparison["only_first"], comparison["only_second"]
    facts = comparison["overall"]
    said = (
        f"{comparison['shared']:,} shared questions about {facts['panoramas']:,} panoramas; left "
        f"out: {left_out[0]:,} only the first was asked, {left_out[1]:,} only the second."
    )
    unscored = facts["unscored_first"], facts["unscored_second"]
    if any(unscored):
        said += (
            f" Without a score are {unscored[0]:,} answers of the first and {unscored[1]:,} of the "
            f"second; {facts['count']:,} questions could be scored for both, and these alone count."
        )
    return said


def _table(comparison: Facts, parts: Facts) -> str:
    header = ["kind", "first", "second", "difference", "95 % interval", "gained", "lost"]
    header += ["scored in both", "no score, first", "no score, second"]
    unit = UNITS[comparison["unit"]]
    return data_table(
        "Means over the shared questions that were scored for both",
        header,
        [[name, *_cells(unit, facts)] for name, facts in parts.items()],
    )


def _cells(unit: Unit, facts: Facts) -> list[str]:
    counts = ("gained", "lost", "count", "unscored_first", "unscored_second")
    numbers = [f"{facts[key]:,}" for key in counts]
    if facts["difference"] is None:
        return [NOT_MEASURED] * 6 + numbers[2:]
    return [
        unit.say(facts["first"]),
        unit.say(facts["second"]),
        unit.signed(facts["difference"]),
        f"{unit.signed(facts['low'])} to {unit.signed(facts['high'])}",
        *numbers,
    ]
