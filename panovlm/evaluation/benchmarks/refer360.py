"""Refer360°: instructions that lead to one hidden point of a panorama.

Read is a published split, as `validation.seen.json`; the folder of pictures holds `refer360images`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from panovlm.evaluation.benchmarks.files import read_objects, reading
from panovlm.evaluation.benchmarks.items import Benchmark, Figures, Item, each
from panovlm.metrics.angles import great_circle_error_deg
from panovlm.metrics.directions import parse_submission
from panovlm.metrics.scores import Score, counted, score_read, summarise, values_of
from panovlm.metrics.units import DEGREES

KEYS = ("refexp", "annotationid", "xlng_deg", "ylat_deg", "img_src", "img_cat")
PROMPT = (
    "{steps}\nSay where the last of these is: yaw in degrees from the centre of the panorama, "
    "positive to the right, and pitch in degrees, positive up. Answer with submit(yaw,pitch) alone."
)
WITHIN_DEG = (5.0, 10.0, 20.0)


def _item(row: Mapping[str, Any], number: str, images: Path) -> Item:
    steps = " ".join(_sentence(words) for words in row["refexp"])
    place = str(row["img_src"]).replace("\\", "/").split("refer360images/")[-1]
    return Item(
        name=str(row["annotationid"]),
        image=images / "refer360images" / place,
        question=PROMPT.format(steps=steps),
        references=(),
        kind=str(row["img_cat"]),
        yaw_deg=float(row["xlng_deg"]),
        pitch_deg=float(row["ylat_deg"]),
    )


def _sentence(words: Sequence[str]) -> str:
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def error_deg(item: Item, answer: str) -> Score:
    """Compute the angle from where an answer points to the target, in [0, 180] degrees."""
    at = (item.yaw_deg or 0.0, item.pitch_deg or 0.0)
    return score_read(parse_submission(answer), lambda found: great_circle_error_deg(*found, *at))


def extras(items: Sequence[Item], answers: Sequence[str], scores: Sequence[Score]) -> Figures:
    """Return the median error and the shares of answers within some degrees, of all answers."""
    errors = values_of(counted(scores, DEGREES.worst))
    within = {
        f"within_{limit:g}_deg": summarise(Score(float(error <= limit)) for error in errors).mean
        for limit in WITHIN_DEG
    }
    return {"median_error_deg": float(np.median(errors)) if errors else None, **within}


REFER_360 = Benchmark(
    read=reading(read_objects, KEYS, _item),
    score=each(error_deg),
    metric="great-circle error in degrees: less is better",
    source="Cirik et al., ACL 2020; volkancirik/refer360",
    differs="degrees on the sphere for one answer, instead of pixels in the last view of an agent; "
    "an answer that cannot be read is 180° off",
    extras=extras,
    unit=DEGREES,
    point=parse_submission,
)
