"""A comparison of two models as a page."""

from panovlm.evaluation.benchmarks.names import RECORDS_NAME
from panovlm.evaluation.pages.charts import Bar
from panovlm.evaluation.pages.page import COMPARE, render
from panovlm.evaluation.pages.scores import Facts
from panovlm.evaluation.units import UNITS, is_clear


def comparison_page(comparison: Facts) -> str:
    """Return the page of what `compare` returned."""
    parts = {"all": comparison["overall"], **comparison["by_kind"]}
    differences = [
        Bar(name, facts["difference"], interval=(facts["low"], facts["high"]))
        for name, facts in parts.items()
        if facts["low"] is not None
    ]
    return render(
        "comparison.html.jinja",
        COMPARE,
        comparison=comparison,
        verdict=comparison_verdict(comparison),
        unit=UNITS[comparison["unit"]],
        parts=parts,
        differences=differences,
    )


def comparison_verdict(comparison: Facts) -> str:
    """Describe in one sentence whether one model is better, and by how much."""
    facts, unit = comparison["overall"], UNITS[comparison["unit"]]
    if facts["difference"] is None:
        return "Nothing can be compared: no question could be scored for both models."
    step = unit.step_text(facts["difference"])
    measured = f"{step}{unit.reach_text(facts)} on {facts['count']:,} questions"
    if comparison["benchmark"] != RECORDS_NAME:
        measured += f" of {comparison['benchmark']} ({comparison['metric']})"
    if not is_clear(facts):
        few = "" if facts["low"] is not None else "; too few panoramas for an interval"
        return f"No clear difference: {measured}{few}."
    better = "second" if (facts["low"] > 0) != comparison["less_is_better"] else "first"
    return f"The {better} model is better: {measured}."
