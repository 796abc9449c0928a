"""The main figures of a report for other tools: what it must reach, and lm-eval's format."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from panovlm.errors import PanoVLMError
from panovlm.evaluation.asking import EvaluationOptions
from panovlm.evaluation.benchmarks.names import RECORDS_NAME
from panovlm.evaluation.shown import PROBES
from panovlm.runtime.files import has_keys, write_own

Report = Mapping[str, Any]

AGAIN_SCORED = ("yaw_rotated", *PROBES)
"""Ways to ask again of which a report has a score."""
HALF_WIDTH_SIGMAS = 1.96
"""Standard errors from the middle of a 95 % interval to its end."""
_REQUIREMENT = re.compile(r"(.+)=(-?\d*\.?\d+)")


class Figure(NamedTuple):
    """A main figure of a report, and half of its 95 % interval; None where there is none."""

    value: float | None
    less_is_better: bool = False
    half_width: float | None = None


class Requirement(NamedTuple):
    """The name of a figure, and what it has to be at least, or at most if it is an error."""

    name: str
    limit: float

    @classmethod
    def of(cls, text: str) -> "Requirement":
        """Read a requirement, as `accuracy=0.9`.

        Raises:
            PanoVLMError: If it is none.
        """
        if not (found := _REQUIREMENT.fullmatch(text)):
            raise PanoVLMError(
                f"found --fail-under {text}, expected a figure and a number, as in accuracy=0.9"
            )
        return cls(found[1], float(found[2]))


def requirements_of(
    texts: Sequence[str], name: str, options: EvaluationOptions
) -> list[Requirement]:
    """Read requirements before a benchmark is asked.

    Raises:
        PanoVLMError: If one is none, or no report would have its figure. Whether a kind is there
            shows in the report alone.
    """
    asked = [way for way in AGAIN_SCORED if options.num_again[way]]
    gain = ["gain"] if options.baselines != "none" else []
    known = [_main(name), "coverage", *gain, *asked]
    found = [Requirement.of(text) for text in texts]
    for required in found:
        if required.name not in known and not required.name.startswith("kind:"):
            raise _unknown(required, [*known, "kind:NAME"])
    return found


def _main(name: str) -> str:
    return "accuracy" if name == RECORDS_NAME else "score"


def _unknown(required: Requirement, known: Iterable[str]) -> PanoVLMError:
    return PanoVLMError(f"found --fail-under {required.name}, expected one of {', '.join(known)}")


def shortfalls(report: Report, requirements: Sequence[Requirement]) -> Iterator[str]:
    """Yield each requirement that a report does not meet, in words.

    Raises:
        PanoVLMError: If the report has no figure of such a name.
    """
    figures = figures_of(report)
    for required in requirements:
        if required.name not in figures:
            raise _unknown(required, figures)
        figure = figures[required.name]
        if figure.value is None:
            yield f"{required.name} has no value, expected {required.limit:g}"
        elif figure.less_is_better and figure.value > required.limit:
            yield f"{required.name} is {figure.value:.4g}, expected {required.limit:g} or less"
        elif not figure.less_is_better and figure.value < required.limit:
            yield f"{required.name} is {figure.value:.4g}, expected {required.limit:g} or more"


def figures_of(report: Report) -> dict[str, Figure]:
    """Return the main figures of a report by name.

    Returns:
        `accuracy` of records or `score` of a benchmark; `coverage`; the same score of each kind as
        `kind:NAME`; `gain` over the blind baseline, and `yaw_rotated` and those of `PROBES`, the
        scores on pictures changed so, where they were asked for. Shares are in [0, 1].
    """
    less, score = report["less_is_better"], report["score"]
    again = {name: report[name]["score"] for name in AGAIN_SCORED if name in report}
    parts = {f"kind:{kind}": each for kind, each in report["by_kind"].items()} | again
    found = {
        _main(report["benchmark"]): _figure(score["mean"], score["interval"], less),
        "coverage": Figure(score["coverage"]),
        **{name: _figure(each["mean"], each["interval"], less) for name, each in parts.items()},
    }
    if gain := report["better_than"].get("blind"):
        found["gain"] = _figure(-gain["mean"] if less else gain["mean"], gain, False)
    return found


def _figure(value: float | None, ends: Report | None, less_is_better: bool) -> Figure:
    is_known = ends is not None and ends["low"] is not None
    half = (ends["high"] - ends["low"]) / 2 if ends and is_known else None
    return Figure(value, less_is_better, half)


def lm_eval_results(report: Report) -> dict[str, Any]:
    """Return a report's main figures in the format of lm-evaluation-harness's results.

    Standard errors are those of the intervals over panoramas, "N/A" where there are none.
    """
    task = f"panovlm_{report['benchmark']}".replace("-", "_")
    figures = {
        name.replace(":", "_").replace(",", " "): figure
        for name, figure in figures_of(report).items()
        if figure.value is not None
    }
    count = report["score"]["count"]
    values: dict[str, Any] = {"alias": task}
    for name, figure in figures.items():
        half = figure.half_width
        values[f"{name},none"] = figure.value
        values[f"{name}_stderr,none"] = "N/A" if half is None else half / HALF_WIDTH_SIGMAS
    return {
        "results": {task: values},
        "group_subtasks": {task: []},
        "configs": {task: {"task": task, "metadata": {"data": report["settings"]["data"]}}},
        "versions": {task: report["versions"]["panovlm"]},
        "n-shot": {task: 0},
        "higher_is_better": {
            task: {name: not figure.less_is_better for name, figure in figures.items()}
        },
        "n-samples": {task: {"original": count, "effective": count}},
        "config": {"model": report["settings"]["model"], "model_args": "", "batch_size": None},
        "date": datetime.now(UTC).timestamp(),
    }


def is_lm_eval_results(path: Path) -> bool:
    """Return whether a file holds results in that format."""
    return has_keys(path, ("results", "n-shot", "higher_is_better"))


def write_lm_eval_results(report: Report, out: Path) -> None:
    """Write a report's main figures in that format, whole or not at all."""
    text = json.dumps(lm_eval_results(report), indent=2, ensure_ascii=False) + "\n"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_own(out, lambda part: part.write_text(text, encoding="utf-8"), is_lm_eval_results)
