"""Claims about the report page: whole, self-contained, escaped, silent on what is not there."""

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from reading_pages import Page

from panovlm.errors import PanoVLMError
from panovlm.evaluation.pages.marked_pictures import Example
from panovlm.evaluation.pages.report_page import verdict, write_report
from panovlm.evaluation.pages.scores import duration

LEAST: dict[str, Any] = {"accuracy": {"overall": 0.5, "by_kind": {"turn": 0.5}, "count": 40}}
FULL: dict[str, Any] = {
    "accuracy": {
        "overall": 0.8125,
        "by_kind": {"direction": 0.9, "count": 0.7},
        "seam": 0.76,
        "not_seam": 0.83,
        "count": 1600,
        "count_by_kind": {"direction": 900, "count": 700},
    },
    "baselines": {"blind": {"overall": 0.3, "by_kind": {"direction": 0.125, "count": 0.4}}},
    "rotation_consistency": 0.79,
    "stages": {
        "vision": {
            "loss_first": 61.5,
            "loss_last": 8.25,
            "seconds": 300.0,
            "expected_first": [50, 100],
            "expected_last": [10, 30],
        }
    },
    "seconds_total": 4000.0,
    "peak_memory_mb": 2048.0,
    "versions": {"torch": "2.13.0"},
    "settings": {"data": "test.jsonl", "cpus": 2},
}
LOGS = {
    "vision": [
        {"step": 10 * i, "loss": 60.0 - i, "feature_std": 0.9, "projected_rank": 50.0 + i}
        for i in range(1, 20)
    ]
}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "grey.jpg"
    Image.new("RGB", (64, 32), (90, 90, 90)).save(path)
    return path


@pytest.fixture
def examples(picture: Path) -> list[Example]:
    return [
        Example(picture, "Where is the cube?", "left", "left", "direction", True, -90.0),
        Example(
            picture, "Where is the cone?", "back", "<b>right</b> & so on", "direction", False, 180.0
        ),
    ]


def page_of(tmp_path: Path, report: dict[str, Any], *rest: Any) -> Page:
    logs, examples, sheet = rest or ({}, [], None)
    out = tmp_path / "new" / "report.html"
    write_report(report, logs, examples, sheet, out)
    return Page(out.read_text(encoding="utf-8"))


@pytest.fixture
def full(tmp_path: Path, examples: list[Example]) -> Page:
    return page_of(tmp_path, FULL, LOGS, examples, Image.new("RGB", (40, 60)))


def test_every_tag_is_closed_in_order(full: Page) -> None:
    assert full.open == []
    assert full.count("html") == full.count("body") == full.count("h1") == 1


def test_sections_come_in_order(full: Page) -> None:
    assert full.headings == [
        "PanoVLM report",
        "Accuracy by kind",
        "Stage 1, vision: neighbouring views agree on their overlap",
        "View overlap",
        "Correct answers",
        "Wrong answers",
        "Versions",
        "Settings",
        "All numbers",
    ]


def test_the_page_needs_no_other_file(tmp_path: Path, full: Page) -> None:
    sources = [attrs["src"] or "" for _, attrs in full.tags if "src" in attrs]
    assert len(sources) == 3
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not [tag for tag, attrs in full.tags if tag in ("script", "link") or "href" in attrs]
    html = (tmp_path / "new" / "report.html").read_text()
    assert not re.search(r"https?://|@import|url\(", html)


def test_the_page_has_a_light_and_a_dark_side(tmp_path: Path, full: Page) -> None:
    html = (tmp_path / "new" / "report.html").read_text()
    assert "prefers-color-scheme: dark" in html


def test_every_class_of_the_page_has_a_style(tmp_path: Path, full: Page) -> None:
    html = (tmp_path / "new" / "report.html").read_text()
    styles = set(re.findall(r"\.([a-z]+)", html.split("<style>")[1].split("</style>")[0]))
    assert full.classes <= styles


def test_tiles_show_what_was_measured(full: Page) -> None:
    for said in (
        "81.2 %",
        "30.0 %",
        "79.0 %",
        "76.0 %",
        "elsewhere 83.0 %",
        "1 h 7 min",
        "2.0 GiB",
    ):
        assert said in full.text, said


def test_losses_are_told_beside_their_expected_ranges(full: Page) -> None:
    assert "Loss at the start 61.5 (within the expected 50–100)" in full.text
    assert "loss at the end 8.25 (below the expected 10–30)" in full.text
    assert "trained in 5 min 0 s" in full.text


def test_scalars_in_the_log_are_drawn_with_their_last_values(full: Page) -> None:
    assert "0.9 at the last step: standard deviation" in full.text
    assert "69 at the last step: effective rank of the projector" in full.text
    assert "covariance" not in full.text
    assert full.charts[1:] == ["Loss of the stage vision", "projected_rank", "feature_std"]


def test_answers_are_escaped(tmp_path: Path, full: Page) -> None:
    assert "<b>right</b> & so on" in full.text
    assert "<b>right" not in (tmp_path / "new" / "report.html").read_text()


def test_all_numbers_stand_under_their_keys(full: Page) -> None:
    assert "accuracy.by_kind.direction0.9" in full.text
    assert "stages.vision.expected_first[50, 100]" in full.text


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    page = page_of(tmp_path, LEAST)
    assert page.headings == ["PanoVLM report", "Accuracy by kind", "All numbers"]
    assert "None" not in page.text and "blind" not in page.text.lower()
    assert page.count("dt") == 1


def test_values_given_as_none_are_left_out_too(tmp_path: Path) -> None:
    accuracy = LEAST["accuracy"] | {"seam": None, "not_seam": None}
    page = page_of(tmp_path, {"accuracy": accuracy, "rotation_consistency": None, "stages": {}})
    assert "None" not in page.text
    assert page.count("dt") == 1


def test_a_log_without_facts_and_facts_without_a_log_are_both_shown(tmp_path: Path) -> None:
    facts = {"stages": {"mine": {"loss_last": 2.0}, "empty": {}}}
    page = page_of(tmp_path, LEAST | facts, {"finetune": [{"step": 1, "loss": 3.0}]}, [], None)
    assert page.headings[2:4] == ["mine", "Stage 3, finetune: answering questions"]
    assert "Loss at the end 2." in page.text
    assert "empty" not in page.headings


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        ((0.5, 0.4, 0.6), ", 50.0 points [+40.0, +60.0] better than the blind baseline."),
        ((0.1, -0.01, 0.2), ", not clearly different from the blind baseline (+10.0 points ["),
        ((0.1, 0.02, 0.2), ", 10.0 points [+2.0, +20.0] better than the blind baseline."),
        ((-0.1, -0.2, -0.02), ", 10.0 points [-20.0, -2.0] worse than the blind baseline."),
        (None, "on 400 questions."),
    ],
)
def test_the_verdict_claims_no_more_than_was_measured(
    gain: tuple[float, float, float] | None, expected: str
) -> None:
    names = ("mean", "low", "high")
    better = {"blind": dict(zip(names, gain, strict=True)) | {"count": 400}} if gain else {}
    accuracy = {"overall": 0.8, "count": 400, "interval": [0.75, 0.85]}
    said = verdict({"accuracy": accuracy, "better_than": better})
    assert said.startswith("Accuracy 80.0 % [75.0–85.0] on 400 questions") and expected in said


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.5, "0.5 s"), (59.7, "1 min 0 s"), (3599.0, "59 min 59 s"), (7199.0, "2 h 0 min")],
)
def test_durations_are_said_in_two_units(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_a_page_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PanoVLMError, match="cannot write the page"):
        write_report(LEAST, {}, [], None, tmp_path / "file" / "report.html")


SPHERE: dict[str, Any] = {
    **LEAST,
    "accuracy": {
        **LEAST["accuracy"],
        "interval": [0.4, 0.6],
        "coverage": 0.975,
        "interval_by_kind": {"turn": [0.4, 0.6]},
        "count_by_kind": {"turn": 40},
        "by_sector": {"front": 0.75, "left": 0.25},
        "interval_by_sector": {"front": [0.5, 1.0], "left": [0.0, 0.5]},
        "count_by_sector": {"front": 20, "left": 20},
        "by_seam_distance": {"0-45°": 0.25, "135-180°": 0.75},
        "interval_by_seam_distance": {"0-45°": [0.1, 0.4], "135-180°": [0.6, 0.9]},
        "count_by_seam_distance": {"0-45°": 20, "135-180°": 20},
    },
    "rotation": {
        "rotations": 2,
        "count": 10,
        "by_rotation": {"0°": 0.5, "180°": 0.25},
        "interval_by_rotation": {"0°": [0.25, 0.75], "180°": [0.0, 0.5]},
        "right_every": 0.125,
        "interval_right_every": [0.0, 0.3],
        "consistent": 0.375,
        "interval_consistent": [0.2, 0.5],
        "agreement": 0.625,
        "consistent_count": 8,
    },
    "view_ablation": {
        "count": 12,
        "changed_by_any": 0.5,
        "changed_by_offset": {"+0°": 0.5, "+180°": 0.0},
        "interval_by_offset": {"+0°": [0.25, 0.75], "+180°": [0.0, 0.0]},
        "share_by_offset": {"+0°": 1.0, "+180°": 0.0},
    },
    "seeds": [{"seed": 0, "right_every": 0.1}, {"seed": 1, "right_every": 0.15}],
}


def test_what_only_a_panorama_has_is_drawn_and_listed(tmp_path: Path) -> None:
    page = page_of(tmp_path, SPHERE)
    assert page.open == []
    assert page.headings[1:-1] == [
        "Accuracy by kind",
        "Accuracy by direction",
        "Seam and poles",
        "Rotation consistency",
        "View ablation",
        "Seeds",
    ]
    for figure in ("12.5 %", "37.5 %", "62.5 %", "40.0–60.0", "Coverage97.5 %"):
        assert figure in page.text
    petals = [attrs for tag, attrs in page.tags if tag == "path" and attrs["class"] == "ours"]
    assert len(petals) == 2 + 2 + 2  # sectors, rotations, offsets


def test_every_figure_of_a_chart_stands_in_a_table_with_headers(tmp_path: Path) -> None:
    page = page_of(tmp_path, SPHERE)
    scopes = [attrs["scope"] for tag, attrs in page.tags if tag == "th"]
    assert scopes.count("row") == 2 + 2 + 2 + (2 + 3) + 2 + 2
    assert page.count("caption") == 6
    assert len(page.charts) == 5 and all(page.charts)


def test_seam_shifted_panoramas_and_baselines_are_compared(tmp_path: Path) -> None:
    gain = {"mean": -0.1, "low": -0.2, "high": 0.01, "count": 30}
    scores = {"overall": 0.4, "count": 40, "interval": [0.3, 0.5], "by_kind": {}}
    report = SPHERE | {
        "seam_shifted": {
            "overall": 0.5,
            "count": 30,
            "interval": [0.4, 0.6],
            "as_it_is": 0.6,
            "gain": gain,
        },
        "baselines": {"low_resolution": scores},
        "better_than": {"low_resolution": gain | {"mean": 0.1}},
    }
    page = page_of(tmp_path, report)
    assert page.headings[1] == "Baselines" and "Seam-shifted panoramas" in page.headings
    assert "-10.0 points [-20.0, +1.0] on 30 questions." in page.text
    assert "low-resolution panorama40.0 %30.0–50.0+10.0 [-20.0, +1.0] on 30" in page.text


def test_listings_stand_beside_those_of_each_baseline(tmp_path: Path) -> None:
    share = {"mean": 0.75, "low": 0.5, "high": 1.0, "count": 8}
    listings = {"count": 3, "empty": 0.5, "f1": 0.625, "occupied": share, "lines": share}
    scores = {**LEAST["accuracy"], "interval": (0.1, 0.9), "listings": listings}
    report = {"accuracy": scores, "baselines": {"blind": scores}, "better_than": {"blind": None}}
    write_report(report, {}, [], None, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    rows = re.findall(r"<tr>.*75.0 % \(50.0–100.0\).*0.625.*</tr>", html)
    assert [re.sub("<.*?>", " ", row).split()[0] for row in rows] == ["full", "no"]
