"""Exact match takes no notice of case, outer space, a final stop, or how letters are composed."""

import unicodedata

import pytest

from panovlm.metrics.exact_match import normalised


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Left.", " left "),
        ("Tür", unicodedata.normalize("NFD", "tür.")),
        ("빨간 버스", unicodedata.normalize("NFD", "빨간 버스.")),
        ("红色的。", "红色的"),
        ("赤い．", "赤い"),
        ("लाल।", "लाल"),
        ("İ", unicodedata.normalize("NFD", "İ")),
    ],
)
def test_one_answer_in_two_spellings_is_one(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"), [("left", "right"), ("e", "é"), ("左", "右"), ("3.5", "35")]
)
def test_other_answers_stay_others(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)
