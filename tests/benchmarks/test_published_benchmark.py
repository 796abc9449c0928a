"""Published figures are computed again from what authors release, and differences are counted."""

import json
import os
from pathlib import Path

import pytest

import published

CLONES = Path(os.environ.get("PANOVLM_CLONES", "/nowhere"))


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of PanoVQA in small: three grades in two categories."""
    folder = tmp_path / "PanoVQA" / "eval_benchmark" / "outputs" / "gpt_score"
    folder.mkdir(parents=True)
    grades = [("N1", 5), ("N1", 2), ("O1", 3)]
    samples = [
        {"id": f"{kind}_{number}", "category": kind, "question": "?", "score": grade}
        for number, (kind, grade) in enumerate(grades)
    ]
    summary = [{"category": "N1"}, {"category": "O1"}]
    report = {"samples": samples, "category_summary": summary}
    (folder / "a.json").write_text("62.5\t50.0\t56.25\n" + json.dumps(report))
    return tmp_path


def test_figures_that_equal_the_published_ones_are_counted(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = clone / "page.md"
    page.write_text("<!-- published: written by the script -->\n<!-- published: end -->\n")
    assert published.main([str(clone), "--docs", str(page)]) == 0
    assert "3 grades, 12 categories and their mean | 3 | 3 | 0 | 0 |" in page.read_text()
    file = next(clone.glob("PanoVQA/**/a.json"))
    file.write_text(file.read_text().replace("62.5", "62.6"))
    assert published.main([str(clone)]) == 1
    assert "| 3 | 2 | 0 | 1 |" in capsys.readouterr().out


def test_a_folder_without_clones_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert published.main([str(tmp_path)]) == 2
    assert "found none of PanoVQA" in capsys.readouterr().err


@pytest.mark.parametrize("name", published.CHECKS)
def test_no_figure_differs_but_where_it_is_said(name: str) -> None:
    if not (CLONES / name).is_dir():
        pytest.skip("PANOVLM_CLONES names no folder with a clone of it")
    for compared in published.CHECKS[name](CLONES / name):
        count, equal, _, unexplained = compared.counts
        assert count and equal and not unexplained, compared.name
