"""Panoramas to try the page with: rendered scenes, or the pictures of a folder."""

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from panovlm.data.picture_folders import pictures_in
from panovlm.errors import PanoVLMError
from panovlm.geometry.cutting import resize_by_area
from panovlm.geometry.sphere import Pixels
from panovlm.inference.loading import model_folder
from panovlm.pictures.panorama import load_panorama
from panovlm.scenes.language import ask_all
from panovlm.scenes.render import render
from panovlm.scenes.scene_language_model import SCENE_LM
from panovlm.scenes.world import Scene, sample_scene
from panovlm.training.outputs import STAGE_FACTS

SCENES, NONE = "scenes", "none"
"""What is offered, where it is no folder."""
NUM_SCENES = 4
MOST_PICTURES = 12
"""Offered of a folder, spread over it by name."""
SCENE_HEIGHT, PICTURE_HEIGHT, THUMBNAIL_HEIGHT = 768, 1024, 96
"""Rows of a panorama, in pixels; it is twice as wide."""
_SEED = 176
_KINDS = ("direction", "what", "colour", "nearest")
"""Kinds of questions that are offered, one of each where the scene has it."""


@dataclass(frozen=True)
class Example:
    """A panorama to try.

    Attributes:
        pixels: Returns it with at most so many rows, uint8 [rows, 2·rows, 3].
        height: Rows that show all of it.
        questions: To try; where there are none, those that the page has for any picture.
    """

    pixels: Callable[[int], Pixels]
    height: int
    questions: tuple[str, ...] = ()


class Examples:
    """The panoramas of a page, each made at most once and never stored. For any thread."""

    def __init__(self, panoramas: Sequence[Example]) -> None:
        self._panoramas = panoramas
        self._made: dict[str, bytes] = {}
        self._making = Lock()
        self._paths = {
            f"/examples/{number + 1}{kind}.jpg": (panorama, height)
            for number, panorama in enumerate(panoramas)
            for kind, height in (("", panorama.height), ("-small", THUMBNAIL_HEIGHT))
        }

    @property
    def paths(self) -> list[str]:
        """The paths of the pictures, the small ones first: visitors choose by them."""
        return sorted(self._paths, key=lambda path: self._paths[path][1])

    def make_all(self) -> None:
        """Make all pictures."""
        for path in self.paths:
            self.picture(path)

    def picture(self, path: str) -> bytes:
        """Return the picture of a path as a JPEG."""
        with self._making:  # none is made twice because it is requested while it is made
            if path not in self._made:
                panorama, height = self._paths[path]
                file = io.BytesIO()
                image = Image.fromarray(panorama.pixels(height))
                image.save(file, "JPEG", quality=90, subsampling="4:4:4")
                self._made[path] = file.getvalue()
            return self._made[path]

    def listed(self) -> list[dict[str, Any]]:
        """Return the paths and questions of each, as the page reads them."""
        return [
            {
                "picture": f"examples/{number}.jpg",
                "thumbnail": f"examples/{number}-small.jpg",
                "questions": panorama.questions,
            }
            for number, panorama in enumerate(self._panoramas, start=1)
        ]


def offered_by_default(model: Path) -> str:
    """Return what to offer by default: scenes to a model that speaks of nothing else, else none."""
    facts = model_folder(model) / STAGE_FACTS
    named = json.loads(facts.read_text())["model"]["language_model"] if facts.is_file() else None
    return SCENES if named == SCENE_LM else NONE


def examples_of(offered: str) -> Examples:
    """Return the panoramas that are offered: `scenes`, `none`, or some of a folder.

    Raises:
        PanoVLMError: If there is no such folder, or no picture in it, or a damaged one.
    """
    if offered == NONE:
        return Examples([])
    if offered == SCENES:
        return Examples(scenes())
    examples = Examples(_in_folder(Path(offered)))
    for each in examples.listed():  # what is damaged is named before the server runs
        examples.picture(f"/{each['thumbnail']}")
    return examples


def scenes() -> list[Example]:
    """Return rendered scenes, the same each time, each with questions of different kinds."""
    return [
        Example(partial(render, scene_of(number)), SCENE_HEIGHT, _questions(number))
        for number in range(NUM_SCENES)
    ]


def scene_of(number: int) -> Scene:
    """Return the scene of an example."""
    return sample_scene(np.random.default_rng((_SEED, number)))


def _questions(number: int) -> tuple[str, ...]:
    asked = ask_all(scene_of(number), np.random.default_rng((_SEED, number, 1)))
    first = {question.kind: question.text for question in reversed(asked)}
    return tuple(first[kind] for kind in _KINDS if kind in first)


def _in_folder(folder: Path) -> list[Example]:
    if not folder.is_dir():
        raise PanoVLMError(
            f"found no folder {folder}, expected one of panoramas, {SCENES} or {NONE}; change "
            "--examples"
        )
    found = pictures_in(folder)
    if not found:
        raise PanoVLMError(f"found no picture in {folder}, expected panoramas; change --examples")
    spread = found[:: math.ceil(len(found) / MOST_PICTURES)]
    return [Example(partial(_of_file, file), PICTURE_HEIGHT) for file in spread]


def _of_file(file: Path, height: int) -> Pixels:
    pixels = load_panorama(str(file), 2 * height)
    return resize_by_area(pixels, height, 2 * height) if len(pixels) > height else pixels
