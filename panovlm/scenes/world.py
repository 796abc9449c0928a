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
"""The most typical colour of each name; a solid's own lies around it (`look.JITTERS`)."""
DISTANCES_M = (2, 3, 5, 7)
CAMERA_HEIGHT_M = 1.6
"""Height of the camera of a scene that does not say its own."""
CAMERA_HEIGHTS_M = (1.45, 1.75)
"""Lowest and highest camera of a sampled scene: held by hand or on a tripod."""
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
        look_seed: Seed of the ground, the sky, the light, the tones of the solids and all else
            that `look.py` varies; no question is about them.
        camera_height_m: Of the camera above the ground.
    """

    solids: tuple[Solid, ...]
    look_seed: int
    camera_height_m: float = CAMERA_HEIGHT_M

    def yaw_rotated(self, yaw_shift_deg: float) -> "Scene":
        """Return the scene as seen after the camera has turned right by `yaw_shift_deg`."""
        rotated = (replace(s, yaw_deg=wrap_deg(s.yaw_deg - yaw_shift_deg)) for s in self.solids)
        return replace(self, solids=tuple(sorted(rotated, key=lambda s: s.sector)))

    def pitch_deg(self, solid: Solid) -> float:
        """Compute how far above the horizon the middle of a solid is: halfway up, on its axis."""
        above_m = solid.size_m / 2 - self.camera_height_m
        return float(np.degrees(np.arctan2(above_m, solid.distance_m)))

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
        """Read what `to_json` wrote, also before scenes had camera heights of their own."""
        return cls(**{**data, "solids": tuple(Solid(**solid) for solid in data["solids"])})


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
            look_seed = int(rng.integers(2**31))
            return Scene(solids, look_seed, float(rng.uniform(*CAMERA_HEIGHTS_M)))


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
