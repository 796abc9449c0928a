"""What a model answers about real panoramas, in one table beside what needs no looking.

    python benchmarks/real.py runs/real --data data/real/test.jsonl \\
        --listings data/real/test_listings.jsonl --hotspots hotspots.jsonl --images photos

The records are those of `panovlm questions`, so their truth is what a teacher saw. Beside the model
stand the same model blind, with the front view alone and with a low-resolution panorama, and the
best constant answer: the one that scores highest on these very questions. Hotspots are in the
format of `--benchmark directions`; `--wording "Where is the {name}?"` asks for them in other words.
`--benchmark NAME DATA IMAGES` adds a published benchmark. Intervals are over whole panoramas.
Reports are written into `--out`, the figures into `real.json` there; `--docs` puts the table on a
page.
"""

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from panovlm.errors import PanoVLMError
from panovlm.evaluation.asking import EvaluationOptions
from panovlm.evaluation.benchmarks.directions import GUESS_DEG, parse_place
from panovlm.evaluation.benchmarks.names import BENCHMARKS
from panovlm.evaluation.run import evaluate
from panovlm.geometry.sphere import DIRECTIONS
from panovlm.metrics.angles import yaw_error_deg
from panovlm.metrics.exact_match import normalised
from panovlm.metrics.intervals import Interval, mean_interval
from panovlm.metrics.listings import NOTHING, label_hits, parse_listing
from panovlm.metrics.units import DEGREES, NOT_MEASURED, SHARE, UNITS, Unit
from reporting import cpu_model, markdown, put_between_markers

SIDES = ("model", "blind", "single_view", "low_resolution")
CONSTANT = "best constant"
HEADER = ["asked", "count", *(side.replace("_", " ") for side in SIDES), CONSTANT]
NEAR_DEG = 45.0
OPTIONS = EvaluationOptions(baselines="all")


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question about a panorama, and what each side answered."""

    image: str
    kind: str
    expected: str
    yaw_deg: float | None
    answers: dict[str, str]


Values = list[tuple[float, str]]
"""Values whose mean is a score, each with its panorama."""


@dataclass(frozen=True)
class Measure:
    """How questions of a kind are scored.

    Attributes:
        name: In the table.
        values: Takes questions and an answer to each.
        constants: Takes questions; returns answers of which the best one for all is compared with.
        unit: Of the score.
    """

    name: str
    values: Callable[[Sequence[AnsweredQuestion], Sequence[str]], Values]
    constants: Callable[[Sequence[AnsweredQuestion]], list[str]]
    unit: Unit = SHARE


def _near(questions: Sequence[AnsweredQuestion], answers: Sequence[str]) -> Values:
    errors = _yaw_errors(questions, answers)
    return [(float(error is not None and error <= NEAR_DEG), image) for error, image in errors]


def _yaw_guessed(questions: Sequence[AnsweredQuestion], answers: Sequence[str]) -> Values:
    errors = _yaw_errors(questions, answers)
    return [(GUESS_DEG if error is None else error, image) for error, image in errors]


def _yaw_errors(
    questions: Sequence[AnsweredQuestion], answers: Sequence[str]
) -> list[tuple[float | None, str]]:
    """Return the error of each answer, None where it names no direction, and its panorama."""
    places = [parse_place(answer) for answer in answers]
    return [
        (place and yaw_error_deg(place[0], question.yaw_deg or 0.0), question.image)
        for question, place in zip(questions, places, strict=True)
    ]


def _balanced(questions: Sequence[AnsweredQuestion], answers: Sequence[str]) -> Values:
    """Weigh answers so that each correct answer, as yes and no, counts alike."""
    counts = Counter(normalised(question.expected) for question in questions)
    weights = {each: len(questions) / len(counts) / count for each, count in counts.items()}
    rights = _exact(questions, answers)
    expected = (normalised(question.expected) for question in questions)
    return [(weights[e] * right, image) for e, (right, image) in zip(expected, rights, strict=True)]


def _exact(questions: Sequence[AnsweredQuestion], answers: Sequence[str]) -> Values:
    return [
        (float(normalised(question.expected) == normalised(answer)), question.image)
        for question, answer in zip(questions, answers, strict=True)
    ]


def _labels(questions: Sequence[AnsweredQuestion], answers: Sequence[str]) -> Values:
    return [
        (float(hit), question.image)
        for question, answer in zip(questions, answers, strict=True)
        for hit in label_hits(question.expected, answer)
    ]


def _yaws(questions: Sequence[AnsweredQuestion]) -> list[str]:
    return [f"yaw {yaw_deg}" for yaw_deg in range(-180, 180, 5)]


def _expected(questions: Sequence[AnsweredQuestion]) -> list[str]:
    return sorted({normalised(question.expected) for question in questions})


def _listings(questions: Sequence[AnsweredQuestion]) -> list[str]:
    """Return listings of what is most frequent in a direction: of the first, the first two ..."""
    counts: Counter[tuple[str, str]] = Counter()
    for question in questions:
        for direction, things in parse_listing(question.expected).items():
            counts.update((direction, re.sub(r" \S+ m$", "", thing)) for thing in things)
    most = [place for place, _ in counts.most_common(64)]
    return [_listing(most[:count]) for count in range(1, len(most) + 1)] or [_listing([])]


def _listing(places: Sequence[tuple[str, str]]) -> str:
    by_direction = defaultdict(list)
    for direction, label in places:
        by_direction[direction].append(label)
    return "\n".join(f"{word}: {', '.join(by_direction[word]) or NOTHING}" for word in DIRECTIONS)


HOTSPOT = "hotspot"
MEASURES = {
    "direction": Measure("where: within 45° of it", _near, _yaws),
    "existence": Measure("existence: balanced accuracy", _balanced, _expected),
    "listing": Measure("listing: F1 of labels in directions", _labels, _listings),
    HOTSPOT: Measure("hotspots: mean yaw error, unreadable as 90°", _yaw_guessed, _yaws, DEGREES),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask everything, print the table and write it."""
    options = _parser().parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        rows = [*_record_rows(options), *_hotspot_rows(options), *_benchmark_rows(options)]
    except PanoVLMError as error:
        print(f"real: {error}", file=sys.stderr)
        return 2
    (options.out / "real.json").write_text(json.dumps(rows, indent=2) + "\n")
    text = (
        f"`{options.model}`; 95 % intervals over panoramas. Where, existence and listing are "
        "against what the teacher saw: the teacher itself would have every one right. Without "
        f"looking, a direction is within 45° one time in four. {cpu_model()}.\n\n"
        f"{markdown([HEADER, *map(_cells, rows)])}"
    )
    print(text)
    if options.docs:
        put_between_markers(options.docs, "real", text)
    return 0


def _record_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Ask the records and the listings, and score them by kind, those of `MEASURES` first."""
    by_kind: dict[str, list[AnsweredQuestion]] = defaultdict(list)
    for name in ("data", "listings"):
        if (file := getattr(options, name)) is not None:
            out = options.out / f"{name}.json"
            evaluate(options.model, file, out, limit=options.limit, options=OPTIONS)
            for row in _predictions(out):
                by_kind[row["kind"]].append(_question(row, row["references"][0], row["kind"]))
    order = [*(kind for kind in MEASURES if kind in by_kind), *sorted(by_kind.keys() - MEASURES)]
    return [_measured(by_kind[kind], kind) for kind in order]


def _hotspot_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    if options.hotspots is None:
        return []
    data, images = options.hotspots, options.images or options.hotspots.parent
    if options.wording:
        data = _reworded(options)
    out = options.out / "hotspots_report.json"
    evaluate(
        options.model, data, out, "directions", images=images, limit=options.limit, options=OPTIONS
    )
    questions = [_question(row, "", HOTSPOT) for row in _predictions(out)]
    return [_measured(questions, HOTSPOT)]


def _reworded(options: argparse.Namespace) -> Path:
    """Write the hotspots with other questions; names are those given, or what is asked for."""
    lines = options.hotspots.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line.strip()]
    for row in rows:
        name = row.get("name") or row["question"].rpartition(": ")[2].rstrip("?")
        row["question"] = options.wording.format(name=name)
    file: Path = options.out / "hotspots_reworded.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return file


def _benchmark_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Score published benchmarks by their own rules; none has a constant answer to compare with."""
    rows = []
    for name, data, images in options.benchmark:
        out = options.out / f"{name}.json"
        report = evaluate(
            options.model,
            Path(data),
            out,
            name,
            images=Path(images),
            limit=options.limit,
            options=OPTIONS,
        )
        sides = {"model": report, **report["baselines"]}
        scores = {side: _interval(facts) for side, facts in sides.items()}
        unit = BENCHMARKS[name].unit
        rows.append({"asked": f"{name}: {report['metric']}", "unit": unit.name, "scores": scores})
    return rows


def _interval(facts: dict[str, Any]) -> dict[str, Any]:
    """Return a benchmark's score with its interval, as far as there is one."""
    score = {"mean": facts["score"]["mean"], "low": None, "high": None}
    return score | {"count": facts["score"]["count"]} | (facts["score"]["interval"] or {})


def _measured(questions: Sequence[AnsweredQuestion], kind: str) -> dict[str, Any]:
    measure = MEASURES.get(kind, Measure(f"{kind}: exact", _exact, _expected))

    def score(answers: Sequence[str]) -> Interval:
        values = measure.values(questions, answers)
        found = mean_interval([value for value, _ in values], [image for _, image in values])
        return found or Interval(0.0, None, None, 0)

    def mean(constant: str) -> float:
        values = measure.values(questions, [constant] * len(questions))
        return sum(value for value, _ in values) / max(len(values), 1)

    best = min if measure.unit is DEGREES else max
    constant = best(measure.constants(questions), key=mean)
    scores = {side: score([each.answers[side] for each in questions]) for side in SIDES}
    scores[CONSTANT] = score([constant] * len(questions))
    return {
        "asked": measure.name,
        "unit": measure.unit.name,
        "questions": len(questions),
        "panoramas": len({question.image for question in questions}),
        "constant": constant,
        "scores": {side: asdict(each) for side, each in scores.items()},
    }


def _predictions(report: Path) -> list[dict[str, Any]]:
    predictions: list[dict[str, Any]] = json.loads(report.read_text())["predictions"]
    return predictions


def _question(row: dict[str, Any], expected: str, kind: str) -> AnsweredQuestion:
    others = row["baselines"].items()
    said = {name: each["answer"] for name, each in others}
    answers = {"model": row["answer"], **said}
    return AnsweredQuestion(row["image"], kind, expected, row["yaw_deg"], answers)


def _cells(row: dict[str, Any]) -> list[str]:
    unit = UNITS[row["unit"]]
    scores = [row["scores"].get(side) for side in (*SIDES, CONSTANT)]
    count = f"{row['questions']} / {row['panoramas']}" if "questions" in row else scores[0]["count"]
    return [row["asked"], str(count), *(_cell(unit, score) for score in scores)]


def _cell(unit: Unit, score: dict[str, Any] | None) -> str:
    if score is None:
        return NOT_MEASURED
    limits = None if score["low"] is None else (score["low"], score["high"])
    return f"{unit.score_text(score['mean'])}{f' [{unit.limits_text(limits)}]' if limits else ''}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path, help="a folder, a run or a pretrained model's name")
    parser.add_argument("--out", type=Path, required=True, help="folder of the reports")
    parser.add_argument("--data", type=Path, help="questions, as panovlm questions writes them")
    parser.add_argument("--listings", type=Path, help="listings, likewise")
    parser.add_argument("--hotspots", type=Path, help="where things are: benchmark directions")
    parser.add_argument("--images", type=Path, help="folder of the hotspots' pictures")
    parser.add_argument("--wording", help="as in 'Where is the {name}?'")
    parser.add_argument(
        "--benchmark",
        nargs=3,
        action="append",
        default=[],
        metavar=("NAME", "DATA", "IMAGES"),
        help="a published benchmark; may be repeated",
    )
    parser.add_argument("--limit", type=int, help="first questions of each file")
    parser.add_argument("--docs", type=Path, help="page with the markers <!-- real -->")
    return parser


if __name__ == "__main__":
    sys.exit(main())
