"""Directions of one's own panoramas: where a thing is, and how far off an answer looks.

    {"image": "lobby.jpg", "name": "the lifts", "yaw_deg": -166.1, "pitch_deg": 10.9}

Read is a list of such objects in JSON, or one a line in a `.jsonl`; `image` is relative to the
folder of pictures. In place of `name`, `question` is asked as it stands.
`pitch_deg` may be left out, and then great-circle errors are not computed; `kind` groups scores.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.files import picture_at, read_objects, reading, text_of
from panovlm.evaluation.benchmarks.items import (
    Benchmark,
    Figures,
    Item,
    each,
    summary_over_panoramas,
)
from panovlm.geometry.sphere import DIRECTIONS, direction_index, wrap_deg
from panovlm.metrics.angles import great_circle_error_deg, sector, yaw_error_deg
from panovlm.metrics.directions import parse_direction, parse_pitch, parse_submission
from panovlm.metrics.scores import NO_REFERENCE, Score, counted, score_read, values_of
from panovlm.metrics.units import DEGREES

KEYS = ("image", "yaw_deg")
MAX_DEG = {"yaw_deg": 360.0, "pitch_deg": 90.0}
GUESS_DEG = 90.0
"""Mean error of directions sampled evenly, on the circle as on the sphere."""
PROMPT = (
    "Facing the centre of this panorama, in which direction is this: {name}? Answer with yaw and "
    f"pitch in degrees, positive to the right and up, or with one of: {', '.join(DIRECTIONS)}."
)
Place = tuple[float, float | None]
"""Yaw, and pitch where one is named, in degrees."""


def _item(row: Mapping[str, Any], number: str, images: Path) -> Item:
    if "question" not in row and "name" not in row:
        raise PanoVLMError("found no question and no name, expected one of them")
    asked = "question" in row
    question = text_of(row, "question") if asked else PROMPT.format(name=text_of(row, "name"))
    pitch_deg = _angle_deg(row, "pitch_deg") if row.get("pitch_deg") is not None else None
    item = Item(
        name=number,
        image=picture_at(images, text_of(row, "image")),
        question=question,
        references=(),
        kind=text_of(row, "kind") if "kind" in row else "direction",
        pitch_deg=pitch_deg,
    )
    return _located_at(item, _angle_deg(row, "yaw_deg"))


def _angle_deg(row: Mapping[str, Any], key: str) -> float:
    value, most = row[key], MAX_DEG[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= most:
        raise PanoVLMError(
            f"found {key} {value!r}, expected degrees from {-most:g} to {most:g}, yaw 0 at the "
            "centre of the picture and positive to the right, pitch positive up"
        )
    return float(value)


def _located_at(item: Item, yaw_deg: float) -> Item:
    """Return an item whose thing is at a yaw, with the correct answer in words that can be read."""
    answer = f"yaw {wrap_deg(yaw_deg):.1f}"
    if item.pitch_deg is not None:
        answer += f", pitch {item.pitch_deg:.1f}"
    return replace(item, yaw_deg=wrap_deg(yaw_deg), references=(answer,))


def rotated(item: Item, yaw_shift_deg: float) -> Item:
    """Return the question after the camera has turned right: its thing is further left."""
    return _located_at(item, (item.yaw_deg or 0.0) - yaw_shift_deg)


def tilted(item: Item, pitch_deg: float) -> Item | None:
    """Return the question with its thing at another pitch; None where its pitch is not known."""
    if item.pitch_deg is None:
        return None
    return _located_at(replace(item, pitch_deg=pitch_deg), item.yaw_deg or 0.0)


def parse_place(answer: str) -> Place | None:
    """Read where an answer points: `submit(yaw,pitch)`, or a direction with or without a pitch."""
    if (submitted := parse_submission(answer)) is not None:
        return submitted
    yaw_deg = parse_direction(answer)
    return None if yaw_deg is None else (yaw_deg, parse_pitch(answer))


def error_deg(item: Item, answer: str) -> Score:
    """Compute how far the yaw of an answer is off the short way around, in [0, 180] degrees."""
    yaw_deg = item.yaw_deg or 0.0
    return score_read(parse_place(answer), lambda place: yaw_error_deg(place[0], yaw_deg))


def great_circle_deg(item: Item, answer: str) -> Score:
    """Compute the angle from where an answer points to the thing, in [0, 180] degrees.

    An answer without a pitch points at the horizon.
    """
    yaw_deg, pitch_deg = item.yaw_deg or 0.0, item.pitch_deg
    if pitch_deg is None:
        return NO_REFERENCE
    return score_read(
        parse_place(answer),
        lambda place: great_circle_error_deg(place[0], place[1] or 0.0, yaw_deg, pitch_deg),
    )


def right_sector(item: Item, answer: str) -> Score:
    """Score 1 if an answer points into the correct one of the eight sectors, else 0."""
    correct = sector(item.yaw_deg or 0.0)
    return score_read(parse_place(answer), lambda place: sector(place[0]) == correct)


def extras(items: Sequence[Item], answers: Sequence[str], scores: Sequence[Score]) -> Figures:
    """Return the other errors, where answers point, and what needs no picture."""
    places = [parse_place(answer) for answer in answers]
    by_circle, in_sector = each(great_circle_deg), each(right_sector)
    pointed = Counter(sector(place[0]) for place in places if place)
    guessed = [GUESS_DEG if score.value is None else score.value for score in scores]
    return {
        "median_error_deg": float(np.median(values_of(counted(scores, DEGREES.worst)))),
        "mean_unreadable_guessed_deg": float(np.mean(guessed)),
        "great_circle_deg": summary_over_panoramas(items, by_circle(items, answers), DEGREES.worst),
        "pitch_said": sum(place is not None and place[1] is not None for place in places),
        "right_sector": summary_over_panoramas(items, in_sector(items, answers)),
        "said": {word: pointed[word] for word in DIRECTIONS if word in pointed},
        "chance": chance([item.yaw_deg or 0.0 for item in items]),
    }


def chance(yaws_deg: Sequence[float]) -> dict[str, float]:
    """Return what answers reach without the picture, and the least error of direction words.

    Args:
        yaws_deg: Yaws of all questions; at least one.

    Returns:
        Mean yaw errors in degrees: of a direction sampled evenly; of "front" for all; of the one
        whole degree that is best for all, and that degree; of the correct word of eight for each.
        In [0, 1], the share of the most frequent sector.
    """

    def mean_deg(answered_deg: float) -> float:
        return float(np.mean([yaw_error_deg(answered_deg, yaw_deg) for yaw_deg in yaws_deg]))

    best = min(range(-179, 181), key=mean_deg)
    words = [yaw_error_deg(45.0 * direction_index(each), each) for each in yaws_deg]
    frequent = Counter(map(sector, yaws_deg)).most_common(1)[0][1]
    return {
        "drawn_evenly_deg": GUESS_DEG,
        "always_front_deg": mean_deg(0.0),
        "best_for_all_deg": mean_deg(float(best)),
        "best_for_all_yaw_deg": float(best),
        "right_words_deg": float(np.mean(words)),
        "most_frequent_sector": frequent / len(yaws_deg),
    }


DIRECTION_ERRORS = Benchmark(
    read=reading(read_objects, KEYS, _item),
    score=each(error_deg),
    metric="yaw error in degrees: less is better",
    source="your own file",
    extras=extras,
    rotate=rotated,
    tilt=tilted,
    unit=DEGREES,
    point=parse_place,
)
