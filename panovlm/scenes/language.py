"""Texts about a scene: its dense listing, and questions whose answers are functions of it.

Because an answer is a function of the scene, the same question gets its right answer for every
yaw-rotated picture; rotation consistency is measured with these.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from panovlm.geometry.sphere import DIRECTIONS, wrap_deg
from panovlm.scenes.world import COLOURS, SHAPES, Scene, Solid

LISTING_REQUEST = "List what is in each direction."
NOTHING = "nothing"
Choice = TypeVar("Choice")
AHEAD_AND_BEHIND = {"front": "in front of me", "back": "behind me"}
PLACES = tuple(AHEAD_AND_BEHIND.get(word, f"to my {word}") for word in DIRECTIONS)
"""The eight directions of `DIRECTIONS`, seen from oneself."""


@dataclass(frozen=True)
class Question:
    """A question about a scene.

    Attributes:
        kind: What it tests: direction, what, colour, existence, count, turn, opposite or nearest.
        text: The question as asked.
        answer: Returns the right answer for any yaw-rotated version of the scene.
        subject: Name of the solid the question is about, None if there is no single one.
    """

    kind: str
    text: str
    answer: Callable[[Scene], str]
    subject: str | None = None


def listing(scene: Scene) -> str:
    """Return what stands in each of the eight directions, a line each, clockwise from the front."""
    lines = zip(DIRECTIONS, scene.by_sector(), strict=True)
    return "\n".join(f"{direction}: {describe(solid)}" for direction, solid in lines)


def describe(solid: Solid | None) -> str:
    """Return a solid's name with its distance, or that there is nothing."""
    return NOTHING if solid is None else f"{solid.name} {solid.distance_m} m"


def ask_all(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Sample questions about a scene: one to four of each kind that has a certain answer."""
    return [question for ask in ASKERS for question in ask(scene, rng)]


def _pick(rng: np.random.Generator, *choices: Choice) -> Choice:
    return choices[int(rng.integers(len(choices)))]


def _some(rng: np.random.Generator, scene: Scene, most: int) -> list[Solid]:
    return [scene.solids[i] for i in rng.permutation(len(scene.solids))[:most]]


def _name(solid: Solid | None) -> str:
    return NOTHING if solid is None else solid.name


def _a(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _find(scene: Scene, name: str) -> Solid:
    return next(solid for solid in scene.solids if solid.name == name)


def _ask_direction(scene: Scene, rng: np.random.Generator) -> list[Question]:
    def ask(name: str) -> Question:
        text = _pick(rng, f"Where is the {name}?", f"In which direction is the {name}?")
        return Question("direction", text, lambda s: DIRECTIONS[_find(s, name).sector], name)

    return [ask(solid.name) for solid in _some(rng, scene, 4)]


def _ask_what(scene: Scene, rng: np.random.Generator) -> list[Question]:
    def ask(sector: int) -> Question:
        text = _pick(rng, f"What is {PLACES[sector]}?", f"What do I see {PLACES[sector]}?")
        solid = scene.by_sector()[sector]
        subject = solid.name if solid else None
        return Question("what", text, lambda s: _name(s.by_sector()[sector]), subject)

    empty = [i for i, solid in enumerate(scene.by_sector()) if solid is None]
    sectors = [solid.sector for solid in _some(rng, scene, 3)] + [int(rng.choice(empty))]
    return [ask(sector) for sector in sectors]


def _ask_colour(scene: Scene, rng: np.random.Generator) -> list[Question]:
    def ask(shape: str, name: str) -> Question:
        text = _pick(rng, f"What colour is the {shape}?", f"Which colour does the {shape} have?")
        return Question("colour", text, lambda s: _find(s, name).colour, name)

    shapes = [solid.shape for solid in scene.solids]
    alone = [solid for solid in _some(rng, scene, 6) if shapes.count(solid.shape) == 1]
    return [ask(solid.shape, solid.name) for solid in alone[:2]]


def _ask_existence(scene: Scene, rng: np.random.Generator) -> list[Question]:
    def ask(name: str) -> Question:
        text = _pick(rng, f"Is there {_a(name)}?", f"Do I see {_a(name)}?")
        there = [solid.name for solid in scene.solids]
        subject = name if name in there else None
        return Question("existence", text, lambda s: _yes_no(s, name), subject)

    present = _some(rng, scene, 1)[0]
    return [ask(present.name), ask(_absent_name(scene, present, rng))]


def _yes_no(scene: Scene, name: str) -> str:
    return "yes" if any(solid.name == name for solid in scene.solids) else "no"


def _absent_name(scene: Scene, near: Solid, rng: np.random.Generator) -> str:
    """Sample a name that is not there but shares its colour or shape with a solid that is."""
    same_colour = [f"{near.colour} {shape}" for shape in SHAPES]
    same_shape = [f"{colour} {near.shape}" for colour in COLOURS]
    there = {solid.name for solid in scene.solids}
    absent = [name for name in same_colour + same_shape if name not in there]
    return absent[int(rng.integers(len(absent)))]


def _ask_count(scene: Scene, rng: np.random.Generator) -> list[Question]:
    def ask(noun: str, counted: Callable[[Solid], bool]) -> Question:
        text = _pick(rng, f"How many {noun} are there?", f"How many {noun} do I see?")
        return Question("count", text, lambda s: str(sum(map(counted, s.solids))))

    seen = _some(rng, scene, 1)[0]
    colour = rng.choice(list(COLOURS))
    shape = rng.choice([shape for shape in SHAPES if shape != seen.shape])
    return [
        ask("objects", lambda _: True),
        ask(f"{seen.shape}s", lambda solid: solid.shape == seen.shape),
        _pick(
            rng,
            ask(f"{shape}s", lambda solid: solid.shape == shape),
            ask(f"{colour} objects", lambda solid: solid.colour == colour),
            ask(f"{seen.colour} objects", lambda solid: solid.colour == seen.colour),
        ),
    ]


def _ask_turn(scene: Scene, rng: np.random.Generator) -> list[Question]:
    def ask(solid: Solid, side: str, step: int) -> Question:
        text = _pick(
            rng,
            f"I look at the {solid.name} and turn {side}. What do I see next?",
            f"What comes next to the {side} of the {solid.name}?",
        )
        return Question("turn", text, lambda s: _next(s, solid.name, step), solid.name)

    solids = _some(rng, scene, 2)
    return [ask(solids[0], "right", 1), ask(solids[-1], "left", -1)]


def _next(scene: Scene, name: str, step: int) -> str:
    place = scene.solids.index(_find(scene, name))
    return _from_to(scene, name, scene.solids[(place + step) % len(scene.solids)].sector)


def _from_to(scene: Scene, name: str, sector: int) -> str:
    """Return a solid's direction, another one and what stands there, "left to back: red cone".

    One after the other, each is a single step of reasoning; all at once, they are hard to learn.
    """
    start, end = DIRECTIONS[_find(scene, name).sector], DIRECTIONS[sector]
    return f"{start} to {end}: {_name(scene.by_sector()[sector])}"


def _ask_opposite(scene: Scene, rng: np.random.Generator) -> list[Question]:
    def ask(name: str) -> Question:
        text = _pick(rng, f"What is opposite the {name}?", f"What is across from the {name}?")
        return Question("opposite", text, lambda s: _from_to(s, name, _facing(s, name)), name)

    certain = [solid for solid in scene.solids if _opposite_is_certain(scene, solid)]
    across = [solid for solid in certain if scene.by_sector()[_facing(scene, solid.name)]]
    alone = [solid for solid in certain if solid not in across]
    chosen = [_pick(rng, *group) for group in (across, alone) if group]
    return [ask(solid.name) for solid in chosen]


def _opposite_is_certain(scene: Scene, solid: Solid) -> bool:
    """Return whether the opposite sector holds just what stands within half a sector of opposite.

    Solids may stand off the centre of their sectors to different sides: then the one in the
    opposite sector may be farther from opposite than one in the sector beside it.
    """
    near = [
        other.name
        for other in scene.solids
        if abs(wrap_deg(other.yaw_deg - solid.yaw_deg - 180.0)) < 22.5
    ]
    opposite = scene.by_sector()[_facing(scene, solid.name)]
    return near == ([opposite.name] if opposite else [])


def _facing(scene: Scene, name: str) -> int:
    """Return the sector opposite a solid."""
    return (_find(scene, name).sector + 4) % 8


def _ask_nearest(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Ask only where one solid is nearer than all others."""
    nearest, second = sorted(scene.solids, key=lambda solid: solid.distance_m)[:2]
    if nearest.distance_m == second.distance_m:
        return []
    text = _pick(rng, "Which object is nearest?", "What is the nearest object?")
    return [Question("nearest", text, _nearest, nearest.name)]


def _nearest(scene: Scene) -> str:
    return min(scene.solids, key=lambda solid: solid.distance_m).name


ASKERS: tuple[Callable[[Scene, np.random.Generator], list[Question]], ...] = (
    _ask_direction,
    _ask_what,
    _ask_colour,
    _ask_existence,
    _ask_count,
    _ask_turn,
    _ask_opposite,
    _ask_nearest,
)
"""One function for each kind of question."""
