"""What a kill leaves of a journal is used again, and nothing else is."""

from pathlib import Path

import pytest

from panovlm.evaluation.journal import Journal

FACTS = {"model": "a", "limit": None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    journal = Journal(tmp_path / "new" / "report.jsonl", FACTS)
    journal.keep("questions", 0, ["left", "zwölf\nZeilen"])
    journal.keep("questions", 1, ["right"])
    return journal.path


def test_kept_answers_are_found_again(path: Path) -> None:
    journal = Journal(path, FACTS)
    assert journal.find("questions", 0) == (["left", "zwölf\nZeilen"], {})
    assert journal.find("questions, blind", 0) is None
    assert journal.num_kept == 3


@pytest.mark.parametrize("torn", range(1, 40))
def test_a_line_torn_anywhere_is_left_out_and_written_over(path: Path, torn: int) -> None:
    path.write_bytes(path.read_bytes()[:-torn])
    journal = Journal(path, FACTS)
    assert journal.find("questions", 0) == (["left", "zwölf\nZeilen"], {})
    journal.keep("questions", 1, ["right"])
    assert Journal(path, FACTS).find("questions", 1) == (["right"], {})


def test_answers_of_another_evaluation_are_not_used(path: Path) -> None:
    assert Journal(path, {**FACTS, "model": "b"}).num_kept == 0


def test_an_ended_evaluation_leaves_no_journal(path: Path) -> None:
    Journal(path, FACTS).end()
    assert not path.exists()
