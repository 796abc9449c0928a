"""360Bench: multiple choice, every question under four orders of its options.

Read is the published `360Bench.tsv`; the folder of pictures holds the equirectangular ones.
"""

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.choosing import LETTERS, score_choice, with_options
from panovlm.evaluation.benchmarks.files import picture_at, read_table, reading
from panovlm.evaluation.benchmarks.items import Benchmark, Figures, Item, each, summed
from panovlm.geometry.places import panorama_to_angles
from panovlm.metrics.choices import every_order_right
from panovlm.metrics.scores import Score

COLUMNS = (
    "image_file",
    "question",
    "category",
    "l2-category",
    "bbox",
    "index",
    "multi-choice options",
    "answer",
)
HEIGHT, WIDTH = 3648, 7296
"""Pixels of the panoramas in which the boxes are given."""


def _item(row: Mapping[str, str], number: str, images: Path) -> Item:
    options, correct = _options(row), LETTERS.find(row["answer"].strip() or "?")
    if not 0 <= correct < len(options):
        raise PanoVLMError(
            f"question {row['index']}: found the answer {row['answer']!r} of {len(options)} options"
        )
    yaw_deg, pitch_deg = _direction(row["bbox"])
    return Item(
        name=row["index"],
        image=picture_at(images, row["image_file"]),
        question=with_options(row["question"], options),
        references=(row["answer"].strip(),),
        kind=f"{row['category']}/{row['l2-category']}",
        yaw_deg=yaw_deg,
        pitch_deg=pitch_deg,
        facts={
            "stem": row["question"],
            "options": options,
            "right": correct,
            "asked": f"{row['image_file']} {row['question']}",
        },
    )


def _options(row: Mapping[str, str]) -> tuple[str, ...]:
    """Read a Python list of texts, without running it, and drop their letters."""
    try:
        listed = ast.literal_eval(row["multi-choice options"])
        options = tuple(str(option).split(". ", 1)[1] for option in listed)
    except (ValueError, SyntaxError, TypeError, IndexError) as error:
        raise PanoVLMError(
            f"question {row['index']}: found options {row['multi-choice options'][:80]!r}, "
            "expected a list of texts as in ['A. left', 'B. right']"
        ) from error
    if not 2 <= len(options) <= 8:
        raise PanoVLMError(f"question {row['index']}: found {len(options)} options, expected 2-8")
    return options


def _direction(boxes: str) -> tuple[float | None, float | None]:
    """Return where the one object of a question is; nothing is known if it has several or none."""
    listed = json.loads(boxes) if boxes.strip() else []
    if len(listed) != 1:
        return None, None
    left, top, right, bottom = listed[0]["bbox_2d"]
    yaw_deg, pitch_deg = panorama_to_angles((left + right) / 2, (top + bottom) / 2, HEIGHT, WIDTH)
    return float(yaw_deg), float(pitch_deg)


def extras(items: Sequence[Item], answers: Sequence[str], scores: Sequence[Score]) -> Figures:
    """Return the share of questions answered correctly under every order of their options."""
    orders = every_order_right(scores, [item.facts["asked"] for item in items])
    return {"every_order_right": summed(orders.values())}


BENCH_360 = Benchmark(
    read=reading(read_table, COLUMNS, _item),
    score=each(score_choice),
    metric="accuracy, each order of the options counted",
    source="Tran et al., ECCV 2026, arXiv 2603.16179; TranHuyen1191/360Bench-Free360",
    differs="the prompt and the list of options are in our words; a letter is also read in bold, "
    "before its text or a reason, and options by their whole text (published: '(A)' alone), so "
    "accuracies are higher; an empty answer is wrong (published: A)",
    max_new_tokens=32,
    extras=extras,
)
