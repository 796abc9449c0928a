"""Labels in sentences."""

import pytest

from panovlm.data.questions.nouns import plural, with_article


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("car", "cars"),
        ("bus", "buses"),
        ("wine glass", "wine glasses"),
        ("bench", "benches"),
        ("cherry", "cherries"),
        ("key", "keys"),
        ("person", "people"),
        ("computer mouse", "computer mice"),
        ("skis", "skis"),
    ],
)
def test_the_last_word_is_put_in_the_plural(label: str, expected: str) -> None:
    assert plural(label) == expected


def test_the_article_fits_the_first_letter() -> None:
    assert with_article("umbrella") == "an umbrella"
    assert with_article("red car") == "a red car"
