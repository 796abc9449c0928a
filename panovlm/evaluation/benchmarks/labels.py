"""Labels of one's own panoramas: which of some options one shows.

    {"image": "lobby.jpg", "label": "lobby", "options": ["lobby", "kitchen", "street"]}

`image` is relative to the folder of pictures. Where `options` are left out, three other labels of
the file are sampled, always the same ones for the same file; `kind` groups scores.
"""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.choosing import LETTERS, score_choice, with_options
from panovlm.evaluation.benchmarks.files import items_of, picture_at, read_objects, text_of
from panovlm.evaluation.benchmarks.items import Benchmark, Figures, Item, each, unchanged
from panovlm.metrics.exact_match import normalised
from panovlm.metrics.scores import Score

KEYS = ("image", "label")
NUM_OTHERS = 3
STEM = "Which of these does this panorama show?"


def read(path: Path, images: Path) -> list[Item]:
    """Read labels.

    Args:
        path: A list of objects in JSON, or one object a line in a `.jsonl`.
        images: Folder that `image` is relative to.
    """
    rows = read_objects(path, KEYS)
    labels = list({normalised(label): label for label in map(_label, rows)}.values())
    return items_of(path, rows, lambda row, number: _item(row, number, images, labels))


def _label(row: Mapping[str, Any]) -> str:
    return label.strip() if isinstance(label := row["label"], str) else ""


def _item(row: Mapping[str, Any], number: int, images: Path, labels: Sequence[str]) -> Item:
    label, image = text_of(row, "label").strip(), text_of(row, "image")
    if "options" in row:
        options = _checked(row["options"], label)
    else:
        options = _sampled(label, labels, f"{number} {image}")
    return Item(
        name=str(number),
        image=picture_at(images, image),
        question=with_options(STEM, options),
        references=(label,),
        kind=text_of(row, "kind") if "kind" in row else "label",
        facts={"stem": STEM, "options": options, "right": _plain(options).index(normalised(label))},
    )


def _checked(options: Any, label: str) -> list[str]:
    is_list = isinstance(options, list) and all(isinstance(each, str) for each in options)
    plain = _plain(options) if is_list else []
    is_sound = 2 <= len(plain) <= len(LETTERS) and "" not in plain and len({*plain}) == len(plain)
    if not is_sound or normalised(label) not in plain:
        raise PanoVLMError(
            f"found options {options!r}, expected 2 to {len(LETTERS)} texts that differ, "
            f"with the label {label!r} among them; leave them out to have some sampled"
        )
    return [*options]


def _sampled(label: str, labels: Sequence[str], seed: str) -> list[str]:
    """Sample other labels and an order; a text as seed does it alike on every machine."""
    others = [other for other in labels if other and normalised(other) != normalised(label)]
    if not others:
        raise PanoVLMError("found no other label in the file, expected some, or options")
    rng = random.Random(seed)
    options = [label, *rng.sample(others, min(NUM_OTHERS, len(others)))]
    return rng.sample(options, len(options))


def _plain(options: Sequence[str]) -> list[str]:
    return [normalised(option) for option in options]


def extras(items: Sequence[Item], answers: Sequence[str], scores: Sequence[Score]) -> Figures:
    """Return the accuracy of options chosen by chance."""
    return {"chance": float(np.mean([1 / len(item.facts["options"]) for item in items]))}


LABELS = Benchmark(
    read=read,
    score=each(score_choice),
    metric="share of panoramas whose label is chosen",
    source="your own file",
    extras=extras,
    rotate=unchanged,
    tilt=unchanged,
)
