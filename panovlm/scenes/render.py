"""Pictures of scenes: rays cast at coloured solids on a textured ground under a sky.

Each solid is rendered in its own frame, seen from the camera at the origin: x to the right, y up, z
along the ground from the camera to the solid. Its pixels depend only on their yaw relative to the
solid, so a scene yaw-rotated by whole pixels shows the same solids, shifted.
"""

from collections.abc import Callable
from functools import lru_cache
from math import asin, atan2, ceil, floor, pi, radians, sqrt

import cv2
import numpy as np
from numpy.typing import NDArray

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import Floats, panorama_rays, rays_from_angles
from panovlm.scenes.world import CAMERA_HEIGHT_M, COLOURS, Scene, Solid

Picture = NDArray[np.uint8]
Maps = NDArray[np.float32]
Hits = tuple[Floats, Floats]
"""Distance along each ray [h, w], NaN where it misses, and the outward unit normal [h, w, 3]."""

SAMPLES_PER_SIDE = 2
AMBIENT = 0.79  # below 0.78 yellow comes nearer to orange, below 0.74 orange to red
DIFFUSE = 0.27
SHADOW_DEPTH = 0.5
SHADOW_REACH = 1.45
"""Radius at which a contact shadow ends, in radii of the solid's base."""

TEXTURE_PX = 256
TEXTURE_PX_PER_M = 32.0
FADE_DISTANCE_M = 7.0
"""Distance over which the ground's texture fades, before it gets finer than a pixel."""

GROUND_COLOURS = ((128, 122, 112), (142, 130, 110), (100, 98, 96), (112, 115, 98), (150, 146, 140))
GROUND_PATTERNS = ("plain", "checker", "stripes", "paving")
SKY_COLOURS = (
    ((70, 125, 195), (195, 213, 228)),
    ((140, 150, 162), (205, 208, 211)),
    ((90, 100, 150), (232, 196, 160)),
    ((110, 160, 205), (222, 226, 224)),
)
"""(zenith, horizon) of each kind of sky."""
CLOUD_COLOUR = np.array((238, 238, 240), np.float32)


def render(scene: Scene, height: int = 512, background: Picture | None = None) -> Picture:
    """Render a scene as the equirectangular picture [height, 2·height, 3] of its camera.

    Solids are sampled 2×2 per pixel and the nearest one wins. Ground, sky and light depend on
    `scene.look_seed` alone: `Scene.yaw_rotated` moves the solids (each with its shading and its
    shadow), while ground and sky stay where they are.

    Args:
        scene: The solids, and the seed of everything else.
        height: Rows of the picture, at least 2.
        background: RGB panorama [h, 2·h, 3] of any size to stand in for ground and sky. It is
            resized to the picture, and solids and contact shadows are rendered over it.

    Raises:
        PanoVLMError: If `height` is below 2 or `background` is not such a panorama.
    """
    if height < 2:
        raise PanoVLMError(f"found height {height}, expected at least 2; set a larger height")
    if background is None:
        picture = _ground_and_sky(scene.look_seed, height)
    else:
        picture = _resized(background, height)
    for solid in scene.solids:
        _render_shadow(picture, solid)
    canvas = _scaled(picture, SAMPLES_PER_SIDE * height, cv2.INTER_NEAREST)
    depth = np.full(canvas.shape[:2], np.inf, np.float32)
    light = _light(scene.look_seed)
    for solid in scene.solids:
        _render_solid(canvas, depth, solid, light)
    return _scaled(canvas, height, cv2.INTER_AREA)


def _scaled(picture: Picture, height: int, interpolation: int) -> Picture:
    size = (2 * height, height)
    return np.asarray(cv2.resize(picture, size, interpolation=interpolation), np.uint8)


def _resized(background: Picture, height: int) -> Picture:
    shape = background.shape
    if background.dtype != np.uint8 or not background.size or shape[1:] != (2 * shape[0], 3):
        raise PanoVLMError(
            f"found a background of shape {shape} and type {background.dtype}, expected "
            "[h, 2·h, 3] of type uint8; convert it to RGB and make it twice as wide as high"
        )
    return _scaled(background, height, cv2.INTER_AREA)


def _window(
    picture: Picture, solid: Solid, radius_m: float, top_m: float
) -> tuple[slice, NDArray[np.intp], Floats]:
    """Return rows and columns that an upright cylinder can cover, and rays in the solid's frame."""
    height, width = picture.shape[:2]
    near_m = max(solid.distance_m - radius_m, 1e-3)
    above_m = top_m - CAMERA_HEIGHT_M
    top_rad = atan2(above_m, near_m if above_m > 0 else solid.distance_m + radius_m)
    bottom_rad = -atan2(CAMERA_HEIGHT_M, near_m)
    rows = np.arange(floor((0.5 - top_rad / pi) * height), ceil((0.5 - bottom_rad / pi) * height))
    half_columns = ceil(asin(min(1.0, radius_m / solid.distance_m)) / (2 * pi) * width) + 1
    centre = floor((solid.yaw_deg / 360 + 0.5) * width)
    columns = np.arange(centre - half_columns, centre + half_columns + 1)[:width]
    yaw_rad = ((columns + 0.5) / width - 0.5) * 2 * pi - radians(solid.yaw_deg)
    pitch_rad = (0.5 - (rows + 0.5) / height) * pi
    rays = rays_from_angles(yaw_rad[None, :], pitch_rad[:, None])
    return slice(rows[0], rows[-1] + 1), columns % width, rays


def _base_radius_m(solid: Solid) -> float:
    return solid.size_m / (sqrt(2) if solid.shape == "cube" else 2)


def _render_shadow(picture: Picture, solid: Solid) -> None:
    """Darken the ground at the foot of a solid, softly towards the outside."""
    radius_m = _base_radius_m(solid)
    rows, columns, rays = _window(picture, solid, radius_m * SHADOW_REACH, top_m=0.0)
    x, y, z = np.moveaxis(rays, -1, 0)
    ground = CAMERA_HEIGHT_M / np.maximum(-y, 1e-6)
    from_centre = np.hypot(ground * x, ground * z - solid.distance_m) / radius_m
    inside = np.clip((SHADOW_REACH - from_centre) / (SHADOW_REACH - 0.6), 0.0, 1.0)
    shade = 1.0 - SHADOW_DEPTH * inside**2 * (3 - 2 * inside)
    picture[rows, columns] = np.rint(picture[rows, columns] * shade[..., None])


def _light(look_seed: int) -> Floats:
    """Sample the unit vector to the light: above the camera, to its left or right."""
    rng = np.random.default_rng((look_seed, 1))
    light = np.array([rng.choice((-1, 1)) * rng.uniform(0.4, 0.6), 0.75, -0.8])
    return np.asarray(light / np.linalg.norm(light), np.float64)


def _render_solid(canvas: Picture, depth: NDArray[np.float32], solid: Solid, light: Floats) -> None:
    rows, columns, rays = _window(canvas, solid, _base_radius_m(solid), solid.size_m)
    with np.errstate(divide="ignore", invalid="ignore"):
        solid_depth, normals = _HITS[solid.shape](rays, solid)
    visible = solid_depth < depth[rows, columns]
    row, column = np.nonzero(visible)
    pixels = row + rows.start, columns[column]
    depth[pixels] = solid_depth[visible]
    shade = AMBIENT + DIFFUSE * np.maximum(normals[visible] @ light, 0.0)
    canvas[pixels] = np.minimum(np.rint(shade[:, None] * COLOURS[solid.colour]), 255)


def _sphere_hits(rays: Floats, solid: Solid) -> Hits:
    radius = solid.size_m / 2
    centre = np.array([0.0, radius - CAMERA_HEIGHT_M, solid.distance_m])
    along = rays @ centre
    depth = along - np.sqrt(along**2 - centre @ centre + radius**2)
    return depth, (depth[..., None] * rays - centre) / radius


def _cube_hits(rays: Floats, solid: Solid) -> Hits:
    half = solid.size_m / 2
    cos, sin = np.cos(radians(solid.spin_deg)), np.sin(radians(solid.spin_deg))
    axes = np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])
    centre = axes @ np.array([0.0, half - CAMERA_HEIGHT_M, solid.distance_m])
    rays = rays @ axes.T
    to_low, to_high = (centre - half) / rays, (centre + half) / rays
    enters = np.minimum(to_low, to_high)
    enter = enters.max(axis=-1)
    leave = np.maximum(to_low, to_high).min(axis=-1)
    depth = np.where((enter > 0) & (enter <= leave), enter, np.nan)
    face = enters.argmax(axis=-1)
    facing = -np.sign(np.take_along_axis(rays, face[..., None], axis=-1))
    return depth, facing * axes[face]


def _cylinder_hits(rays: Floats, solid: Solid) -> Hits:
    radius = solid.size_m / 2
    x, y, z = np.moveaxis(rays, -1, 0)
    level = x**2 + z**2
    along = solid.distance_m * z
    side = (along - np.sqrt(along**2 - level * (solid.distance_m**2 - radius**2))) / level
    side_height = CAMERA_HEIGHT_M + side * y
    side = np.where((side_height >= 0) & (side_height <= solid.size_m), side, np.nan)
    top = (solid.size_m - CAMERA_HEIGHT_M) / y
    on_top = (top > 0) & (np.hypot(top * x, top * z - solid.distance_m) <= radius)
    depth = np.fmin(side, np.where(on_top, top, np.nan))
    radial = np.stack([depth * x, np.zeros_like(y), depth * z - solid.distance_m], -1) / radius
    return depth, np.where((on_top & (depth == top))[..., None], (0.0, 1.0, 0.0), radial)


def _cone_hits(rays: Floats, solid: Solid) -> Hits:
    slope_2 = 0.25  # x² + z² = slope²·y² with y from the apex; as high as its base is wide
    camera_y = CAMERA_HEIGHT_M - solid.size_m
    x, y, z = np.moveaxis(rays, -1, 0)
    a = x**2 + z**2 - slope_2 * y**2
    b = solid.distance_m * z + slope_2 * camera_y * y
    c = solid.distance_m**2 - slope_2 * camera_y**2
    roots = (b + np.array([-1.0, 1.0])[:, None, None] * np.sqrt(b**2 - a * c)) / a
    from_apex = camera_y + roots * y
    on_cone = (roots > 0) & (from_apex <= 0) & (from_apex >= -solid.size_m)
    depth = np.fmin(*np.where(on_cone, roots, np.nan))
    across, below, along = depth * x, -(camera_y + depth * y), depth * z - solid.distance_m
    normals = np.stack([across, slope_2 * below, along], axis=-1)
    return depth, normals / np.linalg.norm(normals, axis=-1, keepdims=True)


_HITS: dict[str, Callable[[Floats, Solid], Hits]] = {
    "sphere": _sphere_hits,
    "cube": _cube_hits,
    "cylinder": _cylinder_hits,
    "cone": _cone_hits,
}


def _ground_and_sky(look_seed: int, height: int) -> Picture:
    """Render what lies behind the solids; a function of the ray, so there is no seam."""
    rng = np.random.default_rng((look_seed, 0))
    return np.vstack([_sky(rng, height), _ground(rng, height)])


@lru_cache(maxsize=4)
def _plane_maps(height: int, softening: float, upper: bool) -> tuple[Maps, Maps, Maps]:
    """Compute where the rays of one half of the picture meet a level plane at unit distance.

    Returns:
        x and z on the plane [rows, 2·height], and the distance from the camera's foot [rows, 1].
        `softening` is added to the rays' rise so that the horizon lies at a finite distance.
    """
    rays = panorama_rays(height, 2 * height)
    x, y, z = np.moveaxis(rays[: height // 2] if upper else rays[height // 2 :], -1, 0)
    rise = np.abs(y) + softening
    distance = np.hypot(x[:, :1], z[:, :1]) / rise[:, :1]
    return (x / rise).astype(np.float32), (z / rise).astype(np.float32), distance.astype(np.float32)


def _noise(rng: np.random.Generator, steepness: float) -> Floats:
    """Sample noise [TEXTURE_PX, TEXTURE_PX] in [0, 1] that tiles; steeper is smoother."""
    cycles = np.abs(np.fft.fftfreq(TEXTURE_PX, 1 / TEXTURE_PX))
    frequency = np.hypot(cycles[:, None], cycles[None, : TEXTURE_PX // 2 + 1])
    spectrum = np.fft.rfft2(rng.normal(size=(TEXTURE_PX, TEXTURE_PX)))
    spectrum[0, 0] = 0.0
    noise = np.fft.irfft2(spectrum / np.maximum(frequency, 1.0) ** steepness)
    return np.asarray(np.clip(0.5 + 0.2 * noise / noise.std(), 0.0, 1.0), np.float64)


def _pattern(kind: str) -> Floats:
    """Return the pattern [TEXTURE_PX, TEXTURE_PX] in [-1, 1] that lies under the ground's noise."""
    metres = (np.arange(TEXTURE_PX) + 0.5) / TEXTURE_PX_PER_M
    x, z = metres[None, :], metres[:, None]
    if kind == "checker":
        return np.where((np.floor(x) + np.floor(z)) % 2 == 0, 0.5, -0.5)
    if kind == "stripes":
        return np.broadcast_to(0.6 * np.sin(2 * pi * x), (TEXTURE_PX, TEXTURE_PX))
    if kind == "paving":
        return np.where((x % 1 < 0.08) | (z % 1 < 0.08), -1.0, 0.15)
    return np.zeros((TEXTURE_PX, TEXTURE_PX))


def _ground(rng: np.random.Generator, height: int) -> Picture:
    """Render the lower half [rows, 2·height, 3]: a patterned, noisy, greyish plane."""
    colour = np.array(GROUND_COLOURS[rng.integers(len(GROUND_COLOURS))], np.float32)
    pattern = _pattern(GROUND_PATTERNS[rng.integers(len(GROUND_PATTERNS))])
    relief = 0.22 * pattern + 0.5 * (_noise(rng, steepness=1.2) - 0.5)
    angle_rad, shift = rng.uniform(0, 2 * pi), rng.uniform(0, TEXTURE_PX)
    x, z, distance = _plane_maps(height, softening=0.02, upper=False)
    scale = CAMERA_HEIGHT_M * TEXTURE_PX_PER_M
    cos, sin = scale * np.cos(angle_rad), scale * np.sin(angle_rad)
    texture = _sampled(relief, cos * x - sin * z + shift, sin * x + cos * z + shift)
    texture *= np.exp(-distance * (CAMERA_HEIGHT_M / FADE_DISTANCE_M))
    return _coloured(np.zeros(3, np.float32), colour, 1 + texture)


def _sky(rng: np.random.Generator, height: int) -> Picture:
    """Render the upper half [rows, 2·height, 3]: a gradient from zenith to horizon, with clouds."""
    zenith, horizon = np.array(SKY_COLOURS[rng.integers(len(SKY_COLOURS))], np.float32)
    clouds = np.clip(2.5 * (_noise(rng, steepness=1.9) - rng.uniform(0.35, 0.6)), 0.0, 0.9)
    x, z, distance = _plane_maps(height, softening=0.15, upper=True)
    alpha = _sampled(clouds, 40 * x, 40 * z)
    towards_horizon = np.minimum(distance / 5, 1.0) ** 0.8
    gradient = zenith + towards_horizon[..., None] * (horizon - zenith)
    return _coloured(gradient, CLOUD_COLOUR - gradient, alpha)


def _sampled(texture: Floats, column: Maps, row: Maps) -> Maps:
    """Sample a tiling texture at (column, row) in its pixels."""
    source, columns, rows = (np.asarray(values, np.float32) for values in (texture, column, row))
    sampled = cv2.remap(source, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(sampled, np.float32)


def _coloured(base: Maps, change: Maps, amount: Maps) -> Picture:
    """Compute the picture base + amount·change, `amount` being one number per pixel."""
    channels = [base[..., c] + amount * change[..., c] for c in range(3)]
    return np.asarray(cv2.merge([np.clip(c, 0, 255).astype(np.uint8) for c in channels]), np.uint8)
