"""A report in a few lines of text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from panovlm.evaluation.units import UNITS, Unit, is_clear


def summary_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield a report's main figures, each with its interval, one a line."""
    accuracy = report["accuracy"]
    yield (
        f"overall {_with_interval(accuracy['overall'], accuracy['interval'])} of "
        f"{accuracy['count']} questions, {accuracy['coverage']:.1%} of them answered"
    )
    for kind, share in accuracy["by_kind"].items():
        limits, count = accuracy["interval_by_kind"][kind], accuracy["count_by_kind"][kind]
        yield f"  {kind:10} {_with_interval(share, limits)} of {count}"
    yield from _listing_lines("", accuracy)
    for name, scores in report["baselines"].items():
        yield f"{_label(name)} {_with_interval(scores['overall'], scores['interval'])}"
        yield from _listing_lines(f", {name}", scores)
    if "rotation" in report:
        shares = report["rotation_consistency"], report["rotation_interval"]
        yield f"{_label('yaw_rotated')} {_with_interval(*shares)}"
        yield from _rotation_lines(report["rotation"])
    if "seam_shifted" in report:
        facts = report["seam_shifted"]
        share = _with_interval(facts["overall"], facts["interval"])
        label = _label("seam_shifted")
        yield f"{label} {share} of {facts['count']}, {facts['as_it_is']:.1%} as they are"
    yield from _ablation_lines(report)


def _listing_lines(name: str, accuracy: Mapping[str, Any]) -> Iterator[str]:
    if facts := accuracy.get("listings"):
        occupied, lines = (
            _with_interval(each["mean"], _limits(each))
            for each in (facts["occupied"], facts["lines"])
        )
        yield (
            f"  {facts['count']} listings{name}: occupied {occupied}, whole lines {lines}, "
            f"F1 of labels {facts['f1']:.3f}"
        )


def benchmark_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield a benchmark's main figures, one a line."""
    parts = {"": report, **report["baselines"]}
    parts |= {name: report[name] for name in ("yaw_rotated", "seam_shifted") if name in report}
    for name, facts in parts.items():
        label, score = f"{_label(name).strip()}, " if name else "", facts["score"]
        mean = "no score" if score["mean"] is None else f"{score['mean']:.4f}"
        read = f"{score['scored']} of {score['count']} answers could be scored"
        yield f"{report['benchmark']}, {label}{report['metric']}: {mean}; {read}"
    yield from _ablation_lines(report)
    if report["items_without_picture"]:
        yield f"{report['items_without_picture']} items have no picture and were not asked"


def _rotation_lines(rotation: Mapping[str, Any]) -> Iterator[str]:
    every = _with_interval(rotation["right_every"], rotation["interval_right_every"])
    yield f"  correct under all {rotation['rotations']} rotations: {every} of {rotation['count']}"
    if "consistent" in rotation:
        same = _with_interval(rotation["consistent"], rotation["interval_consistent"])
        yield f"  the same answer under all: {same} of {rotation['consistent_count']}"


def _ablation_lines(report: Mapping[str, Any]) -> Iterator[str]:
    if "view_ablation" in report:
        share = report["view_ablation"]["changed_by_any"]
        yield f"{share:.1%} of answers change with one view blank"


def _label(name: str) -> str:
    return f"{name.replace('_', '-'):14}"


def _with_interval(share: float, limits: Sequence[float] | None) -> str:
    """Write a share with its interval, of which there is none of few panoramas."""
    return f"{share:.1%}" + (f" [{limits[0]:.1%}, {limits[1]:.1%}]" if limits else "")


def _limits(facts: Mapping[str, Any]) -> tuple[float, float] | None:
    return None if facts["low"] is None else (facts["low"], facts["high"])


def comparison_lines(comparison: Mapping[str, Any]) -> Iterator[str]:
    """Yield the difference of two models, one kind a line; what is not clear is marked."""
    yield (
        f"{comparison['shared']} shared questions; left out: {comparison['only_first']} of the "
        f"first alone, {comparison['only_second']} of the second alone"
    )
    unit = UNITS[comparison["unit"]]
    if comparison["benchmark"] is not None:
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
