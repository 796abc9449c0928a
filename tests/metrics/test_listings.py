"""Listings are scored by direction and label, and nothing missing counts as right."""

import pytest

from panovlm.metrics.listings import is_listing, label_hits, listing_scores, parse_listing

RIGHT = "front: red cube 3 m\nright: nothing\nback: car 2.5 m, person"


def means(answer: str) -> dict[str, float]:
    scores = listing_scores([(RIGHT, answer)], ["a"])
    return {name: v["mean"] if isinstance(v, dict) else v for name, v in scores.items()}


def test_lines_are_read_whatever_stands_between_them() -> None:
    found = parse_listing("Here:\nFront: Red cube 3 m\n\nnorth: car\nright: nothing.")
    assert found == {"front": frozenset({"red cube 3 m"}), "right": frozenset()}
    assert parse_listing("front: car\nfront: bus") == {"front": frozenset({"car"})}


@pytest.mark.parametrize(
    ("text", "expected"),
    [(RIGHT, True), ("front", False), ("front: car", False), ("front: car\nand more", False)],
)
def test_a_listing_is_several_directions_and_nothing_else(text: str, expected: bool) -> None:
    assert is_listing(text) == expected


def test_the_right_listing_has_every_score_in_any_order_of_lines_and_labels() -> None:
    answer = "back: person, car 2.5 m\nfront: red cube 3 m\nright: nothing"
    assert means(answer) == {
        "count": 1,
        "empty": pytest.approx(1 / 3),
        **dict.fromkeys(("f1", "occupied", "lines", "recall", "precision"), 1.0),
    }


def test_a_wrong_distance_costs_the_line_and_not_the_label() -> None:
    found = means(RIGHT.replace("3 m", "7 m"))
    assert (found["lines"], found["recall"], found["f1"]) == (pytest.approx(2 / 3), 1.0, 1.0)


def test_a_label_in_another_direction_is_wrong_on_both_sides() -> None:
    found = means("front: nothing\nright: red cube 3 m\nback: car, person")
    assert found["recall"] == found["precision"] == pytest.approx(2 / 3)
    assert found["occupied"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("answer", [RIGHT, "left", "front: red cube\nback: car, bus, dog"])
def test_the_mean_of_hits_is_the_f1(answer: str) -> None:
    hits = label_hits(RIGHT, answer)
    assert sum(hits) / len(hits) == pytest.approx(means(answer)["f1"])


def test_a_direction_that_is_not_listed_counts_as_wrong_even_if_nothing_is_there() -> None:
    found = means("front: red cube 3 m")
    assert (found["occupied"], found["lines"]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_an_answer_that_is_no_listing_has_no_precision() -> None:
    assert "precision" not in means("left")
    assert means("left")["f1"] == means("left")["occupied"] == 0.0


def test_intervals_are_over_panoramas() -> None:
    pairs = [(RIGHT, RIGHT), (RIGHT, "left")] * 3
    apart = listing_scores(pairs, [*"abcdef"])["occupied"]
    together = listing_scores(pairs, [*"aabbcc"])["occupied"]
    assert 0.0 <= apart["low"] < apart["mean"] < apart["high"] <= 1.0
    assert together["low"] is None  # three panoramas tell too little
    assert apart["count"] == 18
