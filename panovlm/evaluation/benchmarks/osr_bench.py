"""OSR-Bench: a map of the room, then counting, relative distance and relative direction."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.files import (
    check_keys,
    items_of,
    picture_at,
    read_json,
    read_objects,
    reading,
    text_of,
)
from panovlm.evaluation.benchmarks.items import Benchmark, Figures, Item, each
from panovlm.geometry.sphere import DIRECTIONS
from panovlm.metrics.cognitive_maps import MapScore, map_of_grid, parse_map, score_map
from panovlm.metrics.exact_match import normalised
from panovlm.metrics.scores import NO_REFERENCE, UNREADABLE, Score, score_read, summarise

MAP = "cognitive_map"
NOT_FOUND = "The orienting object or querying object is not found in the picture."
"""The published answer to questions about absent objects."""
ABSENT = f", or, if an object named is not in the picture, with exactly: {NOT_FOUND}"
FORMS = {
    MAP: "",
    "object_counting": "Answer with one whole number alone; 0 if there is none.",
    "relative_distance": f"Answer with the name of the closest object alone{ABSENT}",
    "relative_direction": (
        "Answer with the direction alone: front, back, left, right, front-left, front-right, "
        f"back-left or back-right{ABSENT}"
    ),
}
"""How to answer questions of each kind; the map's question contains it."""
LINE_KEYS = ("image", "question", "answer", "answer_type", "turn")
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def read(path: Path, images: Path) -> list[Item]:
    """Read the questions of one scene, or of all scenes in a folder.

    Args:
        path: A published `*_qa.json`, or a folder that holds some (their other variants, which end
            in `_with_negative.json` and the like, are read where they are named themselves); or a
            `.jsonl` with the questions of any scenes, one a line, each with `LINE_KEYS`.
        images: Folder below which the pictures lie, where none is beside the file as `rgb.png`.
    """
    if path.suffix == ".jsonl":
        return reading(read_objects, LINE_KEYS, _line)(path, images)
    files = [path] if path.is_file() else sorted(path.glob("**/*_qa.json"))
    if not files:
        raise PanoVLMError(f"{path}: found no *_qa.json, expected one for each scene")
    return [item for file in files for item in _read_scene(file, images)]


def _read_scene(file: Path, images: Path) -> list[Item]:
    scene = read_json(file)
    check_keys(scene, ("image_id", "conversation"), str(file))
    if not isinstance(scene["image_id"], str) or not isinstance(scene["conversation"], list):
        raise PanoVLMError(f"{file}: found no picture's name and list of questions, expected both")
    beside = file.parent / "rgb.png"
    picture = beside if beside.is_file() else images / scene["image_id"]
    return items_of(file, scene["conversation"], lambda row, _: _item(row, file.stem, picture))


def _line(row: Mapping[str, Any], number: str, images: Path) -> Item:
    kind, answer = row["answer_type"], row["answer"]
    is_written_map = kind == MAP and isinstance(answer, str)
    question = {
        "turn_id": row["turn"],
        "question": row["question"],
        "answer": json.loads(answer) if is_written_map else answer,
        "skills_tested": kind,
    }
    picture = picture_at(images, text_of(row, "image"))
    return _item(question, picture.stem, picture)


def _item(row: Mapping[str, Any], scene: str, picture: Path) -> Item:
    check_keys(row, ("turn_id", "question", "answer"), scene)
    kind = row.get("skills_tested", MAP if row["turn_id"] == 0 else "")
    if kind not in FORMS:
        raise PanoVLMError(f"found a question of kind {kind!r}, expected {[*FORMS]}")
    is_map = kind == MAP
    if kind == "object_counting":
        int(str(row["answer"]))  # an error of the file shows here, not when answers are scored
    return Item(
        name=f"{scene}/{row['turn_id']}",
        image=picture,
        question=f"{row['question']} {FORMS[kind]}".strip(),
        references=() if is_map or not str(row["answer"]).strip() else (str(row["answer"]),),
        kind=kind,
        facts={"map": map_of_grid(row["answer"])} if is_map else {},
    )


def score_one(item: Item, answer: str) -> Score:
    """Score an answer in [0, 1] by the rule of its kind."""
    if item.kind == MAP:
        return score_read(parse_map(answer), lambda found: score_map(found, item.facts["map"]).f1)
    if not item.references:
        return NO_REFERENCE
    tagged = _TAGGED.search(answer)
    text = normalised(tagged[1] if tagged else answer)
    reference = normalised(item.references[0])
    if not text:
        return UNREADABLE
    rules = {
        "object_counting": _count,
        "relative_distance": lambda text, reference: Score(float(text == reference)),
        "relative_direction": _direction,
    }
    return rules[item.kind](text, reference)


def _count(text: str, reference: str) -> Score:
    """Score 1 for the correct number, less by the share it is off; its first number counts."""
    numbers = re.findall(r"\d+", text)
    if not numbers:
        return UNREADABLE
    number, known = int(numbers[0]), int(reference)
    return Score(1.0 - abs(number - known) / max(number, known, 1))


def _direction(text: str, reference: str) -> Score:
    """Score 1 for the correct direction word; hyphens do not matter."""
    known = reference.replace(" ", "-") if reference.replace(" ", "-") in DIRECTIONS else reference
    word = text.replace(" ", "-") if text.replace(" ", "-") in DIRECTIONS else text
    if word not in (*DIRECTIONS, known, normalised(NOT_FOUND)):
        return UNREADABLE
    return Score(float(word == known))


def rotated(item: Item, angle_deg: float) -> Item | None:
    """Return a question as it is, since it is asked from the place of an object; None of a map."""
    return None if item.kind == MAP else item


def extras(items: Sequence[Item], answers: Sequence[str], scores: Sequence[Score]) -> Figures:
    """Return what else is measured of maps: means over all, one that cannot be read being empty."""
    pairs = [
        (parse_map(answer), item.facts["map"])
        for item, answer in zip(items, answers, strict=True)
        if item.kind == MAP
    ]
    maps = [asdict(score_map(answered or {}, known)) for answered, known in pairs]
    means = {
        field.name: summarise(Score(each[field.name]) for each in maps).mean
        for field in fields(MapScore)
    }
    return {"maps_read": sum(answered is not None for answered, _ in pairs), "map": means}


OSR_BENCH = Benchmark(
    read=read,
    score=each(score_one),
    metric="F1 of maps, graded counts, exact words, each in [0, 1]",
    source="arXiv 2505.11907; UUUserna/OSR-Bench-code",
    differs="every question is asked alone, without the model's own map before it; how to answer "
    "is said in our words; the word rule of the released runner, not its judge, and a final stop "
    "does not matter; every category counts in the F1 of a map",
    max_new_tokens=512,
    extras=extras,
    rotate=rotated,
    tilt=rotated,
)
