"""Claims about a report's page: in its unit, self-contained, silent where nothing was scored."""

import re
from pathlib import Path
from typing import Any

import pytest
from made_reports import STAGE, Made, made
from PIL import Image
from reading_pages import Page, part

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.names import BENCHMARKS
from panovlm.evaluation.pages.examples import choose_examples
from panovlm.evaluation.pages.scores import duration
from panovlm.metrics.units import UNITS

NAMES = {"records": "Accuracy", "directions": "Mean error", "labels": "Score"}
RIGHT = ("front", "right", "left", "back")
LOG = [
    {"step": 10 * i, "loss": 60.0 - i, "feature_std": 0.9, "projected_rank": 50.0 + i}
    for i in range(1, 20)
]


def verdict(report: dict[str, Any]) -> str:
    measure = {"unit": UNITS[report["unit"]], "name": NAMES[report["benchmark"]]}
    return part("verdicts.html.jinja", "report_verdict", report, measure).text


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{place}.jpg" for place in range(8)]
    for path in paths:
        Image.new("RGB", (64, 32), (90, 90, 90)).save(path)
    return paths


@pytest.fixture
def errors(pictures: list[Path]) -> Made:
    """Directions, two of which cannot be read."""
    said = ("front", "right", "yaw -80, pitch 10", "no idea <b>")
    again = ("front", "left", "back", "?")
    return made("directions", pictures, said, blind=("back",) * 4, rotated=again)


@pytest.fixture
def records(pictures: list[Path]) -> Made:
    """Records, asked in every way."""
    said = ("a sky", "A sky.", "<b>a wall</b> & so on", "")
    report = made(
        "records",
        pictures,
        said,
        blind=("a wall",) * 4,
        rotated=("a sky", "a sky", "a wall", "a sky"),
        changed=(True, False, False, False),
        seam=("a sky", "a wall"),
        pole=("a wall",) * 4,
    )
    report.logs = {"vision": LOG}
    return report.with_facts(stages={"vision": STAGE, "mine": {"loss_last": 2.0}, "empty": {}})


@pytest.fixture
def full(tmp_path: Path, records: Made) -> Page:
    return records.page(tmp_path, Image.new("RGB", (40, 60)))


def test_sections_come_in_order(full: Page, tmp_path: Path, errors: Made) -> None:
    assert full.headings == [
        "PanoVLM report",
        "Baselines",
        "Accuracy by kind",
        "Accuracy by direction",
        "Seam and poles",
        "Seam-shifted panoramas",
        "Pole-shifted panoramas",
        "Rotation consistency",
        "View ablation",
        "Seeds",
        "Stage 1, vision: neighbouring views agree on their overlap",
        "mine",
        "View overlap",
        "Best answers",
        "Worst answers",
        "Not scored",
        "How it was scored",
        "Versions",
        "Settings",
        "All numbers",
    ]
    headings = errors.page(tmp_path).headings
    assert headings[:4] == [
        "PanoVLM on directions",
        "Baselines",
        "Mean error by kind",
        "Benchmark metrics",
    ]
    assert {"Smallest errors", "Largest errors", "Not scored"} <= {*headings}


def test_what_was_not_asked_is_left_out(tmp_path: Path, pictures: list[Path]) -> None:
    page = made("labels", pictures, ("A",) * 4).with_facts(seeds=[]).page(tmp_path)
    absent = {"Baselines", "Rotation consistency", "Judge", "Worst answers", "View overlap"}
    assert not absent & {*page.headings}
    assert "None" not in page.text.split("All numbers")[0]
    assert "blind" not in page.text.split("All numbers")[0].lower()


def test_the_page_needs_no_other_file_and_escapes(full: Page, tmp_path: Path) -> None:
    assert full.open == [] and full.count("html") == full.count("h1") == 1
    sources = [attrs["src"] or "" for _, attrs in full.tags if "src" in attrs]
    assert sources and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not [tag for tag, attrs in full.tags if tag in ("script", "link") or "href" in attrs]
    html = (tmp_path / "new" / "report.html").read_text()
    assert not re.search(r"https?://|@import|url\(", html)
    assert "<b>a wall" not in html and "<i>.jsonl" not in html
    assert "<b>a wall</b> & so on" in full.text
    style = html.split("<style>")[1].split("</style>")[0]
    assert full.classes <= set(re.findall(r"\.([a-z]+)", style))
    assert "prefers-color-scheme: dark" in style


def test_tiles_show_what_was_measured(full: Page) -> None:
    for said in (
        "Accuracy50.0 %95 % CI",
        "Coverage75.0 %2 unreadable (counted as wrong)",
        "Readable answers alone66.7 %6 of 8 answers",
        "Blind baseline0.0 %without the panorama, 100.0 % of answers readable",
        "Yaw-rotated66.7 %3 answers",
        "Always correct0.0 %under every rotation, 1 questions",
        "Seam-shifted50.0 %the same pictures as they are 100.0 %",
        "Pole-shifted0.0 %the same pictures as they are 50.0 %",
        "Total time1 h 7 min",
        "Peak memory2.0 GiB",
    ):
        assert said in full.text, said


def test_losses_and_scalars_of_the_log_are_drawn(full: Page) -> None:
    assert "Loss at the start 61.5 (within the expected 50–100)" in full.text
    assert "loss at the end 8.25 (below the expected 10–30)" in full.text
    assert "trained in 5 min 0 s" in full.text
    assert "69 at the last step: effective rank of the projector" in full.text
    assert "covariance" not in full.text and "empty" not in full.headings
    assert {"Loss of the stage vision", "projected_rank", "feature_std"} <= {*full.charts}


def test_all_numbers_stand_under_their_keys(full: Page) -> None:
    assert "by_kind.kind 0.mean0.5" in full.text
    assert "stages.vision.expected_first[50, 100]" in full.text


def test_every_chart_has_a_table_with_headers(full: Page) -> None:
    tables = full.count("caption")
    assert tables == [tag for tag, _ in full.tags].count("thead") >= 8
    assert all(full.charts)


def test_probes_are_compared_with_the_pictures_as_they_are(tmp_path: Path, records: Made) -> None:
    gain = {"mean": -0.1, "low": -0.2, "high": 0.01, "count": 30}
    seam = records.report["seam_shifted"] | {"gain": gain}
    page = records.with_facts(seam_shifted=seam).page(tmp_path)
    assert "Seam-shifted against original: -10.0 points [-20.0, +1.0] on 30" in page.text
    assert "tilted until the target is 15° from the nearest pole" in page.text


def test_listings_stand_among_the_metrics(tmp_path: Path, records: Made) -> None:
    share = {"mean": 0.75, "low": 0.5, "high": 1.0, "count": 8}
    listings = {"count": 3, "empty": 0.5, "f1": 0.625, "occupied": share, "lines": share}
    page = records.with_facts(extras={"listings": listings}).page(tmp_path)
    assert "listings: whole lines75.0 %50.0–100.0" in page.text
    assert "listings: F1 of labels0.625" in page.text


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        ((0.5, 0.4, 0.6), ", 50.0 points [+40.0, +60.0] better than the blind baseline;"),
        ((0.1, -0.01, 0.2), ", not clearly different from the blind baseline (+10.0 points ["),
        ((-0.1, -0.2, -0.02), ", 10.0 points [-20.0, -2.0] worse than the blind baseline;"),
        ((-0.1, None, None), "baseline (-10.0 points, too few panoramas for an interval);"),
        (None, ", not comparable with the blind baseline, as no question has a score in both;"),
    ],
)
def test_the_verdict_claims_no_more_than_was_measured(
    records: Made, gain: tuple[float | None, ...] | None, expected: str
) -> None:
    ends = dict(zip(("mean", "low", "high"), gain, strict=True)) if gain else None
    said = verdict(records.report | {"better_than": {"blind": ends}})
    assert said.startswith("Accuracy 50.0 % [") and expected in said


def test_an_error_is_said_in_degrees_and_less_is_better(tmp_path: Path, errors: Made) -> None:
    said = verdict(errors.report)
    assert said.startswith("Mean error 47.5° [")  # of 0, 0, 10 and the largest, 180
    assert "] (yaw error in degrees: less is better) on 8 questions, not clearly diff" in said
    assert said.endswith("; 2 unreadable (counted as wrong).")
    page = errors.page(tmp_path)
    assert "less is better" in page.text and "a negative change is a gain" in page.text
    assert page.charts[:2] == ["Mean error by input", "Mean error by kind of question"]
    assert "An unreadable answer counts as the largest error, 180.0°." in page.text
    assert "Readable answers alone3.3°6 of 8 answers" in page.text


def test_a_worse_error_is_called_worse(pictures: list[Path]) -> None:
    worse = made("directions", pictures, ("back",) * 3 + ("front",), blind=RIGHT)
    assert "worse than the blind baseline" in verdict(worse.report)
    same = made("directions", pictures, RIGHT, blind=RIGHT)
    assert "not clearly different from the blind baseline" in verdict(same.report)


def test_no_figure_stands_where_nothing_could_be_scored(
    tmp_path: Path, pictures: list[Path]
) -> None:
    nothing = made("panovqa", pictures, ("dunno",) * 4, blind=("",) * 4).with_facts(extras={})
    page = nothing.page(tmp_path)
    assert "Nothing could be scored: of 8 answers, 8 not judged." in page.text
    shown = page.text.split("All numbers")[0]
    assert "%" not in shown.replace("95 % interval", "").replace("Coverage0.0 %", "")
    assert page.charts == []
    assert "Not scored" in page.headings and "Best answers" not in page.headings
    assert shown.count("none: no judge was asked, or it failed") == 4
    assert "None" not in shown


def test_unreadable_answers_are_wrong_and_shown(tmp_path: Path, pictures: list[Path]) -> None:
    labels = made("labels", pictures, ("A", "A", "dunno", "hm"), blind=("B",) * 4)
    assert verdict(labels.report).startswith("Score 50.0 % [")
    assert labels.report["better_than"]["blind"]["count"] == 8
    page = labels.with_facts(extras={}).page(tmp_path)
    assert page.text.split("All numbers")[0].count("none: the answer could not be read") == 4


def test_source_and_judge_are_told(tmp_path: Path, pictures: list[Path]) -> None:
    judge = {"model": "some-judge", "date": "2026-11-24"}
    choices = made("360bench", pictures, ("A",) * 4, blind=("B",) * 4)
    page = choices.with_facts(judge=judge, extras={}).page(tmp_path)
    assert BENCHMARKS["360bench"].source in page.text
    assert BENCHMARKS["360bench"].differs in page.text
    assert "some-judge" in page.text and "Judge" in page.headings
    assert "items skipped, picture missing3" in page.text


def test_best_and_worst_are_told_by_the_side_on_which_less_is(errors: Made) -> None:
    best, worst, unscored = choose_examples(errors.report).values()
    assert [each.picture.stem for each in best] == ["0", "1", "4", "5"]
    assert [each.picture.stem for each in worst] == ["2", "6"]
    assert [each.picture.stem for each in unscored] == ["3", "7"]
    assert (worst[0].answered_deg, worst[0].score) == ((-80.0, 10.0), "error 10.0°")
    assert worst[0].is_right is None


def test_answers_that_stay_right_when_rotated_come_first(records: Made) -> None:
    best, worst, _ = choose_examples(records.report).values()
    assert [each.is_right for each in best] == [True] * len(best)
    assert best[-1].right_rotations == (3, 4)
    assert {each.is_right for each in worst} == {False}


def test_groups_have_intervals_and_strata_come_by_distance(errors: Made) -> None:
    report = errors.report
    assert report["by_kind"]["kind 0"]["interval"]["count"] == 4
    assert [*report["by_distance_from_seam"]] == ["0-45°", "90-135°", "135-180°"]
    assert [*report["yaw_rotated"]["by_rotation"]] == ["0°", "90°", "180°", "270°"]
    assert report["yaw_rotated"]["by_rotation"]["0°"]["mean"] == 0.0


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.5, "0.5 s"), (75, "1 min 15 s"), (3599.7, "1 h 0 min")]
)
def test_times_are_said_in_their_two_largest_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_missing_picture_and_a_page_that_cannot_be_written_are_told(
    tmp_path: Path, records: Made, pictures: list[Path]
) -> None:
    (tmp_path / "new").write_text("a file")
    with pytest.raises(PanoVLMError, match="cannot write the page"):
        records.page(tmp_path)
    (tmp_path / "new").unlink()
    for picture in pictures:
        picture.unlink()
    with pytest.raises(PanoVLMError, match="no such file"):
        records.page(tmp_path)


def test_other_files_are_not_replaced(tmp_path: Path, records: Made) -> None:
    out: Any = tmp_path / "new" / "report.html"
    out.parent.mkdir()
    out.write_text("mine")
    with pytest.raises(PanoVLMError):
        records.page(tmp_path)
    assert out.read_text() == "mine"
