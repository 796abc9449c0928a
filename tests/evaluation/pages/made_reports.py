"""Reports made from answers, as an evaluation makes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reading_pages import Page

from panovlm.evaluation.asking import Answers
from panovlm.evaluation.benchmarks.items import Item
from panovlm.evaluation.benchmarks.names import BENCHMARKS
from panovlm.evaluation.pages.page import EVALUATE, write_page
from panovlm.evaluation.report import report_of, rows
from panovlm.evaluation.run import benchmark_facts
from panovlm.evaluation.scoring import score_answers
from panovlm.geometry.layouts import ViewLayout

YAWS = (0.0, 90.0, -90.0, 170.0) * 2
PITCHES = (5.0, 5.0, 40.0, 80.0) * 2
DIRECTIONS = ["front", "front-right", "right", "back-right", "back", "back-left", "left"]
OPTIONS = {"options": ["a sky", "a wall"], "right": 0, "asked": "?"}
STAGE = {
    "loss_first": 61.5,
    "loss_last": 8.25,
    "seconds": 300.0,
    "expected_first": [50, 100],
    "expected_last": [10, 30],
}
"""What a stage reported."""
NO_ANSWERS: dict[str, Any] = {
    "blind": (),
    "rotated": (),
    "changed": (),
    "seam": (),
    "pole": (),
}


@dataclass
class Made:
    """A report with what it was made from.

    Attributes:
        report: Its facts and predictions.
        logs: Of training stages.
    """

    report: dict[str, Any]
    logs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def with_facts(self, **facts: Any) -> "Made":
        return replace(self, report=self.report | facts)

    def page(self, folder: Path, sheet: Any = None) -> Page:
        out = folder / "new" / "report.html"
        content = {"report": self.report, "logs": self.logs, "views_sheet": sheet}
        write_page("report.html.jinja", out, EVALUATE, **content)
        return Page(out.read_text(encoding="utf-8"))


def items_of(name: str, pictures: Sequence[Path]) -> list[Item]:
    facts: dict[str, Any] = OPTIONS
    if name == "records":
        facts = {"rolled_responses": ["a sky"] * 8, "crosses_seam": None}
    return [
        Item(
            f"{i}",
            picture,
            f"Where is <b>{i}</b>?",
            ("a sky",),
            f"kind {i % 2}",
            yaw_deg,
            pitch_deg,
            facts | ({"crosses_seam": abs(yaw_deg) > 150} if name == "records" else {}),
        )
        for i, (picture, yaw_deg, pitch_deg) in enumerate(zip(pictures, YAWS, PITCHES, strict=True))
    ]


def made(name: str, pictures: Sequence[Path], said: Sequence[str], **asked: Any) -> Made:
    """Make the report of four answers, each to two questions about pictures of their own.

    `asked` has the answers of the blind baseline, those to the first question under all rotations,
    which views change its answer, and its answers to the probes.
    """
    asked = NO_ANSWERS | asked
    benchmark = BENCHMARKS[name]
    items = items_of(name, pictures)
    again: dict[str, dict[int, list[str]]] = {
        "yaw_rotated": {0: [*asked["rotated"][1:]]} if asked["rotated"] else {},
        "without_view": {0: ["another" if each else said[0] for each in asked["changed"]]}
        if asked["changed"]
        else {},
        "seam_shifted": {place: [text] for place, text in enumerate(asked["seam"])},
        "pole_shifted": {place: [text] for place, text in enumerate(asked["pole"])},
    }
    again = {way: found for way, found in again.items() if found}
    sample = {way: [*found] for way, found in again.items()}
    blind = {"blind": [*asked["blind"]] * 2} if asked["blind"] else {}
    texts = Answers([*said] * 2, blind, again, [sample] * 2)
    answers = score_answers(benchmark, items, texts)
    report = {
        **benchmark_facts(name, benchmark),
        **report_of(benchmark, answers, ViewLayout.ring(4, 120.0, 32)),
        "items_without_picture": 3,
        "judge": None,
        "stages": {},
        "versions": {"torch": "2.13.0"},
        "settings": {"model": "runs/<b>", "show": "views", "data": "<i>.jsonl", "items": 4},
        "seconds_evaluation": 3.0,
        "seconds_total": 4000.0,
        "peak_memory_mb": 2048.0,
        "predictions": rows(benchmark, answers),
    }
    return Made(report)
