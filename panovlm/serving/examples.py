"""Drawn panoramas to try the page with: drawn when first asked for, never stored."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image

from panovlm.scenes.language import ask_all
from panovlm.scenes.render import render
from panovlm.scenes.world import Scene, draw_scene

NUM_EXAMPLES = 4
HEIGHT, THUMBNAIL_HEIGHT = 768, 96
"""Rows of a picture, in pixels; it is twice as wide."""
JPEG_QUALITY = 90
_SEED = 176
_KINDS = ("direction", "what", "colour", "nearest")
"""Kinds of questions that are offered, one of each where the scene has it."""


def scene_of(number: int) -> Scene:
    """Draw the scene of an example, the same each time."""
    return draw_scene(np.random.default_rng((_SEED, number)))


def questions(number: int) -> list[str]:
    """Draw questions about an example, each of another kind."""
    first: dict[str, str] = {}
    for question in ask_all(scene_of(number), np.random.default_rng((_SEED, number, 1))):
        first.setdefault(question.kind, question.text)
    return [first[kind] for kind in _KINDS if kind in first]


@lru_cache(maxsize=2 * NUM_EXAMPLES)
def picture(number: int, height: int) -> bytes:
    """Draw an example's panorama as a JPEG of a number of rows."""
    file = io.BytesIO()
    image = Image.fromarray(render(scene_of(number), height))
    image.save(file, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
    return file.getvalue()
