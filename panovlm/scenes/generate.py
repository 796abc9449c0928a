"""Data sets of scenes on disk: pictures, questions with right answers, and dense listings.

    pictures/{train,test}/000000.jpg
    train.jsonl, test.jsonl                    every question of every picture; the first also
                                               its listing, so that what those taught is kept
    train_listings.jsonl, test_listings.jsonl  one dense listing a picture
    scenes.jsonl                               the scene behind every picture
    scenes.json                                the settings; with the same ones nothing is written

Scene i of a split depends on (seed, split, i) alone, so the files are the same to the byte
whatever the number of processes, and a larger set begins with the smaller one.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from panovlm.data.questions.asking import LISTING_REQUEST, Question
from panovlm.errors import PanoVLMError
from panovlm.pictures.panorama import load_panorama, read_panorama
from panovlm.runtime.files import whole_folder
from panovlm.runtime.processes import mapping
from panovlm.scenes.backgrounds import Backgrounds, find_backgrounds
from panovlm.scenes.language import ask_all, listing, sighting
from panovlm.scenes.render import Picture, render
from panovlm.scenes.world import Scene, sample_scene

FORMAT = 2
"""Raise it whenever the same settings come to give other files."""
SPLITS = ("train", "test")
LISTING = Question("listing", LISTING_REQUEST, listing)
YAW_SHIFTS_DEG = tuple(range(0, 360, 45))
BACKGROUND_SHARE = 0.5
JPEG_QUALITY = 92
SETTINGS_FILE = "scenes.json"
_CHUNK = 8
"""Scenes a process renders at a time, about a second's work."""

Settings = dict[str, Any]


@dataclass(frozen=True)
class _Chunk:
    """Scenes of one split that a process renders in one go."""

    folder: Path
    seed: int
    height: int
    split: str
    numbers: range
    backgrounds: tuple[Path, ...]


def write_scenes(
    out: Path,
    count: int,
    seed: int,
    *,
    backgrounds: Path | None = None,
    test_count: int = 500,
    height: int = 512,
    workers: int | None = None,
    progress: Callable[[int], None],
) -> bool:
    """Write a data set of scenes; it appears at `out` whole or not at all.

    With more than one worker the calling script needs its `if __name__ == "__main__"` guard.

    Args:
        out: New or empty folder.
        count: Number of pictures to train on, at least 1.
        seed: Seed of everything, at least 0.
        backgrounds: Folder with panoramas (*.jpg, *.png, at any depth) for half of the pictures,
            each in one split only; None renders every ground and sky.
        test_count: Number of pictures held out, at least 1.
        height: Rows of each picture, in pixels; it is twice as wide.
        workers: Number of processes; None takes one for each processor.
        progress: Called with the number of pictures finished since the last call.

    Returns:
        Whether anything was written: False if `out` held the same data set before.

    Raises:
        PanoVLMError: If a setting is out of range, `out` holds something else, there are too few
            `backgrounds`, or the disk is full or read-only.
    """
    workers = (os.cpu_count() or 1) if workers is None else workers
    _check_ranges(count=(count, 1), seed=(seed, 0), test_count=(test_count, 1))
    _check_ranges(height=(height, 2), workers=(workers, 1))
    found = find_backgrounds(backgrounds) if backgrounds else Backgrounds()
    settings: Settings = {
        "format": FORMAT,
        "count": count,
        "test_count": test_count,
        "seed": seed,
        "height": height,
        "backgrounds": found.digest,
    }
    try:
        if _holds(out, settings):
            return False
        with whole_folder(out) as folder, mapping(workers, _begin_worker) as apply:
            readable = found.without_invalid(apply(_background_error, found.paths))
            chunks = _chunks(folder, settings, readable)
            rendered = chain.from_iterable(apply(_render_chunk, chunks))
            _write_all(folder, settings, rendered, progress)
    except OSError as error:
        raise PanoVLMError(
            f"cannot write the scenes to {out}: {error}; free some space or name another folder"
        ) from error
    return True


def _check_ranges(**values: tuple[int, int]) -> None:
    for name, (value, least) in values.items():
        if value < least:
            raise PanoVLMError(f"found {name} {value}, expected at least {least}; raise {name}")


def _holds(out: Path, settings: Settings) -> bool:
    """Return whether the same data set is there; refuse a folder that holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        present = json.loads((out / SETTINGS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        present = None
    if present == settings:
        return True
    if isinstance(present, dict):
        other = [f"{k} = {present.get(k)}" for k, v in settings.items() if present.get(k) != v]
        what = "scenes of other settings: " + ", ".join(other)
    else:
        what = "something that is no set of scenes"
    raise PanoVLMError(
        f"{out}: found {what}; expected an empty or a new folder; remove it or name another"
    )


def _begin_worker() -> None:
    """Keep to one processor."""
    cv2.setNumThreads(1)


def _chunks(folder: Path, settings: Settings, backgrounds: Backgrounds) -> Iterator[_Chunk]:
    seed, height = settings["seed"], settings["height"]
    counts = {"train": settings["count"], "test": settings["test_count"]}
    paths = {"train": backgrounds.train, "test": backgrounds.test}
    for split in SPLITS:
        for start in range(0, counts[split], _CHUNK):
            numbers = range(counts[split])[start : start + _CHUNK]
            yield _Chunk(folder, seed, height, split, numbers, paths[split])


def _write_all(
    folder: Path,
    settings: Settings,
    rendered: Iterable[dict[str, str]],
    progress: Callable[[int], None],
) -> None:
    """Append the lines of all scenes, in order, to the files of records."""
    for texts in rendered:
        for name, text in texts.items():
            with (folder / name).open("a", encoding="utf-8", newline="\n") as file:
                file.write(text)
        progress(1)
    text = json.dumps(settings, indent=2) + "\n"
    (folder / SETTINGS_FILE).write_text(text, encoding="utf-8")


def _render_chunk(chunk: _Chunk) -> list[dict[str, str]]:
    (chunk.folder / "pictures" / chunk.split).mkdir(parents=True, exist_ok=True)
    return [_render(chunk, number) for number in chunk.numbers]


def _render(chunk: _Chunk, number: int) -> dict[str, str]:
    """Write the picture of a scene; return the lines for each file of records."""
    image = f"pictures/{chunk.split}/{number:06d}.jpg"
    scene, questions, background = _sample(chunk, number)
    picture = Image.fromarray(render(scene, chunk.height, background))
    picture.save(chunk.folder / image, quality=JPEG_QUALITY, subsampling="4:4:4")
    asked = [*questions, LISTING] if chunk.split == "train" else questions
    records = {
        f"{chunk.split}.jsonl": [_record(image, scene, question) for question in asked],
        f"{chunk.split}_listings.jsonl": [_record(image, scene, LISTING)],
        "scenes.jsonl": [{"image": image, "scene": scene.to_json()}],
    }
    return {n: "".join(json.dumps(each) + "\n" for each in group) for n, group in records.items()}


def _sample(chunk: _Chunk, number: int) -> tuple[Scene, list[Question[Scene]], Picture | None]:
    """Sample a scene, its questions and its background."""
    rng = np.random.default_rng((chunk.seed, SPLITS.index(chunk.split), number))
    scene = sample_scene(rng)
    questions = ask_all(scene, rng)  # before the background, which then changes nothing else
    if not chunk.backgrounds or rng.random() >= BACKGROUND_SHARE:
        return scene, questions, None
    path = chunk.backgrounds[int(rng.integers(len(chunk.backgrounds)))]
    return scene, questions, _read_background(path, chunk.height)


def _background_error(path: Path) -> str | None:
    """Return why a file cannot be a background; None if it can."""
    try:
        background = read_panorama(path, min_width=1)
    except PanoVLMError as error:
        return str(error)
    if background.mask is not None:
        return f"{path}: found a part of the sphere, expected all of it; use another panorama"
    return None


def _read_background(path: Path, height: int) -> Picture:
    """Read a panorama at exactly the size of the picture; a file may be only nearly 2:1."""
    pixels = load_panorama(path, min_width=2 * height, strict=True)
    resized = cv2.resize(pixels, (2 * height, height), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


def _record(image: str, scene: Scene, question: Question[Scene]) -> dict[str, Any]:
    subject = next((solid for solid in scene.solids if solid.name == question.subject), None)
    solids = scene.solids if question is LISTING else [subject] if subject else []
    responses = [question.answer(scene.yaw_rotated(yaw_deg)) for yaw_deg in YAW_SHIFTS_DEG]
    about = sighting(scene, subject) if subject else None
    crosses_seam = any(solid.crosses_seam for solid in solids)
    return question.record(image, responses, about, crosses_seam)
