"""What stands around a camera, by direction; and the dense listing of it.

A listing has a line for each of the eight directions, clockwise from the front, "front: car 7 m,
person" or "front: nothing". A thing is in the direction of its middle; one that covers more than
two directions is in every one whose centre it covers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from panovlm.data.annotations import Sighting
from panovlm.geometry.sphere import DIRECTIONS, direction_index, wrap_deg
from panovlm.metrics.listings import NOTHING

MAX_LISTED = 4
"""Labels in one direction of a listing: those of the biggest things."""
WIDE_DEG = 90.0
"""A thing that covers more yaw than that has no single direction."""
_SECTOR_DEG = 45.0


@dataclass(frozen=True)
class Surroundings:
    """Things around a camera.

    Attributes:
        things: Clockwise.
        vocabulary: Labels of which it is certain that none is there beside `things`; None where
            that is known of no label.
        weights: How often to ask of each label where it is absent; empty asks of labels that are
            like one that is there.
        yaw_shift_deg: By how much the camera has turned right since `things` were seen.
    """

    things: tuple[Sighting, ...]
    vocabulary: tuple[str, ...] | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    yaw_shift_deg: float = 0.0

    @classmethod
    def of(
        cls,
        things: Sequence[Sighting],
        vocabulary: Sequence[str] | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> "Surroundings":
        """Return things in any order, seen from where they were seen."""
        clockwise = sorted(things, key=lambda thing: (thing.yaw_deg + _SECTOR_DEG / 2) % 360.0)
        known = None if vocabulary is None else tuple(vocabulary)
        return cls(tuple(clockwise), known, weights or {})

    def yaw_rotated(self, yaw_shift_deg: float) -> "Surroundings":
        """Return the same after the camera has turned right by `yaw_shift_deg`."""
        return replace(self, yaw_shift_deg=self.yaw_shift_deg + yaw_shift_deg)

    def direction_of(self, thing: Sighting) -> int:
        """Return the index into `DIRECTIONS` of the sector that a thing's middle is in."""
        return direction_index(thing.yaw_deg - self.yaw_shift_deg)

    @cached_property
    def by_direction(self) -> list[list[Sighting]]:
        """The things in each of the eight directions, from left to right."""
        sectors: list[list[tuple[float, str, Sighting]]] = [[] for _ in DIRECTIONS]
        for thing in self.things:
            for sector in self._directions_of(thing):
                offset_deg = wrap_deg(thing.yaw_deg - self.yaw_shift_deg - _SECTOR_DEG * sector)
                # By label where two are one above the other: rounding is not to decide.
                sectors[sector].append((round(offset_deg, 6), thing.label, thing))
        return [[t for *_, t in sorted(each, key=lambda e: e[:2])] for each in sectors]

    def _directions_of(self, thing: Sighting) -> set[int]:
        directions = {self.direction_of(thing)}
        if is_wide(thing):
            directions |= {
                sector
                for sector in range(len(DIRECTIONS))
                if abs(wrap_deg(thing.yaw_deg - self.yaw_shift_deg - _SECTOR_DEG * sector))
                <= thing.yaw_width_deg / 2
            }
        return directions

    def named(self, label: str) -> list[Sighting]:
        """Return all things with a label."""
        return [thing for thing in self.things if thing.label == label]

    def only(self, label: str) -> Sighting | None:
        """Return the thing with a label, None if there is not exactly one."""
        found = self.named(label)
        return found[0] if len(found) == 1 else None


def is_wide(thing: Sighting) -> bool:
    """Return whether a thing covers so much yaw that it has no single direction."""
    return thing.yaw_width_deg > WIDE_DEG


def listing(seen: Surroundings) -> str:
    """Return what is in each of the eight directions, a line each, clockwise from the front."""
    lines = zip(DIRECTIONS, seen.by_direction, strict=True)
    return "\n".join(f"{word}: {described(things)}" for word, things in lines)


def described(things: Sequence[Sighting]) -> str:
    """Return the things of one direction with their distances, each label once."""
    return ", ".join(map(_with_distance, _listed(things))) or NOTHING


def names(things: Sequence[Sighting]) -> str:
    """Return the things of one direction as a listing has them, without distances."""
    return ", ".join(thing.label for thing in _listed(things)) or NOTHING


def _listed(things: Sequence[Sighting]) -> list[Sighting]:
    """Return the biggest thing of each label, at most `MAX_LISTED`, in the order given."""
    biggest: dict[str, Sighting] = {}
    for thing in sorted(things, key=lambda thing: -thing.width_deg * thing.height_deg):
        biggest.setdefault(thing.label, thing)
    kept = list(biggest.values())[:MAX_LISTED]
    return [thing for thing in things if any(thing is each for each in kept)]


def _with_distance(thing: Sighting) -> str:
    if thing.distance_m is None:
        return thing.label
    return f"{thing.label} {max(1, round(thing.distance_m))} m"
