"""Two models are compared on what both were asked, and a difference is only clear when it is."""

import json
from pathlib import Path
from typing import Any

import pytest

from panovlm.errors import PanoVLMError
from panovlm.evaluation.compare import compare, write_comparison
from panovlm.evaluation.pages.page import templates, text_lines
from panovlm.metrics.scores import Missing

RECORDS: dict[str, Any] = {
    "benchmark": "records",
    "metric": "share of exact matches",
    "unit": "share",
    "less_is_better": False,
    "judge": None,
}


def comparison_verdict(comparison: dict[str, Any]) -> str:
    module: Any = templates().get_template("verdicts.html.jinja").module
    return str(module.comparison_verdict(comparison)).strip()


def comparison_lines(comparison: dict[str, Any]) -> list[str]:
    return text_lines("comparison.txt.jinja", comparison=comparison)


ASKED = {"model": "openai:http://here/v1#m", "show": "sheet"}


def write(path: Path, right: list[bool], start: int = 0, folder: str = "data") -> Path:
    rows = [
        {
            "image": f"{folder}/{(start + i) // 2}.png",
            "question": f"Where is {start + i}?",
            "references": ["left"],
            "answer": "left" if is_right else "back",
            "score": float(is_right),
            "missing": None,
            "kind": "direction" if i % 2 else "count",
        }
        for i, is_right in enumerate(right)
    ]
    report = RECORDS | {"predictions": rows, "settings": ASKED | {"images": folder}}
    path.write_text(json.dumps(report))
    return path


def test_a_model_that_gains_is_better_and_one_that_loses_worse(tmp_path: Path) -> None:
    half, whole = [True, True, False, False] * 10, [True] * 40
    first, second = write(tmp_path / "a.json", half), write(tmp_path / "b.json", whole)
    facts = compare(first, second)["overall"]
    assert (facts["difference"], facts["gained"], facts["lost"]) == (0.5, 20, 0)
    assert 0 < facts["low"] < 0.5 < facts["high"]
    assert "second model is better" in comparison_verdict(compare(first, second))
    assert "first model is better" in comparison_verdict(compare(second, first))


def test_a_model_does_not_differ_from_itself(tmp_path: Path) -> None:
    report = write(tmp_path / "a.json", [True, False] * 20)
    facts = compare(report, report)["overall"]
    assert facts["low"] == facts["difference"] == facts["high"] == 0
    assert "No clear difference" in comparison_verdict(compare(report, report))


def test_only_shared_questions_count_and_the_others_are_told(tmp_path: Path) -> None:
    first = write(tmp_path / "a.json", [True] * 10)
    second = write(tmp_path / "b.json", [False] * 10, start=4, folder="elsewhere/data")
    comparison = compare(first, second)
    assert (comparison["shared"], comparison["only_first"], comparison["only_second"]) == (6, 4, 4)
    assert set(comparison["by_kind"]) == {"count", "direction"}
    assert comparison["overall"]["panoramas"] == 3


def test_intervals_are_drawn_by_whole_panoramas(tmp_path: Path) -> None:
    """Two questions of a panorama that go alike tell no more than one."""
    alike = [True, True, False, False] * 20
    apart = [True, False, True, False] * 20
    none = write(tmp_path / "none.json", [False] * 80)
    wide = compare(none, write(tmp_path / "a.json", alike))["overall"]
    narrow = compare(none, write(tmp_path / "b.json", apart))["overall"]
    assert wide["difference"] == narrow["difference"] == 0.5
    assert wide["high"] - wide["low"] > 0.1
    assert narrow["high"] == narrow["low"]


def test_reports_without_a_shared_question_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "a.json", [True] * 4)
    second = write(tmp_path / "b.json", [True] * 4, start=100)
    with pytest.raises(PanoVLMError, match=r"no question that both .*same --data"):
        compare(first, second)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read the report"),
        ("[]", "no predictions"),
        ('{"predictions": [{"image": "a.png"}]}', "no predictions"),
        ('{"benchmark": "quic-360"}', "no predictions"),
    ],
)
def test_files_that_are_no_reports_are_told(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "b.json"
    file.write_text(text)
    with pytest.raises(PanoVLMError, match=message):
        compare(write(tmp_path / "a.json", [True]), file)
    with pytest.raises(PanoVLMError, match="cannot read the report"):
        compare(tmp_path / "none.json", file)


def test_the_page_names_every_kind_and_escapes(tmp_path: Path) -> None:
    first = write(tmp_path / "<b>.json", [True, False] * 4)
    comparison = compare(first, write(tmp_path / "b.json", [True] * 8))
    write_comparison(comparison, tmp_path / "new" / "page.html")
    page = (tmp_path / "new" / "page.html").read_text()
    assert "&lt;b&gt;.json" in page and "<b>.json" not in page
    assert page.count('scope="row"') == 3
    assert "href" not in page and "src=" not in page


def write_benchmark(
    path: Path,
    scores: list[float | None],
    start: int = 0,
    missing: str = Missing.UNREADABLE,
    **facts: Any,
) -> Path:
    rows = [
        {
            "image": f"pictures/{(start + i) // 2}.png",
            "question": f"Where is {start + i}?",
            "references": ["yaw 10.0"],
            "answer": "left",
            "score": score,
            "missing": missing if score is None else None,
            "kind": "near" if i % 2 else "far",
        }
        for i, score in enumerate(scores)
    ]
    report = {
        "benchmark": "directions",
        "metric": "yaw error in degrees: less is better",
        "unit": "degrees",
        "less_is_better": True,
        "judge": None,
        "settings": ASKED | {"data": "a.jsonl", "images": "pictures"},
        "predictions": rows,
    }
    path.write_text(json.dumps(report | facts))
    return path


SHARES = {"benchmark": "labels", "metric": "share", "unit": "share", "less_is_better": False}


def test_a_model_with_less_error_is_better(tmp_path: Path) -> None:
    first = write_benchmark(tmp_path / "a.json", [90.0] * 20)
    second = write_benchmark(tmp_path / "b.json", [30.0, 40.0] * 10)
    comparison = compare(first, second)
    facts = comparison["overall"]
    assert (facts["difference"], facts["gained"], facts["lost"]) == (-55.0, 20, 0)
    verdict = comparison_verdict(comparison)
    assert verdict.startswith("The second model is better: -55.0° [")
    assert "of directions (yaw error in degrees: less is better)" in verdict
    assert "first model is better" in comparison_verdict(compare(second, first))
    write_comparison(comparison, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "less than 0 is better" in page and 'class="mark gain"' in page
    assert "90.0 %" not in page and "100.0 % → 100.0 %" in page
    said = "\n".join(comparison_lines(comparison))
    assert (
        "90.0° → 35.0°, -55.0°" in said and "second: openai:http://here/v1#m (--show sheet)" in said
    )
    assert "openai:http://here/v1#m (--show sheet)" in page


def test_what_could_not_be_read_is_wrong_and_how_much_is_told(tmp_path: Path) -> None:
    first = write_benchmark(tmp_path / "a.json", [1.0, None, 0.0, 1.0, None], **SHARES)
    second = write_benchmark(tmp_path / "b.json", [1.0, 1.0, None, 0.0, None], **SHARES)
    comparison = compare(first, second)
    facts = comparison["overall"]
    assert (facts["count"], facts["first"], facts["second"]) == (5, 0.4, 0.4)
    assert (facts["gained"], facts["lost"]) == (1, 1)
    assert (facts["coverage_first"], facts["coverage_second"]) == (0.6, 0.6)
    write_comparison(comparison, tmp_path / "page.html")
    assert "60.0 % → 60.0 %" in (tmp_path / "page.html").read_text()


def test_refusing_the_hard_ones_is_no_gain(tmp_path: Path) -> None:
    first = write_benchmark(tmp_path / "a.json", [1.0, 0.0] * 10, **SHARES)
    second = write_benchmark(tmp_path / "b.json", [1.0, None] * 10, **SHARES)
    assert compare(first, second)["overall"]["difference"] == 0.0
    errors = write_benchmark(tmp_path / "c.json", [10.0, 90.0] * 10)
    refused = write_benchmark(tmp_path / "d.json", [10.0, None] * 10)
    assert compare(errors, refused)["overall"]["difference"] == 45.0


def test_few_panoramas_claim_nothing(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.json", [True] * 8), write(tmp_path / "b.json", [False] * 8)
    comparison = compare(first, second)
    assert (comparison["overall"]["difference"], comparison["overall"]["low"]) == (-1.0, None)
    assert comparison_verdict(comparison).endswith("too few panoramas for an interval.")
    write_comparison(comparison, tmp_path / "page.html")
    assert "not clear" in "".join(comparison_lines(comparison))


def test_nothing_scored_for_both_gives_no_figure(tmp_path: Path) -> None:
    first = write_benchmark(tmp_path / "a.json", [None] * 2, missing=Missing.NOT_JUDGED)
    second = write_benchmark(tmp_path / "b.json", [1.0] * 2)
    comparison = compare(first, second)
    assert "Nothing can be compared" in comparison_verdict(comparison)
    write_comparison(comparison, tmp_path / "page.html")
    assert 'role="img"' not in (tmp_path / "page.html").read_text()
    assert "no question could be scored for both" in "".join(comparison_lines(comparison))


def test_reports_whose_scores_mean_other_things_are_refused(tmp_path: Path) -> None:
    ours = write_benchmark(tmp_path / "a.json", [1.0] * 4)
    labels = write_benchmark(tmp_path / "b.json", [1.0] * 4, **SHARES)
    with pytest.raises(PanoVLMError, match=r"reports of directions and of labels.*same --bench"):
        compare(ours, labels)
    with pytest.raises(PanoVLMError, match="reports of records and of directions"):
        compare(write(tmp_path / "c.json", [True] * 4), ours)
    judge = {"model": "m", "prompt_sha256": "0"}
    judged = write_benchmark(tmp_path / "d.json", [1.0] * 4, judge=judge)
    with pytest.raises(PanoVLMError, match="two judges"):
        compare(ours, judged)
    captions = {"unit": "CIDEr", "less_is_better": False}
    first = write_benchmark(tmp_path / "e.json", [1.0] * 4, **captions)
    second = write_benchmark(tmp_path / "f.json", [1.0] * 4, start=1, **captions)
    with pytest.raises(PanoVLMError, match="weighs words by all items"):
        compare(first, second)
    old = write_benchmark(tmp_path / "g.json", [1.0] * 4, unit="feet")
    with pytest.raises(PanoVLMError, match="expected a report that this version"):
        compare(ours, old)
