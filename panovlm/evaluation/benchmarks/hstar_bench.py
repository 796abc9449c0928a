"""H*Bench: where to look for an object, or to walk, in a panorama.

Published figures are of an agent that turns a perspective camera from four starts. Here the whole
panorama is seen at once and one answer is given, so each task is asked once and figures do not
compare with those; only the rule of success is the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.files import items_of, picture_at, read_objects, reading, text_of
from panovlm.evaluation.benchmarks.items import Benchmark, Figures, Item, each, summed
from panovlm.geometry.sphere import wrap_deg
from panovlm.metrics.angles import yaw_error_deg
from panovlm.metrics.directions import parse_submission
from panovlm.metrics.scores import Score, score_read
from panovlm.metrics.units import DEGREES
from panovlm.pictures.declaring import Declaration

OBJECT_YAW_DEG, OBJECT_PITCH_DEG, PATH_YAW_DEG = 30.0, 20.0, 10.0
"""Half of the least size of a target: of an object's box, and of the way to walk."""
LITE_KEYS = ("doc_id", "task", "target_yaw", "target_pitch", "is_nav", "panorama_strip")
"""Of HStarBench-Lite's card; a strip is all around, but not up to the poles."""
ALL_AROUND = Declaration(projection="equirectangular", hfov_deg=360.0)
"""What the strips of HStarBench-Lite are: a band of a sphere."""
PICTURES = ("*.jpg", "*.jpeg", "*.png")
PROMPT = (
    "{task}\nSay where to look: yaw in degrees from the centre of the panorama, positive to the "
    "right, and pitch in degrees, positive up. Answer with submit(yaw,pitch) alone."
)
Direction = tuple[float, float]


def read(path: Path, images: Path) -> list[Item]:
    """Read the tasks of one folder, or of all folders in it.

    Args:
        path: An `annotation.json`, or a folder that holds some, each beside its picture.
        images: Not used: pictures lie beside their annotation.
    """
    files = [path] if path.is_file() else sorted(path.glob("**/annotation.json"))
    if not files:
        raise PanoVLMError(f"{path}: found no annotation.json, expected one beside each picture")
    return [item for file in files for item in _read_one(file)]


def _read_one(file: Path) -> list[Item]:
    pictures = sorted(found for pattern in PICTURES for found in file.parent.glob(pattern))
    if not pictures:
        raise PanoVLMError(f"{file.parent}: found no picture, expected one of {PICTURES}")
    scene, rows = file.parent.name, read_objects(file, ("task", "yaw"))
    return items_of(file, rows, lambda row, n: _item(row, f"{scene}/{n}", pictures[0]))


def _item(row: Mapping[str, Any], name: str, picture: Path) -> Item:
    yaw = _ends(row["yaw"])
    pitch = _ends(row["pitch"]) if "pitch" in row else None
    return Item(
        name=name,
        image=picture,
        question=PROMPT.format(task=row["task"]),
        references=(),
        kind="path search" if pitch is None else "object search",
        yaw_deg=wrap_deg(yaw[0] + (yaw[1] - yaw[0]) % 360.0 / 2),
        pitch_deg=None if pitch is None else sum(pitch) / 2,
        facts={"yaw": yaw, "pitch": pitch},
    )


def _lite_item(row: Mapping[str, Any], number: str, images: Path) -> Item:
    picture = picture_at(images, text_of(row, "panorama_strip"))
    target = {"task": text_of(row, "task"), "yaw": row["target_yaw"]}
    if not row["is_nav"]:
        target["pitch"] = row["target_pitch"]
    return replace(_item(target, str(row["doc_id"]), picture), declared=ALL_AROUND)


def _ends(values: Any) -> Direction:
    try:
        first, second = map(float, values)
    except (TypeError, ValueError) as error:
        raise PanoVLMError(f"found {values!r}, expected two angles in degrees") from error
    return first, second


def is_hit(yaw_deg: float, pitch_deg: float, yaw: Direction, pitch: Direction | None) -> bool:
    """Return whether a direction lies in a target widened to its least size.

    Args:
        yaw_deg: Where it looks, any number.
        pitch_deg: The same.
        yaw: From where to where the target goes, to the right; it may cross the seam.
        pitch: Its lower and upper end; None for a way to walk, where pitch does not count.

    Source:
        humanoid-vstar/hstar, vagen/env/hstar/env.py. That code does not look at pitch where the
        widened target crosses yaw 0 of its own count; here it always does.
    """
    width = (yaw[1] - yaw[0]) % 360.0
    reach = max(width / 2, OBJECT_YAW_DEG if pitch else PATH_YAW_DEG)
    if yaw_error_deg(yaw_deg, yaw[0] + width / 2) > reach:
        return False
    if pitch is None:
        return True
    middle, half = (pitch[0] + pitch[1]) / 2, (pitch[1] - pitch[0]) / 2
    return abs(pitch_deg - middle) <= max(half, OBJECT_PITCH_DEG)


def _score_one(item: Item, answer: str) -> Score:
    yaw, pitch = item.facts["yaw"], item.facts["pitch"]
    return score_read(parse_submission(answer), lambda at: is_hit(*at, yaw, pitch))


def _yaw_error(item: Item, answer: str) -> Score:
    middle = item.yaw_deg or 0.0
    return score_read(parse_submission(answer), lambda at: yaw_error_deg(at[0], middle))


def extras(items: Sequence[Item], answers: Sequence[str], scores: Sequence[Score]) -> Figures:
    """Return how far the answers point from the middle of their targets."""
    errors = each(_yaw_error)(items, answers)
    return {"mean_yaw_error_deg": summed(errors, DEGREES.worst)}


def rotated(item: Item, yaw_shift_deg: float) -> Item:
    """Return the task after the camera has turned right: its target is further left."""
    first, second = item.facts["yaw"]
    return replace(
        item,
        yaw_deg=wrap_deg((item.yaw_deg or 0.0) - yaw_shift_deg),
        facts={**item.facts, "yaw": (first - yaw_shift_deg, second - yaw_shift_deg)},
    )


HSTAR_BENCH = Benchmark(
    read=read,
    score=each(_score_one),
    metric="share of directions inside the target",
    source="Yu et al., CVPR 2026, arXiv 2511.20351; humanoid-vstar/hstar",
    differs="one answer about the whole panorama instead of an agent that turns a camera; pitch "
    "counts for targets across yaw 0 too",
    extras=extras,
    rotate=rotated,
    point=parse_submission,
)
HSTAR_BENCH_LITE = replace(
    HSTAR_BENCH,
    read=reading(read_objects, LITE_KEYS, _lite_item),
    source="gsarch/HStarBench-Lite, by its card alone; the rule of humanoid-vstar/hstar",
    differs=f"experimental: its files were not seen, and yaw is taken to be 0 at the middle of a "
    f"strip; {HSTAR_BENCH.differs}",
)
