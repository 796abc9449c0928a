"""ODI-Bench: ten tasks on photographs up to 12K wide, with options or without.

Its authors released pictures and questions and no code. Names of files and fields here are those
that a public reader of the release uses (VR-Modality-Bias, `scripts/ingest_odibench.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.choosing import (
    LETTERS,
    place_of,
    score_choice,
    with_options,
    without_letter,
)
from panovlm.evaluation.benchmarks.files import is_there, items_of, picture_at, read_objects
from panovlm.evaluation.benchmarks.items import SAME_MEANING, Benchmark, Item, each
from panovlm.metrics.scores import NOT_JUDGED, Score, summarise_by

TASKS = {
    "object_attribute": "general",
    "human_attribute": "general",
    "existence": "general",
    "counting": "general",
    "ocr": "general",
    "view_orientation": "spatial",
    "allocentric": "spatial",
    "scene_simulation": "spatial",
    "relative": "spatial",
    "ODI_reasoning": "spatial",
}
"""The file of each task without its ending, and the level it belongs to."""
IMAGE_FIELDS = ("image", "imagename", "image_name", "image_id")
RIGHT_FIELDS = ("correct", "answer")
ENDINGS = ("", ".jpg", ".png", ".jpeg")
YES_NO = ("Yes", "No")
SOURCE = (
    "Yang et al., ICLR 2026, arXiv 2510.11549; LiuYang66/ODI-Bench, its fields as "
    "stephanyresque/VR-Modality-Bias reads them"
)
PROMPT = "{question}\nAnswer in a few words."


def read(path: Path, images: Path, *, with_choices: bool) -> list[Item]:
    """Read the questions of one task or of all.

    Args:
        path: A `QAs/*.jsonl` named as its task, or a folder that holds some.
        images: The folder of the pictures, or the one that holds `images_final`.
        with_choices: Whether the options are shown. Questions without options are then put as yes
            or no where the right answer is one of these, and have no right answer otherwise.

    Raises:
        PanoVLMError: If there is no such file, or an entry has no question or no picture.
    """
    files = [path] if path.is_file() else [file for task in TASKS for file in _files_of(path, task)]
    if not files or any(file.stem not in TASKS for file in files):
        raise PanoVLMError(f"{path}: found no file named as a task, expected some of {[*TASKS]}")
    folder = images / "images_final" if (images / "images_final").is_dir() else images
    make = partial(_item, folder=folder, with_choices=with_choices)
    return [
        item
        for file in files
        for item in items_of(file, read_objects(file, ("question",)), partial(make, task=file.stem))
    ]


def _files_of(folder: Path, task: str) -> list[Path]:
    return sorted(folder.glob(f"**/{task}.jsonl"))


def _item(
    row: Mapping[str, Any], number: int, *, task: str, folder: Path, with_choices: bool
) -> Item:
    options, right = _options(row)
    place = place_of(right, options)
    text = options[place] if place is not None else "" if options else right
    question = str(row["question"]).replace("<image>", "").strip()
    shown = with_options(question, options) if options else PROMPT.format(question=question)
    letter = LETTERS[place] if place is not None else None
    choice = {"stem": question, "options": options, "right": place}
    return Item(
        name=f"{task}/{number}",
        image=_picture(row, folder),
        question=shown if with_choices else PROMPT.format(question=question),
        references=tuple(filter(None, [letter if with_choices else text])),
        kind=task,
        facts={"level": TASKS[task], **choice} if with_choices else {"level": TASKS[task]},
    )


def _options(row: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """Give the options without their letters, and what says which is right."""
    right = next((str(row[name]).strip() for name in RIGHT_FIELDS if _holds(row, name)), "")
    given = row.get("options") or ()
    listed = given.values() if isinstance(given, dict) else given
    options = tuple(without_letter(str(option)) for option in listed)
    if isinstance(given, str) or len(options) > len(LETTERS):
        raise ValueError(f"options {str(given)[:80]!r}, expected a list of up to 8 texts")
    if not options and right.rstrip(".").lower() in ("yes", "no"):
        return YES_NO, right.rstrip(".")
    return options, without_letter(right) if len(right) > 1 else right


def _holds(row: Mapping[str, Any], name: str) -> bool:
    return row.get(name) is not None and bool(str(row[name]).strip())


def _picture(row: Mapping[str, Any], folder: Path) -> Path:
    """Give the picture's file, whose name may come without its ending."""
    names = [str(row[name]) for name in IMAGE_FIELDS if row.get(name)]
    if not names:
        raise KeyError(f"one of {IMAGE_FIELDS}")
    files = [picture_at(folder, names[0] + ending) for ending in ENDINGS]
    return next((file for file in files if is_there(file)), files[0])


def extras(
    items: Sequence[Item], answers: Sequence[str], scores: Sequence[Score]
) -> dict[str, Any]:
    """Give the scores of the published levels, general and spatial."""
    levels = summarise_by(scores, [item.facts["level"] for item in items])
    return {"by_level": {name: asdict(summary) for name, summary in levels.items()}}


ODI_BENCH = Benchmark(
    read=partial(read, with_choices=True),
    score=each(score_choice),
    metric="share of right options",
    source=SOURCE,
    differs="our words in the prompt; an answer that names no option has no score; what the "
    "authors do with such answers is not published",
    max_new_tokens=32,
    extras=extras,
)
ODI_BENCH_OPEN = Benchmark(
    read=partial(read, with_choices=False),
    score=each(lambda item, answer: NOT_JUDGED),
    metric="a judge's grade of 1 to 5, as 0 to 1",
    source=SOURCE,
    differs="prompt, judge's instruction and scale are ours; those of the authors are not known",
    extras=extras,
    rubric=SAME_MEANING,
)
