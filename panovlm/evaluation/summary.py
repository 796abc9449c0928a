"""A report in a few lines of text."""

from collections.abc import Iterator, Mapping
from typing import Any

from panovlm.evaluation.pages.scores import limits_of
from panovlm.evaluation.shown import PROBES
from panovlm.evaluation.units import SHARE, UNITS, Unit, is_clear

MAX_KINDS = 12
"""Kinds that are listed; more are on the page."""


def summary_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield a report's main figures, each with its interval, one a line."""
    unit, score = UNITS[report["unit"]], report["score"]
    yield (
        f"{report['benchmark']}, {report['metric']}: {_text(unit, score)} of {score['count']} "
        f"questions; {score['coverage']:.1%} of answers could be read"
    )
    if len(report["by_kind"]) <= MAX_KINDS:
        for kind, each in report["by_kind"].items():
            yield f"  {kind:10} {_text(unit, each)} of {each['count']}"
    for name, facts in {"": report, **report["baselines"]}.items():
        if name:
            yield f"{_label(name)} {_text(unit, facts['score'])}"
        yield from _listing_lines(name, facts["extras"])
    for name in ("yaw_rotated", *PROBES):
        if name in report:
            facts = report[name]
            beside = f", {_text(unit, facts['as_it_is'])} as they are" if name in PROBES else ""
            count = facts["score"]["count"]
            yield f"{_label(name)} {_text(unit, facts['score'])} of {count}{beside}"
    yield from _rotation_lines(report.get("yaw_rotated", {}))
    if "view_ablation" in report:
        share = report["view_ablation"]["changed_by_any"]
        yield f"{share:.1%} of answers change with one view blank"
    if report["items_without_picture"]:
        yield f"{report['items_without_picture']} items have no picture and were not asked"


def _listing_lines(name: str, extras: Mapping[str, Any]) -> Iterator[str]:
    if facts := extras.get("listings"):
        occupied, lines = (_text(SHARE, facts[key]) for key in ("occupied", "lines"))
        yield (
            f"  {facts['count']} listings{name and f', {name}'}: occupied {occupied}, whole lines "
            f"{lines}, F1 of labels {facts['f1']:.3f}"
        )


def _rotation_lines(rotated: Mapping[str, Any]) -> Iterator[str]:
    words = {"right_every": "correct", "consistent": "the same answer"}
    for key, word in words.items():
        if key in rotated:
            facts = rotated[key]
            yield f"  {word} under all rotations: {_text(SHARE, facts)} of {facts['count']}"


def _label(name: str) -> str:
    return f"{name.replace('_', '-'):14}"


def _text(unit: Unit, score: Mapping[str, Any]) -> str:
    """Write a score with its interval, of which there is none of few panoramas."""
    limits = limits_of(score.get("interval", score))
    text = "no score" if score["mean"] is None else unit.score_text(score["mean"])
    return text + (f" [{unit.limits_text(limits)}]" if limits else "")


def comparison_lines(comparison: Mapping[str, Any]) -> Iterator[str]:
    """Yield the difference of two models, one kind a line; what is not clear is marked."""
    yield (
        f"{comparison['shared']} shared questions; left out: {comparison['only_first']} of the "
        f"first alone, {comparison['only_second']} of the second alone"
    )
    unit = UNITS[comparison["unit"]]
    yield f"{comparison['benchmark']}: {comparison['metric']}"
    for name, facts in {"overall": comparison["overall"], **comparison["by_kind"]}.items():
        yield f"{name:10} {_compared(unit, facts)}"


def _compared(unit: Unit, facts: Mapping[str, Any]) -> str:
    covered = facts["coverage_first"], facts["coverage_second"]
    rest = "" if min(covered) == 1 else f" (could be read: {covered[0]:.1%} → {covered[1]:.1%})"
    if facts["difference"] is None:
        return f"no question could be scored for both{rest}"
    clear = "" if is_clear(facts) else ", not clear"
    return (
        f"{unit.score_text(facts['first'])} → {unit.score_text(facts['second'])}, "
        f"{unit.step_text(facts['difference'])}{unit.reach_text(facts)} of "
        f"{facts['count']}{clear}{rest}"
    )
