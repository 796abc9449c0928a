"""Rendered panoramas to try the page with: rendered as the server starts, never stored."""

import io
from functools import cache
from threading import Lock

import numpy as np
from PIL import Image

from panovlm.scenes.language import ask_all
from panovlm.scenes.render import render
from panovlm.scenes.world import Scene, sample_scene

NUM_EXAMPLES = 4
HEIGHT, THUMBNAIL_HEIGHT = 768, 96
"""Rows of a picture, in pixels; it is twice as wide."""
_SEED = 176
_KINDS = ("direction", "what", "colour", "nearest")
"""Kinds of questions that are offered, one of each where the scene has it."""
_RENDERING = Lock()
"""No picture is rendered twice because it is requested while it is rendered."""


def scene_of(number: int) -> Scene:
    """Return the scene of an example, the same each time."""
    return sample_scene(np.random.default_rng((_SEED, number)))


@cache
def questions(number: int) -> tuple[str, ...]:
    """Return questions about an example, each of another kind."""
    asked = ask_all(scene_of(number), np.random.default_rng((_SEED, number, 1)))
    first = {question.kind: question.text for question in reversed(asked)}
    return tuple(first[kind] for kind in _KINDS if kind in first)


def render_all() -> None:
    """Render all pictures, the small ones first: visitors choose by them."""
    for height in (THUMBNAIL_HEIGHT, HEIGHT):
        for number in range(NUM_EXAMPLES):
            picture(number, height)


def picture(number: int, height: int) -> bytes:
    """Return an example's panorama as a JPEG of a number of rows, rendered at most once."""
    with _RENDERING:
        return _rendered(number, height)


@cache
def _rendered(number: int, height: int) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(render(scene_of(number), height))
    image.save(file, "JPEG", quality=90, subsampling="4:4:4")
    return file.getvalue()
