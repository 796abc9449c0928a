"""A scene: coloured solids on the ground around the camera, with exactly known directions.

A scene is pure data. It can be sampled at random, yaw-rotated, written as JSON, rendered
(`render.py`) and asked about (`language.py`); every answer is a function of the scene.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from panovlm.geometry.sphere import direction_index, wrap_deg

SHAPES = ("sphere", "cube", "cylinder", "cone")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 30, 35),
    "orange": (245, 130, 20),
    "yellow": (240, 220, 30),
    "green": (30, 150, 50),
    "cyan": (40, 205, 215),
    "blue": (35, 60, 200),
    "purple": (130, 45, 165),
    "white": (245, 245, 245),
}
DISTANCES_M = (2, 3, 5, 7)
CAMERA_HEIGHT_M = 1.6
MAX_OFFSET_DEG = 14.0
"""Largest yaw from a solid to the centre of its sector: every direction word is certain."""


@dataclass(frozen=True)
class Solid:
    """One coloured solid standing on the ground.

    Attributes:
        shape: One of `SHAPES`.
        colour: A key of `COLOURS`.
        yaw_deg: Direction of its centre, in (-180, 180].
        distance_m: From the camera's foot to the centre of its base.
        size_m: Diameter of a sphere, edge of a cube, height and base diameter of the others.
        spin_deg: Rotation about its vertical axis, 0 facing the camera; only a cube shows it.
    """

    shape: str
    colour: str
    yaw_deg: float
    distance_m: int
    size_m: float
    spin_deg: float = 0.0

    @property
    def name(self) -> str:
        """Colour and shape, as in "red sphere"."""
        return f"{self.colour} {self.shape}"

    @property
    def sector(self) -> int:
        """Index into `DIRECTIONS` of the sector it stands in."""
        return direction_index(self.yaw_deg)

    @property
    def pitch_deg(self) -> float:
        """How far above the horizon its middle is: halfway up, on its axis."""
        return float(np.degrees(np.arctan2(self.size_m / 2 - CAMERA_HEIGHT_M, self.distance_m)))

    @property
    def yaw_span_deg(self) -> tuple[float, float]:
        """Left and right edge of the yaw it covers, as (negative, positive) offsets from `yaw_deg`.

        Exact: a vertical plane through the camera touches a round solid at asin(radius / distance)
        from its centre, and a cube at one of its upright edges.
        """
        if self.shape != "cube":
            half = float(np.degrees(np.arcsin(self.size_m / 2 / self.distance_m)))
            return -half, half
        edges_rad = np.radians(self.spin_deg + 45.0 + 90.0 * np.arange(4))
        across, along = np.array([np.cos(edges_rad), np.sin(edges_rad)]) * self.size_m / np.sqrt(2)
        offsets_deg = np.degrees(np.arctan2(across, self.distance_m + along))
        return float(offsets_deg.min()), float(offsets_deg.max())

    @property
    def half_width_deg(self) -> float:
        """Largest yaw from its centre to either of its edges."""
        left, right = self.yaw_span_deg
        return max(-left, right)

    @property
    def crosses_seam(self) -> bool:
        """Whether the left and right edge of the panorama cut through it."""
        left, right = self.yaw_span_deg
        return self.yaw_deg + left < -180.0 or self.yaw_deg + right > 180.0


@dataclass(frozen=True)
class Scene:
    """Solids in clockwise order, at most one in each 45° sector, no two of the same name.

    Attributes:
        solids: The solids, by increasing sector from the front.
        look_seed: Seed of the ground, the sky and the light; no question is about them.
    """

    solids: tuple[Solid, ...]
    look_seed: int

    def yaw_rotated(self, yaw_shift_deg: float) -> "Scene":
        """Return the scene as seen after the camera has turned right by `yaw_shift_deg`."""
        rotated = (replace(s, yaw_deg=wrap_deg(s.yaw_deg - yaw_shift_deg)) for s in self.solids)
        return Scene(tuple(sorted(rotated, key=lambda s: s.sector)), self.look_seed)

    def by_sector(self) -> list[Solid | None]:
        """Return the solid of each of the eight sectors, None where there is nothing."""
        slots: list[Solid | None] = [None] * 8
        for solid in self.solids:
            slots[solid.sector] = solid
        return slots

    def to_json(self) -> dict[str, Any]:
        """Return the scene as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Scene":
        """Read what `to_json` wrote."""
        return cls(tuple(Solid(**solid) for solid in data["solids"]), data["look_seed"])


def sample_scene(rng: np.random.Generator, colours: Sequence[str] = tuple(COLOURS)) -> Scene:
    """Sample a scene of two to six solids, every one of them in full view.

    Args:
        rng: Source of the random numbers.
        colours: At least two keys of `COLOURS` to choose from.
    """
    while True:
        num_solids = int(rng.integers(2, 7))
        sectors = np.sort(rng.choice(8, num_solids, replace=False))
        names = rng.choice(len(SHAPES) * len(colours), num_solids, replace=False)
        solids = tuple(
            _sample_solid(rng, int(s), SHAPES[n % len(SHAPES)], colours[n // len(SHAPES)])
            for s, n in zip(sectors, names, strict=True)
        )
        if not _any_overlap(solids):
            return Scene(solids, look_seed=int(rng.integers(2**31)))


def _any_overlap(solids: tuple[Solid, ...]) -> bool:
    following = solids[1:] + solids[:1]
    return any(
        abs(wrap_deg(b.yaw_deg - a.yaw_deg)) < a.half_width_deg + b.half_width_deg
        for a, b in zip(solids, following, strict=True)
    )


def _sample_solid(rng: np.random.Generator, sector: int, shape: str, colour: str) -> Solid:
    return Solid(
        shape=shape,
        colour=colour,
        yaw_deg=wrap_deg(sector * 45 + rng.uniform(-MAX_OFFSET_DEG, MAX_OFFSET_DEG)),
        distance_m=int(rng.choice(DISTANCES_M)),
        size_m=float(rng.uniform(1.1, 1.5)),
        spin_deg=float(rng.uniform(0.0, 90.0)),
    )
