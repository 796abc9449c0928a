"""Two models are compared on what both were asked, and a difference is only clear when it is."""

import json
from pathlib import Path
from typing import Any

import pytest

from panovlm.evaluation.compare import compare, write_comparison
from panovlm.evaluation.compare_page import comparison_verdict
from panovlm.model.errors import PanoVLMError


def write(path: Path, right: list[bool], start: int = 0, folder: str = "data") -> Path:
    rows = [
        {
            "image": f"{folder}/{(start + i) // 2}.png",
            "question": f"Where is {start + i}?",
            "expected": "left",
            "answer": "left" if is_right else "back",
            "right": is_right,
            "kind": "direction" if i % 2 else "count",
        }
        for i, is_right in enumerate(right)
    ]
    report: dict[str, Any] = {"predictions": rows, "settings": {"data": f"{folder}/test.jsonl"}}
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
    assert "http" not in page
