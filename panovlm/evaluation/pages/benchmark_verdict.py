"""What a benchmark's report says in one sentence and in a few numbers.

Errors, of which less is better, are said as such; a mean stands beside how much it rests on, and
where nothing could be scored there is no number at all.
"""

from collections.abc import Mapping
from typing import Any

from panovlm.evaluation.pages.stage_section import duration
from panovlm.evaluation.units import UNITS, Unit
from panovlm.metrics.scores import Missing

Report = Mapping[str, Any]

REASONS = {
    Missing.UNREADABLE: "could not be read",
    Missing.NO_REFERENCE: "have no right answer to compare with",
    Missing.NOT_JUDGED: "were not judged",
}
"""Why answers have no score, as said of some of them."""
LITTLE = 0.5
"""Coverage below which a mean says little of the whole."""


def benchmark_verdict(report: Report) -> str:
    """Say in one sentence how good the answers are, beside those without seeing the picture.

    A difference is better or worse only where its paired interval leaves out 0.
    """
    unit, score = UNITS[report["unit"]], report["score"]
    if score["mean"] is None:
        return f"Nothing could be scored: of {score['count']:,} answers, {unscored(score)}."
    said = f"The model's mean is {unit.say(score['mean'])} ({report['metric']})"
    if score["scored"] == score["count"]:
        said += f" over all {score['count']:,} answers"
    else:
        said += f" over the {score['scored']:,} of {score['count']:,} answers that could be scored"
    parts = [said + _beside_blind(report, unit)]
    if score["missing"]:
        parts.append(unscored(score))
    return "; ".join(parts) + "."


def unscored(score: Mapping[str, Any]) -> str:
    """Say how many answers have no score, and why; empty if all have one."""
    return ", ".join(
        f"{count:,} {REASONS[Missing(reason)]}" for reason, count in score["missing"].items()
    )


def coverage_note(score: Mapping[str, Any], *, less_is_better: bool) -> str:
    """Say what a mean does not rest on; empty where everything was scored."""
    if not score["missing"] or score["mean"] is None:
        return ""
    note = f"Scored {score['scored']:,} of {score['count']:,}: {unscored(score)}."
    if less_is_better:
        note += " What has no error is left out, not counted as 0."
    if score["coverage"] < LITTLE:
        note += (
            " Most answers have no score: the mean speaks of the others alone, and which answers "
            "can be scored is no fair draw."
        )
    return note


def benchmark_tiles(report: Report) -> list[tuple[str, str, str]]:
    """Give (name, value, note) of each number that was measured."""
    unit, score, name = UNITS[report["unit"]], report["score"], score_name(report)
    tiles = []
    if score["mean"] is not None:
        note = _interval_note(unit, report["interval"])
        note += ", less is better" if report["less_is_better"] else ""
        tiles.append((name, unit.say(score["mean"]), note))
    of = f"{score['scored']:,} of {score['count']:,}"
    tiles.append(("Could be scored", of, unscored(score) or "none is left out"))
    whole = score["mean_unreadable_wrong"]
    if score["missing"] and score["mean"] is not None and whole is not None:
        tiles.append(("Counted as wrong", unit.say(whole), "if what cannot be read scores 0"))
    blind = report["baselines"].get("blind")
    if blind and blind["score"]["mean"] is not None:
        count = blind["score"]["scored"]
        tiles.append(
            (
                "Blind baseline",
                unit.say(blind["score"]["mean"]),
                f"without the picture, of {count:,}",
            )
        )
    tiles += _turned_tiles(report, unit)
    tiles.append(("Time", duration(report["seconds_evaluation"]), "of the last start"))
    return tiles


def score_name(report: Report) -> str:
    """Give the word that heads a report's scores."""
    return "Mean error" if report["less_is_better"] else "Score"


def _turned_tiles(report: Report, unit: Unit) -> list[tuple[str, str, str]]:
    turned = report.get("yaw_rotated")
    if not turned:
        return []
    tiles = []
    if (mean := turned["score"]["mean"]) is not None:
        tiles.append(
            ("Turned pictures", unit.say(mean), f"of {turned['score']['scored']:,} answers")
        )
    every = turned.get("right_every")
    if every and every["mean"] is not None:
        note = f"of {every['count']:,} questions"
        tiles.append(("Right under every turn", UNITS["share"].say(every["mean"]), note))
    return tiles


def _interval_note(unit: Unit, interval: Mapping[str, Any]) -> str:
    limits = unit.say_limits((interval["low"], interval["high"]))
    return f"{limits} on other panoramas (95 %)"


def _beside_blind(report: Report, unit: Unit) -> str:
    """Compare with the blind baseline, more always being better in what is said."""
    blind = report["baselines"].get("blind")
    if blind is None:
        return ""
    gain = report["better_than"]["blind"]
    if gain is None:
        return ", not comparable with the blind baseline, as no question was scored in both"
    sign = -1 if report["less_is_better"] else 1
    low, high = sorted(sign * gain[end] for end in ("low", "high"))
    better = sign * gain["mean"]
    reach = f"[{unit.signed(low)}, {unit.signed(high)}]"
    on = f" on the {gain['count']:,} questions scored in both"
    on = "" if gain["count"] == report["score"]["scored"] else on
    if low > 0 or high < 0:
        word = "better" if low > 0 else "worse"
        size = unit.say_step(abs(better)).removeprefix("+")
        return f", {size} {word} than without seeing the picture{on} (gain {reach})"
    step = unit.say_step(better)
    return f", not clearly other than without seeing the picture{on} (gain {step} {reach})"
