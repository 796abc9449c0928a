"""Maps of a room on a grid of 10 x 10 cells, as OSR-Bench asks for and compares them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from panovlm.errors import PanoVLMError

GRID = 10
NEAR = 2.0
"""Cells between an object and its match at most."""
FAR = 15.0
"""Cells that count as the distance where no object was matched, as published."""
Cell = tuple[int, int]
"""Column and row."""
CognitiveMap = dict[str, list[Cell]]
"""The cells of the objects of each category."""


@dataclass(frozen=True)
class MapScore:
    """How well one map matches another.

    Attributes:
        f1: Of objects matched within `NEAR` cells, in [0, 1].
        precision: In [0, 1].
        recall: In [0, 1].
        mean_distance: Cells between matched objects, near or not; `FAR` if nothing was matched.
        chair_i: Share of the named categories that are not there.
        chair_s: 1 if any named category is not there, else 0.
    """

    f1: float
    precision: float
    recall: float
    mean_distance: float
    chair_i: float
    chair_s: float


def parse_map(answer: str) -> CognitiveMap | None:
    """Read the last JSON object of an answer, `{"chair": [[x, y], ...], ...}`.

    Cells outside the grid are dropped.

    Returns:
        None if there is no such object.
    """
    end = answer.rfind("}")
    for start in range(end - 1, -1, -1):
        if (
            answer[start] != "{"
            or answer.count("{", start, end) != answer.count("}", start, end) + 1
        ):
            continue
        try:
            return _inside_grid(json.loads(answer[start : end + 1]))
        except (ValueError, TypeError, AttributeError):
            return None
    return None


def map_of_grid(rows: Any) -> CognitiveMap:
    """Turn rows of cells of names, as the benchmark stores them, into a map.

    Raises:
        PanoVLMError: If it is no grid.
    """
    found: CognitiveMap = {}
    try:
        for y, row in enumerate(rows):
            for x, names in enumerate(row):
                for name in names:
                    found.setdefault(name, []).append((x, y))
    except TypeError as error:
        raise PanoVLMError(f"found {str(rows)[:80]}, expected rows of cells of names") from error
    return found


def score_map(answered: CognitiveMap, reference: CognitiveMap) -> MapScore:
    """Compare two maps under the rotation of the first by a multiple of 90° that matches best.

    Source:
        OSR-Bench, UUUserna/OSR-Bench-code, evaluation/metric.py: objects of one category are
        matched one to one so that their distances add up to the least. That code leaves
        categories without a match out of its total if they come last; here all count.
    """
    rotated = answered
    scores = []
    for _ in range(4):
        scores.append(_score_as_is(rotated, reference))
        rotated = {name: [(GRID - 1 - y, x) for x, y in cells] for name, cells in rotated.items()}
    return max(scores, key=lambda score: score.f1)


def _score_as_is(answered: CognitiveMap, reference: CognitiveMap) -> MapScore:
    named = {name: cells for name, cells in answered.items() if cells}
    distances = [
        distance
        for name in named.keys() & reference.keys()
        for distance in _matched_distances(named[name], reference[name])
    ]
    hits = sum(distance <= NEAR for distance in distances)
    precision = hits / max(1, sum(map(len, named.values())))
    recall = hits / max(1, sum(map(len, reference.values())))
    invented = named.keys() - reference.keys()
    return MapScore(
        f1=2 * precision * recall / (precision + recall) if hits else 0.0,
        precision=precision,
        recall=recall,
        mean_distance=float(np.mean(distances)) if distances else FAR,
        chair_i=len(invented) / max(1, len(named)),
        chair_s=float(bool(invented)),
    )


def _matched_distances(answered: Sequence[Cell], reference: Sequence[Cell]) -> list[float]:
    """Return the distances of the one-to-one matching whose sum is least."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise PanoVLMError(
            "maps are matched with scipy, which is not installed; install panovlm[benchmarks]"
        ) from error
    gaps = np.asarray(reference, float)[:, None] - np.asarray(answered, float)[None]
    distances = np.linalg.norm(gaps, axis=-1)
    return [float(distance) for distance in distances[linear_sum_assignment(distances)]]


def _inside_grid(listed: Mapping[str, Any]) -> CognitiveMap:
    return {
        name: [(x, y) for x, y in cells if 0 <= x < GRID and 0 <= y < GRID]
        for name, cells in listed.items()
    }
