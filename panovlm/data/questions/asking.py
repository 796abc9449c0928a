"""Questions whose answers are functions of what stands around a camera.

Because an answer is a function of the surroundings, the same question gets its right answer for
every yaw-rotated picture. An empty answer means that there is none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from panovlm.data.annotations import Sighting
from panovlm.data.questions.nouns import plural, with_article
from panovlm.data.questions.surroundings import Surroundings, is_wide, names
from panovlm.geometry.sphere import DIRECTIONS, wrap_deg

LISTING_REQUEST = "List what is in each direction."
AHEAD_AND_BEHIND = {"front": "in front of me", "back": "behind me"}
PLACES = tuple(AHEAD_AND_BEHIND.get(word, f"to my {word}") for word in DIRECTIONS)
"""The eight directions of `DIRECTIONS`, seen from oneself."""
LEAST_GAP_DEG = 4.0
"""Which of two things comes next is certain if their middles are that far apart."""
LEAST_RATIO = 1.2
"""Which of two things is nearer is certain if their distances have that ratio."""
Choice = TypeVar("Choice")
Seen = TypeVar("Seen")
Other = TypeVar("Other")


@dataclass(frozen=True)
class Question(Generic[Seen]):
    """A question about what is seen.

    Attributes:
        kind: What it tests: direction, what, colour, existence, count, turn, opposite, nearest or
            text.
        text: The question as asked.
        answer: Returns the right answer for any yaw-rotated version of what is seen.
        subject: Label of the only thing with it that the question is about, None if there is none.
    """

    kind: str
    text: str
    answer: Callable[[Seen], str]
    subject: str | None = None

    def about(self, convert: "Callable[[Other], Seen]") -> "Question[Other]":
        """Return the same question about what `convert` makes of something else."""
        return Question(self.kind, self.text, lambda o: self.answer(convert(o)), self.subject)

    def record(
        self,
        image: str,
        responses: Sequence[str | None],
        about: Sighting | None,
        crosses_seam: bool,
    ) -> dict[str, Any]:
        """Return the question as a file of records holds it.

        Args:
            image: The picture, relative to the file.
            responses: The right ones after yaw rotations all around, evenly spaced; the first is
                that without a rotation, and None stands where none is certain.
            about: The one thing that is asked about.
            crosses_seam: Whether the picture's left and right edge cut through it.
        """
        user = {"role": "user", "content": self.text}
        return {
            "image": image,
            "messages": [user, {"role": "assistant", "content": responses[0]}],
            "rolled_responses": list(responses),
            "kind": self.kind,
            "yaw_deg": about and about.yaw_deg,
            "pitch_deg": about and about.pitch_deg,
            "crosses_seam": crosses_seam,
        }


Asked = list[Question[Surroundings]]
Asker = Callable[[Surroundings, np.random.Generator], Asked]


def pick(rng: np.random.Generator, *choices: Choice) -> Choice:
    """Sample one of several."""
    return choices[int(rng.integers(len(choices)))]


def some(rng: np.random.Generator, things: list[Choice], most: int) -> list[Choice]:
    """Sample at most so many, in random order."""
    return [things[i] for i in rng.permutation(len(things))[:most]]


def noun_of(thing: Sighting) -> str:
    """Return what a thing is apart from its colour: its shape, or else its label."""
    return thing.attributes.get("shape", thing.label)


def counting(
    rng: np.random.Generator, nouns: str, is_counted: Callable[[Sighting], bool]
) -> Question[Surroundings]:
    """Ask how many there are of something, named in the plural."""
    text = pick(rng, f"How many {nouns} are there?", f"How many {nouns} do I see?")
    return Question("count", text, lambda s: str(sum(map(is_counted, s.things))))


def _labels(seen: Surroundings) -> list[str]:
    """Return each label that is there once."""
    return list(dict.fromkeys(thing.label for thing in seen.things))


def _single(seen: Surroundings) -> list[Sighting]:
    """Return the things that their labels tell apart and that have a single direction."""
    only = (seen.only(label) for label in _labels(seen))
    return [thing for thing in only if thing and not is_wide(thing)]


def _ask_direction(seen: Surroundings, rng: np.random.Generator) -> Asked:
    def ask(label: str) -> Question[Surroundings]:
        text = pick(rng, f"Where is the {label}?", f"In which direction is the {label}?")
        return Question("direction", text, lambda s: _direction(s, s.only(label)), label)

    return [ask(thing.label) for thing in some(rng, _single(seen), 4)]


def _direction(seen: Surroundings, thing: Sighting | None) -> str:
    return DIRECTIONS[seen.direction_of(thing)] if thing else ""


def _ask_what(seen: Surroundings, rng: np.random.Generator) -> Asked:
    def ask(sector: int) -> Question[Surroundings]:
        text = pick(rng, f"What is {PLACES[sector]}?", f"What do I see {PLACES[sector]}?")
        things = seen.by_direction[sector]
        subject = things[0].label if len(things) == 1 and seen.only(things[0].label) else None
        return Question("what", text, lambda s: names(s.by_direction[sector]), subject)

    filled = [i for i, things in enumerate(seen.by_direction) if things]
    empty = [i for i, things in enumerate(seen.by_direction) if not things]
    sectors = some(rng, filled, 3) + ([int(rng.choice(empty))] if empty else [])
    return [ask(sector) for sector in sectors]


def _ask_colour(seen: Surroundings, rng: np.random.Generator) -> Asked:
    def ask(thing: Sighting) -> Question[Surroundings]:
        noun = noun_of(thing)
        text = pick(rng, f"What colour is the {noun}?", f"Which colour does the {noun} have?")
        subject = thing.label if seen.only(thing.label) else None
        return Question("colour", text, lambda s: _colour(s, noun), subject)

    coloured = [thing for thing in seen.things if "colour" in thing.attributes]
    alone = [thing for thing in some(rng, coloured, 6) if _colour(seen, noun_of(thing))]
    return [ask(thing) for thing in alone[:2]]


def _colour(seen: Surroundings, noun: str) -> str:
    found = [thing for thing in seen.things if noun_of(thing) == noun]
    return found[0].attributes.get("colour", "") if len(found) == 1 else ""


def _ask_existence(seen: Surroundings, rng: np.random.Generator) -> Asked:
    def ask(label: str) -> Question[Surroundings]:
        name = with_article(label)
        text = pick(rng, f"Is there {name}?", f"Do I see {name}?")
        subject = label if seen.only(label) else None
        return Question("existence", text, lambda s: "yes" if s.named(label) else "no", subject)

    labels = some(rng, _labels(seen), 1)
    asked = [ask(label) for label in labels]
    absent = absent_label(seen, labels[0], rng) if labels else None
    return [*asked, ask(absent)] if absent else []  # "yes" alone would be no question


def absent_label(seen: Surroundings, near: str, rng: np.random.Generator) -> str | None:
    """Sample a label that is certainly not there; None if no label is.

    Args:
        seen: Where some labels have weights, they decide; else labels that share their first or
            last word with `near` come before others.
        near: A label that is there.
        rng: Source of the random numbers.
    """
    absent = [label for label in seen.vocabulary or () if not seen.named(label)]
    weighted = [label for label in absent if seen.weights.get(label)]
    if weighted:
        weights = np.array([seen.weights[label] for label in weighted])
        return str(rng.choice(weighted, p=weights / weights.sum()))
    first, *_, last = near.split() * 2
    alike = [label for label in absent if label.split()[0] == first]
    alike += [label for label in absent if label.split()[-1] == last]
    candidates = alike or absent
    return candidates[int(rng.integers(len(candidates)))] if candidates else None


def _ask_count(seen: Surroundings, rng: np.random.Generator) -> Asked:
    labels = some(rng, _labels(seen), 2)
    absent = absent_label(seen, labels[0], rng) if labels else None
    return [_counting_label(rng, label) for label in [*labels, absent] if label]


def _counting_label(rng: np.random.Generator, label: str) -> Question[Surroundings]:
    return counting(rng, plural(label), lambda thing: thing.label == label)


def _ask_turn(seen: Surroundings, rng: np.random.Generator) -> Asked:
    def ask(label: str, side: str, step: int) -> Question[Surroundings]:
        text = pick(
            rng,
            f"I look at the {label} and turn {side}. What do I see next?",
            f"What comes next to the {side} of the {label}?",
        )
        return Question("turn", text, lambda s: _next(s, s.only(label), step), label)

    single = some(rng, _single(seen), 2)
    if not single or len(seen.things) < 2:
        return []
    return [ask(single[0].label, "right", 1), ask(single[-1].label, "left", -1)]


def _next(seen: Surroundings, start: Sighting | None, step: int) -> str:
    """Answer which thing comes next, where no other is about as near."""
    if start is None or len(seen.things) < 2:
        return ""
    others = [thing for thing in seen.things if thing is not start]
    gaps = sorted(
        ((step * (thing.yaw_deg - start.yaw_deg) % 360.0, thing) for thing in others),
        key=lambda pair: pair[0],
    )
    least, found = gaps[0]
    rivals = [gap for gap, thing in gaps if thing.label != found.label]
    is_clear = all(gap - least >= LEAST_GAP_DEG for gap in rivals)
    is_apart = least >= LEAST_GAP_DEG and gaps[-1][0] <= 360.0 - LEAST_GAP_DEG
    if not is_clear or not is_apart or is_wide(found):
        return ""
    return f"{_from_to(seen, start, seen.direction_of(found))}: {found.label}"


def _from_to(seen: Surroundings, start: Sighting, sector: int) -> str:
    """Return a thing's direction and another one, "left to back".

    One after the other, each is a single step of reasoning; all at once, they are hard to learn.
    """
    return f"{_direction(seen, start)} to {DIRECTIONS[sector]}"


def _ask_opposite(seen: Surroundings, rng: np.random.Generator) -> Asked:
    def ask(label: str) -> Question[Surroundings]:
        text = pick(rng, f"What is opposite the {label}?", f"What is across from the {label}?")
        return Question("opposite", text, lambda s: _opposite(s, s.only(label)), label)

    certain = [thing for thing in _single(seen) if _opposite(seen, thing)]
    across = [thing for thing in certain if seen.by_direction[_facing(seen, thing)]]
    alone = [thing for thing in certain if thing not in across]
    chosen = [pick(rng, *group) for group in (across, alone) if group]
    return [ask(thing.label) for thing in chosen]


def _opposite(seen: Surroundings, start: Sighting | None) -> str:
    """Answer what is in the sector opposite, where just that is within half a sector of opposite.

    Things may stand off the centre of their sectors to different sides: then the one in the
    opposite sector may be farther from opposite than one in the sector beside it.
    """
    if start is None:
        return ""
    opposite = seen.by_direction[_facing(seen, start)]
    near = [
        thing
        for thing in seen.things
        if abs(wrap_deg(thing.yaw_deg - start.yaw_deg - 180.0)) < 22.5
    ]
    if {id(thing) for thing in near} != {id(thing) for thing in opposite}:
        return ""
    return f"{_from_to(seen, start, _facing(seen, start))}: {names(opposite)}"


def _facing(seen: Surroundings, thing: Sighting) -> int:
    """Return the sector opposite a thing."""
    return (seen.direction_of(thing) + 4) % 8


def _ask_nearest(seen: Surroundings, rng: np.random.Generator) -> Asked:
    """Ask only where one thing is nearer than all others."""
    nearest = _nearest(seen)
    if not nearest:
        return []
    text = pick(rng, "Which object is nearest?", "What is the nearest object?")
    return [Question("nearest", text, _nearest, nearest if seen.only(nearest) else None)]


def _nearest(seen: Surroundings) -> str:
    distances = [(t.distance_m, t.label) for t in seen.things if t.distance_m is not None]
    if len(distances) < max(2, len(seen.things)):
        return ""
    (nearest_m, label), (second_m, _) = sorted(distances)[:2]
    return label if second_m >= LEAST_RATIO * nearest_m else ""


def _ask_text(seen: Surroundings, rng: np.random.Generator) -> Asked:
    def ask_what(sector: int) -> Question[Surroundings]:
        thing = _readable(seen, sector)[0]
        text = pick(
            rng,
            f"What does the {thing.label} {PLACES[sector]} say?",
            f"What can I read {PLACES[sector]}?",
        )
        return Question("text", text, lambda s: _text(s, sector))

    def ask_where(words: str) -> Question[Surroundings]:
        text = pick(rng, f'Where do I read "{words}"?', f'In which direction is "{words}"?')
        return Question("direction", text, lambda s: _place_of_text(s, words))

    single = [i for i in range(len(DIRECTIONS)) if _text(seen, i)]
    readable = list(dict.fromkeys(thing.text for thing in seen.things if thing.text))
    asked = [ask_what(sector) for sector in some(rng, single, 2)]
    return asked + [ask_where(words) for words in some(rng, readable, 2)]


def _readable(seen: Surroundings, sector: int) -> list[Sighting]:
    return [thing for thing in seen.by_direction[sector] if thing.text]


def _text(seen: Surroundings, sector: int) -> str:
    found = _readable(seen, sector)
    return found[0].text or "" if len(found) == 1 else ""


def _place_of_text(seen: Surroundings, words: str) -> str:
    found = [thing for thing in seen.things if thing.text == words]
    return _direction(seen, found[0]) if len(found) == 1 else ""


def ask_all(
    seen: Surroundings, rng: np.random.Generator, ask_count: Asker = _ask_count
) -> list[Question[Surroundings]]:
    """Sample questions: one to four of each kind that there is something to ask of.

    Args:
        seen: What they are about.
        rng: Source of the random numbers.
        ask_count: Asks how many there are.
    """
    askers: tuple[Asker, ...] = (
        _ask_direction,
        _ask_what,
        _ask_colour,
        _ask_existence,
        ask_count,
        _ask_turn,
        _ask_opposite,
        _ask_nearest,
        _ask_text,
    )
    return [question for ask in askers for question in ask(seen, rng)]
