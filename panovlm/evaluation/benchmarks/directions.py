"""Directions of one's own panoramas: where a thing is, and how far off an answer looks.

    {"image": "lobby.jpg", "name": "the lifts", "yaw_deg": -166.1, "pitch_deg": 10.9}

`image` is relative to the folder of pictures. In place of `name`, `question` is asked as it stands.
`pitch_deg` may be left out, and then great-circle errors are; `kind` groups scores.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.files import items_of, picture_at, read_objects, text_of
from panovlm.evaluation.benchmarks.hstar_bench import parse_submission
from panovlm.evaluation.benchmarks.items import Benchmark, Item, each, summary_over_panoramas
from panovlm.evaluation.units import DEGREES
from panovlm.geometry.sphere import DIRECTIONS, direction_index, wrap_deg
from panovlm.metrics.angles import great_circle_error_deg, sector, yaw_error_deg
from panovlm.metrics.directions import parse_direction, parse_pitch
from panovlm.metrics.scores import NO_REFERENCE, Score, score_read, values_of

KEYS = ("image", "yaw_deg")
MAX_DEG = {"yaw_deg": 360.0, "pitch_deg": 90.0}
GUESS_DEG = 90.0
"""Mean error of directions drawn evenly, on the circle as on the sphere."""
PROMPT = (
    "Facing the centre of this panorama, in which direction is this: {name}? Answer with yaw and "
    f"pitch in degrees, positive to the right and up, or with one of: {', '.join(DIRECTIONS)}."
)
Place = tuple[float, float | None]
"""Yaw, and pitch where one is said, in degrees."""


def read(path: Path, images: Path) -> list[Item]:
    """Read directions.

    Args:
        path: A list of objects in JSON, or one object a line in a `.jsonl`.
        images: Folder that `image` is relative to.

    Raises:
        PanoVLMError: If an entry has no direction, or neither `name` nor `question`.
    """
    rows = read_objects(path, KEYS)
    return items_of(path, rows, lambda row, n: _item(row, f"{path}, entry {n}", str(n), images))


def _item(row: Mapping[str, Any], where: str, number: str, images: Path) -> Item:
    if "question" not in row and "name" not in row:
        raise PanoVLMError(f"{where}: found no question and no name, expected one of them")
    asked = "question" in row
    question = text_of(row, "question") if asked else PROMPT.format(name=text_of(row, "name"))
    pitch_deg = _angle_deg(row, "pitch_deg", where) if row.get("pitch_deg") is not None else None
    item = Item(
        name=number,
        image=picture_at(images, text_of(row, "image")),
        question=question,
        references=(),
        kind=text_of(row, "kind") if "kind" in row else "direction",
        pitch_deg=pitch_deg,
    )
    return _looking_at(item, _angle_deg(row, "yaw_deg", where))


def _angle_deg(row: Mapping[str, Any], key: str, where: str) -> float:
    value, most = row[key], MAX_DEG[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= most:
        raise PanoVLMError(
            f"{where}: found {key} {value!r}, expected degrees from {-most:g} to {most:g}, yaw 0 "
            "at the centre of the picture and positive to the right, pitch positive up"
        )
    return float(value)


def _looking_at(item: Item, yaw_deg: float) -> Item:
    """Give an item whose thing is at a yaw, with the right answer in words that can be read."""
    right = f"yaw {wrap_deg(yaw_deg):.1f}"
    if item.pitch_deg is not None:
        right += f", pitch {item.pitch_deg:.1f}"
    return replace(item, yaw_deg=wrap_deg(yaw_deg), references=(right,))


def rotated(item: Item, yaw_shift_deg: float) -> Item:
    """Give the question after the camera has turned right: its thing is that much further left."""
    return _looking_at(item, (item.yaw_deg or 0.0) - yaw_shift_deg)


def parse_place(answer: str) -> Place | None:
    """Read where an answer points: `submit(yaw,pitch)`, or a direction with or without a pitch."""
    if (submitted := parse_submission(answer)) is not None:
        return submitted
    yaw_deg = parse_direction(answer)
    return None if yaw_deg is None else (yaw_deg, parse_pitch(answer))


def error_deg(item: Item, answer: str) -> Score:
    """Give how far the yaw of an answer is off the short way around, in [0, 180] degrees."""
    right_deg = item.yaw_deg or 0.0
    return score_read(parse_place(answer), lambda said: yaw_error_deg(said[0], right_deg))


def great_circle_deg(item: Item, answer: str) -> Score:
    """Give the angle from where an answer points to the thing, in [0, 180] degrees.

    An answer that says no pitch points at the horizon.
    """
    yaw_deg, pitch_deg = item.yaw_deg or 0.0, item.pitch_deg
    if pitch_deg is None:
        return NO_REFERENCE
    return score_read(
        parse_place(answer),
        lambda said: great_circle_error_deg(said[0], said[1] or 0.0, yaw_deg, pitch_deg),
    )


def right_sector(item: Item, answer: str) -> Score:
    """Score 1 if an answer points into the right one of the eight sectors, else 0."""
    right = sector(item.yaw_deg or 0.0)
    return score_read(parse_place(answer), lambda said: sector(said[0]) == right)


def extras(
    items: Sequence[Item], answers: Sequence[str], scores: Sequence[Score]
) -> dict[str, Any]:
    """Give the other errors, where answers point, and what needs no looking."""
    errors, said = values_of(scores), [parse_place(answer) for answer in answers]
    by_circle, in_sector = each(great_circle_deg), each(right_sector)
    pointed = Counter(sector(place[0]) for place in said if place)
    guessed = [GUESS_DEG if score.value is None else score.value for score in scores]
    return {
        "median_error_deg": float(np.median(errors)) if errors else None,
        "mean_unreadable_guessed_deg": float(np.mean(guessed)),
        "great_circle_deg": summary_over_panoramas(
            items, by_circle(items, answers), are_errors=True
        ),
        "pitch_said": sum(place is not None and place[1] is not None for place in said),
        "right_sector": summary_over_panoramas(items, in_sector(items, answers)),
        "said": {word: pointed[word] for word in DIRECTIONS if word in pointed},
        "chance": chance([item.yaw_deg or 0.0 for item in items]),
    }


def chance(rights_deg: Sequence[float]) -> dict[str, float]:
    """Give what answers reach that do not look, and the least error of direction words.

    Args:
        rights_deg: Yaws of all questions; at least one.

    Returns:
        Mean yaw errors in degrees: of a direction drawn evenly; of "front" for all; of the one
        whole degree that is best for all, and that degree; of the right word of eight for each. In
        [0, 1], the share of the most frequent sector.
    """

    def mean_deg(said_deg: float) -> float:
        return float(np.mean([yaw_error_deg(said_deg, right) for right in rights_deg]))

    best = min(range(-179, 181), key=mean_deg)
    words = [yaw_error_deg(45.0 * direction_index(right), right) for right in rights_deg]
    frequent = Counter(map(sector, rights_deg)).most_common(1)[0][1]
    return {
        "drawn_evenly_deg": GUESS_DEG,
        "always_front_deg": mean_deg(0.0),
        "best_for_all_deg": mean_deg(float(best)),
        "best_for_all_yaw_deg": float(best),
        "right_words_deg": float(np.mean(words)),
        "most_frequent_sector": frequent / len(rights_deg),
    }


DIRECTION_ERRORS = Benchmark(
    read=read,
    score=each(error_deg),
    metric="yaw error in degrees: less is better",
    source="your own file",
    extras=extras,
    rotate=rotated,
    less_is_better=True,
    unit=DEGREES,
    point=parse_place,
)
