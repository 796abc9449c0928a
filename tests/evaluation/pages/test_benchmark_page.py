"""Claims about a benchmark's page: in its unit, self-contained, silent where nothing was scored."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from reading_pages import Page

from panovlm.evaluation.asking import Answers, Sample
from panovlm.evaluation.benchmark_report import benchmark_report
from panovlm.evaluation.benchmark_report import rows as rows_of
from panovlm.evaluation.benchmark_run import BENCHMARKS, as_record
from panovlm.evaluation.benchmarks.items import Benchmark, Item
from panovlm.evaluation.pages.benchmark_examples import best_and_worst, example_of
from panovlm.evaluation.pages.benchmark_page import benchmark_verdict, write_benchmark_page
from panovlm.evaluation.scoring import score_answers
from panovlm.geometry.layouts import ViewLayout

YAWS = (0.0, 90.0, -90.0, 170.0) * 2
RIGHT = ("front", "right", "left", "back")


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{place}.jpg" for place in range(8)]
    for path in paths:
        Image.new("RGB", (64, 32), (90, 90, 90)).save(path)
    return paths


def run(
    name: str,
    pictures: Sequence[Path],
    said: Sequence[str],
    blind: Sequence[str],
    rotated: Sequence[str] = (),
    **facts: Any,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the report and the rows of four questions, each about two pictures."""
    benchmark: Benchmark = BENCHMARKS[name]
    options = {"options": ["a sky", "a wall"], "right": 0, "asked": "?"}
    items = [
        Item(
            f"{i}", picture, f"Where is <b>{i}</b>?", ("a sky",), f"kind {i % 2}", yaw, 5.0, options
        )
        for i, (picture, yaw) in enumerate(zip(pictures, YAWS, strict=True))
    ]

    again = {0: [*rotated]} if rotated else {}
    samples = [Sample([*again], [], [])] * 2
    texts = Answers([*said] * 2, {"blind": [*blind] * 2}, again, {}, {}, samples)
    answers = score_answers(benchmark, items, [as_record(item) for item in items], texts)
    report = {
        "benchmark": name,
        "metric": benchmark.metric,
        "unit": benchmark.unit.name,
        "less_is_better": benchmark.less_is_better,
        "source": benchmark.source,
        "differs": benchmark.differs,
        **benchmark_report(benchmark, answers, ViewLayout.ring(4, 120.0, 32)),
        "items_without_picture": 3,
        "judge": None,
        "versions": {"torch": "2.13.0"},
        "settings": {"data": "<i>.jsonl", "items": 4},
        "seconds_evaluation": 3.0,
    }
    return report | facts, rows_of(benchmark, answers)


def page_of(tmp_path: Path, report: dict[str, Any], rows: list[dict[str, Any]]) -> Page:
    out = tmp_path / "new" / "report.html"
    write_benchmark_page(report, rows, out)
    return Page(out.read_text(encoding="utf-8"))


@pytest.fixture
def errors(pictures: list[Path]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    said = ("front", "right", "yaw -80, pitch 10", "no idea <b>")
    return run("directions", pictures, said, ("back",) * 4, ("front", "left", "back", "?"))


def test_an_error_is_said_in_degrees_and_less_is_better(tmp_path: Path, errors: Any) -> None:
    report, rows = errors
    verdict = benchmark_verdict(report)
    assert verdict.startswith("Mean error 47.5° [")  # of 0, 0, 10 and the largest, 180
    assert "] (yaw error in degrees: less is better) on 8 questions, not clearly diff" in verdict
    assert verdict.endswith("; 2 unreadable (counted as wrong).")
    page = page_of(tmp_path, report, rows)
    assert "less is better" in page.text and "a negative change is a gain" in page.text
    assert page.charts[:2] == ["Mean error by input", "Mean error by kind of question"]
    assert "180°" in page.text and "75 %" not in page.text.split("Benchmark metrics")[0]
    assert "An unreadable answer counts as the largest error, 180.0°." in page.text
    assert "Readable answers alone3.3°6 of 8 answers" in page.text


def test_a_worse_error_is_called_worse(pictures: list[Path]) -> None:
    report, _ = run("directions", pictures, ("back",) * 3 + ("front",), RIGHT)
    assert "worse than the blind baseline" in benchmark_verdict(report)
    report, _ = run("directions", pictures, RIGHT, RIGHT)
    assert "not clearly different from the blind baseline" in benchmark_verdict(report)


def test_no_figure_stands_where_nothing_could_be_scored(
    tmp_path: Path, pictures: list[Path]
) -> None:
    report, rows = run("panovqa", pictures, ("dunno",) * 4, ("",) * 4)
    page = page_of(tmp_path, report | {"extras": {}}, rows)
    assert "Nothing could be scored: of 8 answers, 8 not judged." in page.text
    shown = page.text.split("All numbers")[0]
    assert "%" not in shown.replace("95 % interval", "").replace("Coverage0.0 %", "")
    assert page.charts == []
    assert "Not scored" in page.headings and "Best answers" not in page.headings
    assert shown.count("none: no judge was asked, or it failed") == 4
    assert "None" not in page.text.split("All numbers")[0]


def test_unreadable_answers_are_wrong_and_shown(tmp_path: Path, pictures: list[Path]) -> None:
    report, rows = run("labels", pictures, ("A", "A", "dunno", "hm"), ("B",) * 4)
    assert benchmark_verdict(report).startswith("Score 50.0 % [")
    assert report["better_than"]["blind"]["count"] == 8
    page = page_of(tmp_path, report | {"extras": {}}, rows)
    assert "Coverage50.0 %4 unreadable (counted as wrong)" in page.text
    assert page.text.split("All numbers")[0].count("none: the answer could not be read") == 4


def test_the_page_needs_no_other_file_and_escapes(tmp_path: Path, errors: Any) -> None:
    page = page_of(tmp_path, *errors)
    assert page.open == []
    assert not [tag for tag, attrs in page.tags if tag in ("script", "link") or "href" in attrs]
    html = (tmp_path / "new" / "report.html").read_text()
    assert not re.search(r"https?://|@import|url\(", html)
    assert "<b>" not in html and "<i>.jsonl" not in html
    assert "no idea <b>" in page.text
    styles = set(re.findall(r"\.([a-z]+)", html.split("<style>")[1].split("</style>")[0]))
    assert page.classes <= styles


def test_sections_come_in_order_and_what_was_not_asked_is_left_out(
    tmp_path: Path, errors: Any, pictures: list[Path]
) -> None:
    assert page_of(tmp_path, *errors).headings == [
        "PanoVLM on directions",
        "Baselines",
        "Mean error by kind",
        "Benchmark metrics",
        "Seam and poles",
        "Rotation consistency",
        "Seeds",
        "Smallest errors",
        "Largest errors",
        "Not scored",
        "How it was scored",
        "Versions",
        "Settings",
        "All numbers",
    ]
    least = run("labels", pictures, ("A",) * 4, ("B",) * 4, baselines={}, better_than={}, seeds=[])
    headings = page_of(tmp_path, *least).headings
    assert "Baselines" not in headings and "Rotation consistency" not in headings
    assert "Judge" not in headings and "Worst answers" not in headings


def test_source_and_judge_are_told(tmp_path: Path, pictures: list[Path]) -> None:
    judge = {"model": "some-judge", "date": "2026-11-24"}
    page = page_of(
        tmp_path, *run("360bench", pictures, ("A",) * 4, ("B",) * 4, judge=judge, extras={})
    )
    assert BENCHMARKS["360bench"].source in page.text
    assert BENCHMARKS["360bench"].differs in page.text
    assert "some-judge" in page.text and "Judge" in page.headings
    assert "items skipped, picture missing3" in page.text


def test_best_and_worst_are_told_by_the_side_on_which_less_is(errors: Any) -> None:
    report, rows = errors
    best, worst = best_and_worst(report, rows)
    assert [row["name"] for row in best] == ["0", "1", "4", "5"]
    assert [row["name"] for row in worst] == ["2", "6"]
    assert rows[2]["answered_deg"] == (-80.0, 10.0)
    shown = example_of(report, worst[0])
    assert (shown.answered_deg, shown.score) == ((-80.0, 10.0), "error 10.0°")
    assert shown.is_right is None


def test_groups_have_intervals_and_strata_come_by_distance(errors: Any) -> None:
    report, _ = errors
    assert report["by_kind"]["kind 0"]["interval"]["count"] == 4
    assert [*report["by_distance_from_seam"]] == ["0-45°", "90-135°", "135-180°"]
    assert [*report["yaw_rotated"]["by_rotation"]] == ["0°", "90°", "180°", "270°"]
    assert report["yaw_rotated"]["by_rotation"]["0°"]["mean"] == 0.0


def test_seam_shifted_panoramas_are_compared_with_the_originals(
    tmp_path: Path, errors: Any
) -> None:
    report, rows = errors
    gain = {"mean": 12.5, "low": 3.0, "high": 20.0, "count": 3}
    seam = {"score": report["score"], "as_it_is": report["score"], "gain": gain}
    page = page_of(tmp_path, report | {"seam_shifted": seam}, rows)
    said = "original: +12.5° [+3.0, +20.0] on 3 questions; negative is better."
    assert said in page.text and "Seam-shifted panoramas" in page.headings
