"""A comparison of two models as one self-contained page."""

from collections.abc import Mapping
from html import escape
from typing import Any

from panovlm.evaluation.difference_chart import Difference, difference_chart
from panovlm.evaluation.page import data_table, page
from panovlm.evaluation.units import SHARE

Facts = Mapping[str, Any]


def comparison_page(comparison: Facts) -> str:
    """Give the page of what `compare` returned."""
    parts = {"all": comparison["overall"], **comparison["by_kind"]}
    chart = difference_chart(
        [Difference(name, f["difference"], f["low"], f["high"]) for name, f in parts.items()],
        "Difference of the shares right, second less first, with 95 % intervals",
    )
    body = f"""<h1>Two models compared</h1>
<p class="verdict">{escape(comparison_verdict(comparison))}</p>
<p class="soft">First: <code>{escape(comparison["first"])}</code><br>
Second: <code>{escape(comparison["second"])}</code></p>
<p class="soft">{escape(_shared(comparison))}</p>
<h2>Difference by kind</h2>
<div class="chart">{chart}</div>
{_table(parts)}
<p class="soft">Paired bootstrap over whole panoramas, 95 %. An interval says how far the difference
would move on other questions, not on other seeds of training; over many kinds, one in twenty
misses by chance.</p>"""
    return page("PanoVLM comparison", body)


def comparison_verdict(comparison: Facts) -> str:
    """Say in one sentence whether one model is better, and by how much."""
    facts = comparison["overall"]
    points, low, high = (100 * facts[key] for key in ("difference", "low", "high"))
    measured = f"{points:+.1f} points [{low:+.1f}, {high:+.1f}] on {facts['count']:,} questions"
    if low > 0:
        return f"The second model is better: {measured}."
    if high < 0:
        return f"The first model is better: {measured}."
    return f"No clear difference: {measured}."


def _shared(comparison: Facts) -> str:
    left_out = comparison["only_first"], comparison["only_second"]
    return (
        f"{comparison['shared']:,} shared questions about {comparison['overall']['panoramas']:,} "
        f"panoramas; left out: {left_out[0]:,} only the first was asked, {left_out[1]:,} only the "
        f"second."
    )


def _table(parts: Facts) -> str:
    header = ["kind", "first", "second", "difference", "95 % interval", "gained", "lost", "asked"]
    rows = [
        [
            name,
            SHARE.say(f["first"]),
            SHARE.say(f["second"]),
            f"{100 * f['difference']:+.1f}",
            f"{100 * f['low']:+.1f} to {100 * f['high']:+.1f}",
            f"{f['gained']:,}",
            f"{f['lost']:,}",
            f"{f['count']:,}",
        ]
        for name, f in parts.items()
    ]
    return data_table("Shares right on the shared questions", header, rows)
