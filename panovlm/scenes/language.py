"""Texts about a scene: its dense listing and questions, by the one writer of questions.

A scene is an annotation with certainty: `surroundings` is what `panovlm.data.questions` reads.
"""

from functools import lru_cache

import numpy as np

from panovlm.data.annotations import Sighting
from panovlm.data.questions import asking
from panovlm.data.questions.asking import Asked, Question, counting, pick, some
from panovlm.data.questions.surroundings import Surroundings
from panovlm.data.questions.surroundings import listing as listing_of
from panovlm.scenes.world import COLOURS, SHAPES, Scene, Solid

NAMES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
"""Every solid that could be there."""


@lru_cache(maxsize=64)
def surroundings(scene: Scene) -> Surroundings:
    """Return a scene as the writer of questions reads it; all is certain."""
    return Surroundings.of([sighting(scene, solid) for solid in scene.solids], NAMES)


def sighting(scene: Scene, solid: Solid) -> Sighting:
    """Return a solid as an annotation has it; its height is that of its axis."""
    low, high = (
        np.degrees(np.arctan2(height_m - scene.camera_height_m, solid.distance_m))
        for height_m in (0.0, solid.size_m)
    )
    return Sighting(
        label=solid.name,
        yaw_deg=solid.yaw_deg,
        pitch_deg=scene.pitch_deg(solid),
        width_deg=2 * solid.half_width_deg,
        height_deg=float(high - low),
        distance_m=solid.distance_m,
        attributes={"colour": solid.colour, "shape": solid.shape},
    )


def listing(scene: Scene) -> str:
    """Return what stands in each of the eight directions, a line each, clockwise from the front."""
    return listing_of(surroundings(scene))


def ask_all(scene: Scene, rng: np.random.Generator) -> list[Question[Scene]]:
    """Sample questions about a scene: one to four of each kind that has a certain answer."""
    asked = asking.ask_all(surroundings(scene), rng, _ask_count)
    return [question.about(surroundings) for question in asked]


def _ask_count(seen: Surroundings, rng: np.random.Generator) -> Asked:
    """Ask how many solids there are, of one shape and of one shape or colour more."""
    thing = some(rng, list(seen.things), 1)[0].attributes
    colour = rng.choice(list(COLOURS))
    shape = rng.choice([shape for shape in SHAPES if shape != thing["shape"]])
    return [
        counting(rng, "objects", lambda _: True),
        counting(rng, f"{thing['shape']}s", lambda s: s.attributes["shape"] == thing["shape"]),
        pick(
            rng,
            counting(rng, f"{shape}s", lambda s: s.attributes["shape"] == shape),
            counting(rng, f"{colour} objects", lambda s: s.attributes["colour"] == colour),
            counting(
                rng,
                f"{thing['colour']} objects",
                lambda s: s.attributes["colour"] == thing["colour"],
            ),
        ),
    ]
