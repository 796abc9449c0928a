"""Listings: what stands in each direction, a line each, as in "front: red cube 3 m, door"."""

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from panovlm.geometry.sphere import DIRECTIONS
from panovlm.metrics.exact_match import normalised
from panovlm.metrics.intervals import share_interval

NOTHING = "nothing"
_LINE = re.compile(rf"({'|'.join(sorted(DIRECTIONS, key=len, reverse=True))}): (.+)")
_DISTANCE = re.compile(r" \d+(?:\.\d+)? m$")

Listing = dict[str, frozenset[str]]
"""By direction, what stands there, with its distance where one is given."""


def parse_listing(text: str) -> Listing:
    """Read the lines of a listing; what is no line of one is left out, and so is a second line.

    Returns:
        By direction, what stands there; a direction that is not listed is missing.
    """
    found: Listing = {}
    for line in normalised(text).splitlines():
        if match := _LINE.fullmatch(line.strip()):
            things = (thing.strip() for thing in match[2].split(","))
            found.setdefault(match[1], frozenset(thing for thing in things if thing != NOTHING))
    return found


def is_listing(text: str) -> bool:
    """Return whether a text is a listing of several directions and nothing else."""
    lines = text.strip().splitlines()
    return len(lines) > 1 and len(parse_listing(text)) == len(lines)


def listing_scores(
    pairs: Sequence[tuple[str, str]], groups: Sequence[Hashable], seed: int = 0
) -> dict[str, Any]:
    """Score listings direction by direction.

    Args:
        pairs: The correct listing and the answer, at least one.
        groups: The panorama of each; intervals resample whole panoramas.
        seed: Of the intervals.

    Returns:
        `count` of listings; `empty`, the share of directions that hold nothing, to compare with;
        `f1` of labels in their directions, whatever their distances. As `Interval`s in plain data:
        `occupied` (directions rightly said to hold something or nothing), `lines` (directions with
        every label and distance correct), `recall` of the correct labels and `precision` of those
        given; the last two are missing where there is no label.
    """
    values: dict[str, list[tuple[bool, Hashable]]] = {}
    for (expected, answer), group in zip(pairs, groups, strict=True):
        for name, is_right in _compared(parse_listing(expected), parse_listing(answer)):
            values.setdefault(name, []).append((is_right, group))
    shares = {
        name: share_interval([is_right for is_right, _ in each], [group for _, group in each], seed)
        for name, each in values.items()
    }
    recall, precision = (shares[n].mean if n in shares else 0.0 for n in ("recall", "precision"))
    empty = [is_empty for is_empty, _ in values["empty"]]
    return {
        "count": len(pairs),
        "empty": sum(empty) / len(empty),
        "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        **{name: asdict(share) for name, share in shares.items() if name != "empty"},
    }


def label_hits(expected: str, answer: str) -> list[bool]:
    """Return, for each label expected and each given in a direction, whether the other has it.

    The mean, over one listing or many, is the F1 of labels in their directions.
    """
    compared = _compared(parse_listing(expected), parse_listing(answer))
    return [is_right for name, is_right in compared if name in ("recall", "precision")]


def _compared(expected: Listing, answer: Listing) -> Iterator[tuple[str, bool]]:
    """Yield, for each direction and each label, what it is counted for and whether it is right."""
    for direction, things in expected.items():
        given = answer.get(direction)
        yield "empty", not things
        yield "occupied", given is not None and bool(given) == bool(things)
        yield "lines", given == things
        labels, given_labels = _labels(things), _labels(given or ())
        yield from (("recall", label in given_labels) for label in labels)
        yield from (("precision", label in labels) for label in given_labels)


def _labels(things: Iterable[str]) -> set[str]:
    return {_DISTANCE.sub("", thing) for thing in things}
