"""A second renderer of scenes, to see whether a model reads pictures unlike those it learned from.

It shares nothing with the package but the data of a scene: solids are signed distance functions in
world coordinates (x right, y up, z forward, the camera above the origin), found by sphere tracing
and lit by a sun of the world with hard shadows, in linear light. Its palette, its ground and its
sky are its own too.

    python tests/scenes/second_renderer.py --scenes data/scenes --out data/second --count 200

renders the held-out scenes of a folder that `panovlm scenes` wrote, and copies their records:
`panovlm evaluate runs/demo --data data/second/test.jsonl` then asks the same questions.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from panovlm.scenes.world import Scene, Solid

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
RECORDS = ("test.jsonl", "test_listings.jsonl")

PALETTE = {
    "red": "#dc2626",
    "orange": "#f9861a",
    "yellow": "#fad015",
    "green": "#16a34a",
    "cyan": "#22d3ee",
    "blue": "#2563eb",
    "purple": "#9333ea",
    "white": "#f5f5f4",
}
GROUNDS = ("#8a8f86", "#9c8f7a", "#77736d", "#a3a39e")
SKIES = (("#5b8fd0", "#dbe7f0"), ("#8fa3b8", "#e6e6e2"), ("#6f7fa8", "#f0d9c0"))
"""(zenith, horizon)."""
MAX_STEPS, NEAR_M = 80, 5e-4
"""Steps of a ray at most, and how near to a surface it ends."""
SHININESS, HIGHLIGHT = 40.0, 0.25


@dataclass(frozen=True)
class Trace:
    """What the rays of a picture meet first.

    Attributes:
        origin: The camera, [3].
        rays: Unit vectors [n, 3].
        ids: Index of the solid each ray meets, [n]; -1 for none.
        distance_m: How far along the ray, [n]; infinite for none.
    """

    origin: Floats
    rays: Floats
    ids: Ids
    distance_m: Floats


def render_otherwise(scene: Scene, height: int) -> NDArray[np.uint8]:
    """Render a scene as an equirectangular picture [height, 2·height, 3], sampled 2×2 per pixel."""
    look = np.random.default_rng((scene.look_seed, 20))
    sun = _sample_sun(look)
    seen = trace(scene, 2 * height)
    linear = np.where(seen.rays[:, 1:2] < 0, _ground(scene, seen, sun, look), _sky(seen, look))
    for index, solid in enumerate(scene.solids):
        at = seen.ids == index
        linear[at] = _lit(scene, solid, seen, at, sun)
    pixels = linear.reshape(height, 2, 2 * height, 2, 3).mean(axis=(1, 3))
    return np.rint(255 * _encoded(np.clip(pixels, 0, 1))).astype(np.uint8)


def trace(scene: Scene, height: int) -> Trace:
    """Find what the rays through the pixels of a picture [height, 2·height] meet, row by row."""
    longitude = (np.arange(2 * height) + 0.5) * np.pi / height - np.pi
    latitude = np.pi / 2 - (np.arange(height) + 0.5) * np.pi / height
    lon, lat = (angles.ravel() for angles in np.meshgrid(longitude, latitude))
    rays = np.stack([np.cos(lat) * np.sin(lon), np.sin(lat), np.cos(lat) * np.cos(lon)], axis=1)
    origin = np.array([0.0, scene.camera_height_m, 0.0])
    ids, nearest = np.full(len(rays), -1), np.full(len(rays), np.inf)
    for index, solid in enumerate(scene.solids):
        distance = _march(solid, np.broadcast_to(origin, rays.shape), rays)
        closer = distance < nearest
        ids[closer], nearest[closer] = index, distance[closer]
    return Trace(origin, rays, ids, nearest)


def _foot(solid: Solid) -> Floats:
    """Return where a solid stands in the world."""
    yaw = np.radians(solid.yaw_deg)
    return solid.distance_m * np.array([np.sin(yaw), 0.0, np.cos(yaw)])


def _march(solid: Solid, starts: Floats, rays: Floats) -> Floats:
    """Compute how far each ray [n, 3] goes until it meets a solid, [n]; infinite if never."""
    result = np.full(len(rays), np.inf)
    to_centre = _foot(solid) + np.array([0.0, solid.size_m / 2, 0.0]) - starts
    along = np.einsum("ij,ij->i", to_centre, rays)
    reach_2 = 0.76 * solid.size_m**2  # around a cube: (√3 / 2)² = 0.75
    off_2 = np.einsum("ij,ij->i", to_centre, to_centre) - along**2
    alive = np.flatnonzero((off_2 < reach_2) & (along > -np.sqrt(reach_2)))
    half_chord = np.sqrt(reach_2 - off_2[alive])
    travelled, end = np.maximum(along[alive] - half_chord, 0.0), along[alive] + half_chord
    for _ in range(MAX_STEPS):
        gap = _distance(solid, starts[alive] + travelled[:, None] * rays[alive])
        arrived = gap < NEAR_M
        result[alive[arrived]] = travelled[arrived]
        travelled = travelled + gap
        on = ~arrived & (travelled < end)
        alive, travelled, end = alive[on], travelled[on], end[on]
    return result


def _distance(solid: Solid, points: Floats) -> Floats:
    """Compute a lower bound of the distance of points [n, 3] to a solid, negative inside."""
    local = points - _foot(solid)
    return _DISTANCES[solid.shape](local, solid)


def _to_sphere(local: Floats, solid: Solid) -> Floats:
    radius = solid.size_m / 2
    return np.asarray(np.linalg.norm(local - [0.0, radius, 0.0], axis=1) - radius)


def _to_cube(local: Floats, solid: Solid) -> Floats:
    half, turn = solid.size_m / 2, np.radians(solid.yaw_deg - solid.spin_deg)
    aside = local[:, 0] * np.cos(turn) - local[:, 2] * np.sin(turn)
    ahead = local[:, 0] * np.sin(turn) + local[:, 2] * np.cos(turn)
    excess = np.abs(np.stack([aside, local[:, 1] - half, ahead], axis=1)) - half
    return np.linalg.norm(np.maximum(excess, 0), axis=1) + np.minimum(excess.max(axis=1), 0)


def _to_cylinder(local: Floats, solid: Solid) -> Floats:
    half = solid.size_m / 2
    radial = np.hypot(local[:, 0], local[:, 2]) - half
    excess = np.stack([radial, np.abs(local[:, 1] - half) - half], axis=1)
    return np.linalg.norm(np.maximum(excess, 0), axis=1) + np.minimum(excess.max(axis=1), 0)


def _to_cone(local: Floats, solid: Solid) -> Floats:
    radial = np.hypot(local[:, 0], local[:, 2])
    slant = (2 * radial + local[:, 1] - solid.size_m) / np.sqrt(5)  # as high as its base is wide
    return np.maximum(slant, -local[:, 1])


_DISTANCES: dict[str, Callable[[Floats, Solid], Floats]] = {
    "sphere": _to_sphere,
    "cube": _to_cube,
    "cylinder": _to_cylinder,
    "cone": _to_cone,
}


def _decoded(colour: str) -> Floats:
    """Convert #rrggbb to linear light [3]."""
    srgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _encoded(linear: Floats) -> Floats:
    """Convert linear light to sRGB, both in [0, 1]."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _sample_sun(look: np.random.Generator) -> Floats:
    height, around = np.radians(look.uniform(35, 65)), look.uniform(0, 2 * np.pi)
    return np.array(
        [np.cos(height) * np.sin(around), np.sin(height), np.cos(height) * np.cos(around)]
    )


def _sunlit(scene: Scene, points: Floats, sun: Floats, but: Solid | None = None) -> Floats:
    """Compute whether the sun shines on points [n, 3], as 0 or 1, [n]; `but` casts no shadow."""
    lit = np.ones(len(points))
    for solid in scene.solids:
        if solid is not but:
            lit[np.isfinite(_march(solid, points, np.broadcast_to(sun, points.shape)))] = 0.0
    return lit


def _lit(scene: Scene, solid: Solid, seen: Trace, at: NDArray[np.bool_], sun: Floats) -> Floats:
    """Compute the linear light [n, 3] from the points of a solid: Lambert and Blinn-Phong."""
    rays = seen.rays[at]
    points = seen.origin + seen.distance_m[at, None] * rays
    steps = 1e-4 * np.eye(3)
    slopes = [_distance(solid, points + s) - _distance(solid, points - s) for s in steps]
    normals = np.stack(slopes, axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    halfway = (sun - rays) / np.linalg.norm(sun - rays, axis=1, keepdims=True)
    shine = np.einsum("ij,ij->i", normals, halfway).clip(0) ** SHININESS
    facing = (normals @ sun).clip(0) * _sunlit(scene, points, sun, but=solid)
    sky = 0.5 + 0.12 * normals[:, 1]
    diffuse = (sky + 0.6 * facing)[:, None] * _decoded(PALETTE[solid.colour])
    return diffuse + (HIGHLIGHT * shine * (facing > 0))[:, None]


def _ground(scene: Scene, seen: Trace, sun: Floats, look: np.random.Generator) -> Floats:
    """Compute the linear light [n, 3] from the ground: wavy, in the solids' shadows."""
    reach = seen.origin[1] / np.maximum(-seen.rays[:, 1], 1e-3)
    points = seen.origin + reach[:, None] * seen.rays
    points[:, 1] = 1e-3
    wave = np.sin(1.7 * points[:, 0] + 1.1 * np.sin(points[:, 2])) * np.cos(1.3 * points[:, 2])
    relief = 1 + 0.12 * wave * np.exp(-reach / 12)
    light = np.full(len(points), 0.45)
    visible = (seen.rays[:, 1] < 0) & (seen.ids < 0) & (reach < 20)
    light[~visible] += 0.55
    light[visible] += 0.55 * _sunlit(scene, points[visible], sun)
    return (relief * light)[:, None] * _decoded(GROUNDS[look.integers(len(GROUNDS))])


def _sky(seen: Trace, look: np.random.Generator) -> Floats:
    """Compute the linear light [n, 3] from the sky: a gradient without clouds."""
    zenith, horizon = map(_decoded, SKIES[look.integers(len(SKIES))])
    rise = np.sqrt(seen.rays[:, 1:2].clip(0))
    return np.asarray(horizon + rise * (zenith - horizon))


def write_second_set(scenes: Path, out: Path, count: int, height: int) -> None:
    """Render the first held-out scenes of a folder anew and copy their records.

    Args:
        scenes: Folder that `panovlm scenes` wrote.
        out: Folder to write; its pictures have the names of those in `scenes`.
        count: Number of scenes.
        height: Rows of each picture, in pixels.
    """
    lines = map(json.loads, (scenes / "scenes.jsonl").read_text().splitlines())
    held_out = [line for line in lines if line["image"].startswith("pictures/test/")][:count]
    for line in held_out:
        picture = out / line["image"]
        picture.parent.mkdir(parents=True, exist_ok=True)
        rendered = render_otherwise(Scene.from_json(line["scene"]), height)
        Image.fromarray(rendered).save(picture, quality=92, subsampling="4:4:4")
    images = {line["image"] for line in held_out}
    for name in RECORDS:
        records = (scenes / name).read_text().splitlines(keepends=True)
        kept = [record for record in records if json.loads(record)["image"] in images]
        (out / name).write_text("".join(kept))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Render held-out scenes with another renderer.")
    parser.add_argument("--scenes", type=Path, required=True, help="folder of panovlm scenes")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--count", type=int, default=200, help="scenes, the first ones")
    parser.add_argument("--height", type=int, default=512, help="rows of a picture")
    options = parser.parse_args()
    write_second_set(options.scenes, options.out, options.count, options.height)
