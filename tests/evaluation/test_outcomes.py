"""A report's main figures decide whether a command fails, and other tools can read them."""

import json
from pathlib import Path
from typing import Any

import pytest

from panovlm.errors import PanoVLMError
from panovlm.evaluation.asking import EvaluationOptions
from panovlm.evaluation.outcomes import (
    Requirement,
    lm_eval_results,
    requirements_of,
    shortfalls,
    write_lm_eval_results,
)

BESIDE = {"settings": {"data": "test.jsonl", "model": "m"}, "versions": {"panovlm": "1.2"}}
RECORDS: dict[str, Any] = BESIDE | {
    "benchmark": "records",
    "less_is_better": False,
    "score": {
        "mean": 0.8,
        "interval": {"low": 0.702, "high": 0.898},
        "coverage": 0.95,
        "count": 40,
    },
    "by_kind": {"direction": {"mean": 0.6, "interval": None}},
    "better_than": {"blind": {"mean": 0.1, "low": None, "high": None}},
    "yaw_rotated": {"score": {"mean": 0.7, "interval": None}},
    "pole_shifted": {"score": {"mean": 0.2, "interval": None}},
}
ERRORS: dict[str, Any] = BESIDE | {
    "benchmark": "refer360",
    "score": {"mean": 30.0, "coverage": 0.5, "count": 8, "interval": None},
    "less_is_better": True,
    "by_kind": {"shop": {"mean": None, "interval": None}},
    "better_than": {"blind": {"mean": -12.0, "low": -20.0, "high": -4.0}},
}


def failing(report: dict[str, Any], *required: str) -> list[str]:
    return [*shortfalls(report, [Requirement.of(each) for each in required])]


def test_a_figure_below_its_limit_fails() -> None:
    assert failing(RECORDS, "accuracy=0.8", "coverage=0.9", "yaw_rotated=0.7", "gain=0.1") == []
    assert failing(RECORDS, "pole_shifted=0.3") == ["pole_shifted is 0.2, expected 0.3 or more"]
    (words,) = failing(RECORDS, "accuracy=0.9", "kind:direction=0.5")
    assert words == "accuracy is 0.8, expected 0.9 or more"


def test_an_error_above_its_limit_fails_and_so_does_what_has_no_value() -> None:
    assert failing(ERRORS, "score=30", "gain=12") == []
    assert failing(ERRORS, "score=29.5") == ["score is 30, expected 29.5 or less"]
    assert failing(ERRORS, "kind:shop=90") == ["kind:shop has no value, expected 90"]


def test_mistakes_are_named() -> None:
    with pytest.raises(PanoVLMError, match=r"expected a figure and a number, as in accuracy=0\.9"):
        Requirement.of("accuracy>0.9")
    with pytest.raises(PanoVLMError, match="found --fail-under score, expected one of accuracy"):
        failing(RECORDS, "score=1")


def test_names_that_no_report_will_have_are_refused_before_anything_is_asked() -> None:
    options = EvaluationOptions("none", num_pole_shifted=3)
    known = ["accuracy=.9", "coverage=1", "pole_shifted=0.5", "kind:left, or right?=0.5"]
    assert [each.limit for each in requirements_of(known, "records", options)] == [0.9, 1, 0.5, 0.5]
    for wrong in ("accuracies=0.9", "gain=0.1", "yaw_rotated=0.5", "score=0.9"):
        expected = "one of accuracy, coverage, pole_shifted, kind:NAME"
        with pytest.raises(PanoVLMError, match=f"--fail-under {wrong[:-4]}, expected {expected}"):
            requirements_of([wrong], "records", options)


def test_results_are_those_of_the_evaluation_harness(tmp_path: Path) -> None:
    found = lm_eval_results(RECORDS)
    values = found["results"]["panovlm_records"]
    assert (values["accuracy,none"], values["accuracy_stderr,none"]) == (0.8, pytest.approx(0.05))
    assert (values["gain,none"], values["gain_stderr,none"]) == (0.1, "N/A")
    assert values["kind_direction,none"] == 0.6
    assert found["n-samples"]["panovlm_records"]["effective"] == 40
    out = tmp_path / "new" / "results.json"
    write_lm_eval_results(ERRORS, out)
    write_lm_eval_results(ERRORS, out)  # its own file may be replaced
    held = json.loads(out.read_text())
    assert held["higher_is_better"]["panovlm_refer360"]["score"] is False
    assert "kind_shop,none" not in held["results"]["panovlm_refer360"]
    out.write_text("mine")
    with pytest.raises(PanoVLMError):
        write_lm_eval_results(ERRORS, out)
