"""Drawn panoramas to try the page with: drawn as the server starts, never stored."""

import io
import threading
from functools import lru_cache

import numpy as np
from PIL import Image

from panovlm.scenes.language import ask_all
from panovlm.scenes.render import render
from panovlm.scenes.world import Scene, sample_scene

NUM_EXAMPLES = 4
HEIGHT, THUMBNAIL_HEIGHT = 768, 96
"""Rows of a picture, in pixels; it is twice as wide."""
JPEG_QUALITY = 90
_SEED = 176
_DRAWING = threading.Lock()
"""None is drawn twice because it is asked for while it is drawn."""
_KINDS = ("direction", "what", "colour", "nearest")
"""Kinds of questions that are offered, one of each where the scene has it."""


def scene_of(number: int) -> Scene:
    """Draw the scene of an example, the same each time."""
    return sample_scene(np.random.default_rng((_SEED, number)))


@lru_cache(maxsize=NUM_EXAMPLES)
def questions(number: int) -> tuple[str, ...]:
    """Draw questions about an example, each of another kind."""
    first: dict[str, str] = {}
    for question in ask_all(scene_of(number), np.random.default_rng((_SEED, number, 1))):
        first.setdefault(question.kind, question.text)
    return tuple(first[kind] for kind in _KINDS if kind in first)


def draw_all() -> None:
    """Draw all there is, the small ones first: they are what a visitor chooses by."""
    for height in (THUMBNAIL_HEIGHT, HEIGHT):
        for number in range(NUM_EXAMPLES):
            picture(number, height)
    for number in range(NUM_EXAMPLES):
        questions(number)


def picture(number: int, height: int) -> bytes:
    """Give an example's panorama as a JPEG of a number of rows, drawn at most once."""
    with _DRAWING:
        return _drawn(number, height)


@lru_cache(maxsize=2 * NUM_EXAMPLES)
def _drawn(number: int, height: int) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(render(scene_of(number), height))
    image.save(file, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
    return file.getvalue()
