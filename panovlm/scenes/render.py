"""Pictures of scenes: rays cast at coloured solids on a textured ground under a sky.

Each solid is rendered in its own frame, seen from the camera at the origin: x to the right, y up, z
along the ground from the camera to the solid. Its pixels depend only on their yaw relative to the
solid, so a scene yaw-rotated by whole pixels shows the same solids, shifted (but for the sensor's
noise, which stays with the sensor).
"""

from dataclasses import dataclass
from functools import lru_cache
from math import asin, atan2, ceil, floor, pi, radians, sqrt

import cv2
import numpy as np
from numpy.typing import NDArray

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import Floats, row_pitches_rad
from panovlm.scenes.intersections import intersect, spin_axes
from panovlm.scenes.look import Look, Surface, sample_look
from panovlm.scenes.surroundings import Maps, draw_surroundings
from panovlm.scenes.world import Scene, Solid

Picture = NDArray[np.uint8]

SAMPLES_PER_SIDE = 2
BLUR_PADDING_PX = 4


@dataclass(frozen=True)
class _Setting:
    """What all solids of a picture share: its look, the camera and what haze turns them into."""

    look: Look
    camera_m: float
    haze: Maps


def render(scene: Scene, height: int = 512, background: Picture | None = None) -> Picture:
    """Render a scene as the equirectangular picture [height, 2·height, 3] of its camera.

    Solids are sampled 2×2 per pixel and the nearest one wins. Everything else depends on
    `scene.look_seed` alone (`sample_look`): `Scene.yaw_rotated` moves the solids (each with its
    shading and its shadow), while ground, sky and far things stay where they are.

    Args:
        scene: The solids, the camera's height, and the seed of everything else.
        height: Rows of the picture, at least 2.
        background: RGB panorama [h, 2·h, 3] of any size to stand in for ground, sky and far
            things. It is resized to the picture, solids and shadows are rendered over it, and all
            is exposed as one picture.

    Raises:
        PanoVLMError: If `height` is below 2 or `background` is not such a panorama.
    """
    if height < 2:
        raise PanoVLMError(f"found height {height}, expected at least 2; set a larger height")
    look = sample_look(scene.look_seed)
    if background is None:
        picture = draw_surroundings(look, scene.camera_height_m, height)
        haze = np.array(look.horizon, np.float32)
    else:
        picture = _resized(background, height)
        haze = picture[height // 2 - 1 : height // 2 + 1].mean(axis=(0, 1), dtype=np.float32)
    setting = _Setting(look, scene.camera_height_m, haze)
    for solid in scene.solids:
        _render_shadow(picture, solid, setting)
    return _exposed(_with_solids(picture, scene, setting), look)


def _with_solids(picture: Picture, scene: Scene, setting: _Setting) -> Picture:
    height = len(picture)
    canvas = _scaled(picture, SAMPLES_PER_SIDE * height, cv2.INTER_NEAREST)
    depth = np.full(canvas.shape[:2], np.inf, np.float32)
    for solid in scene.solids:
        _render_solid(canvas, depth, solid, setting)
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
    picture: Picture, solid: Solid, camera_m: float, radius_m: float, top_m: float
) -> tuple[slice, NDArray[np.intp], Floats]:
    """Return rows and columns that an upright cylinder can cover, and rays in the solid's frame."""
    height, width = picture.shape[:2]
    near_m = max(solid.distance_m - radius_m, 1e-3)
    above_m = top_m - camera_m
    top_rad = atan2(above_m, near_m if above_m > 0 else solid.distance_m + radius_m)
    bottom_rad = -atan2(camera_m, near_m)
    rows = np.arange(floor((0.5 - top_rad / pi) * height), ceil((0.5 - bottom_rad / pi) * height))
    half_rad = asin(radius_m / solid.distance_m) if radius_m < solid.distance_m else pi
    half_columns = ceil(half_rad / (2 * pi) * width) + 1
    centre = floor((solid.yaw_deg / 360 + 0.5) * width)
    columns = np.arange(centre - half_columns, centre + half_columns + 1)[:width]
    yaw_rad = ((columns + 0.5) / width - 0.5) * 2 * pi - radians(solid.yaw_deg)
    covered = slice(rows[0], rows[-1] + 1)
    pitch_rad = row_pitches_rad(height, covered)
    level, rise = np.cos(pitch_rad)[:, None], np.sin(pitch_rad)[:, None]
    aside, ahead = level * np.sin(yaw_rad), level * np.cos(yaw_rad)  # each sine is taken once
    rays = np.stack([aside, np.broadcast_to(rise, aside.shape), ahead], axis=-1)
    return covered, columns % width, rays


def _base_radius_m(solid: Solid) -> float:
    return solid.size_m / (sqrt(2) if solid.shape == "cube" else 2)


def _render_shadow(picture: Picture, solid: Solid, setting: _Setting) -> None:
    """Darken the ground at the foot of a solid, and away from the light if it casts a shadow."""
    look, radius_m = setting.look, _base_radius_m(solid)
    length_m = look.shadow_length * solid.size_m
    reach_m = radius_m * look.shadow_reach + length_m
    rows, columns, rays = _window(picture, solid, setting.camera_m, reach_m, top_m=0.0)
    ground = setting.camera_m / np.maximum(-rays[..., 1], 1e-6)
    across, along = ground * rays[..., 0], ground * rays[..., 2] - solid.distance_m
    away = -np.array(look.light)[[0, 2]] / np.hypot(look.light[0], look.light[2])
    cast_m = np.clip(across * away[0] + along * away[1], 0.0, length_m)
    from_axis = np.hypot(across - cast_m * away[0], along - cast_m * away[1]) / radius_m
    inside = np.clip((look.shadow_reach - from_axis) / (2 * look.shadow_reach - 2), 0.0, 1.0)
    shade = 1.0 - look.shadow_depth * inside**2 * (3 - 2 * inside)
    picture[rows, columns] = np.rint(picture[rows, columns] * shade[..., None])


def _render_solid(
    canvas: Picture, depth: NDArray[np.float32], solid: Solid, setting: _Setting
) -> None:
    camera_m = setting.camera_m
    rows, columns, rays = _window(canvas, solid, camera_m, _base_radius_m(solid), solid.size_m)
    solid_depth, normals = intersect(rays, solid, camera_m)
    visible = solid_depth < depth[rows, columns]
    row, column = np.nonzero(visible)
    pixels = row + rows.start, columns[column]
    depth[pixels] = solid_depth[visible]
    seen = (values[visible].astype(np.float32) for values in (solid_depth, normals, rays))
    canvas[pixels] = np.rint(_shaded(solid, setting, *seen))


def _shaded(solid: Solid, setting: _Setting, depth: Maps, normals: Maps, rays: Maps) -> Maps:
    """Compute the colours [n, 3] of points of a solid: Lambert, Blinn-Phong, pattern and haze.

    Light adds up in linear RGB, taken as the square of sRGB: near enough, and its root is fast.
    """
    look, surface = setting.look, setting.look.surface(solid)
    light = np.array(look.light, np.float32)
    lit = np.maximum(normals @ light, 0)
    brightness = np.array(look.ambient, np.float32) + lit[:, None] * np.array(
        look.diffuse, np.float32
    )
    linear = brightness * (np.array(surface.albedo, np.float32) / 255) ** 2
    if surface.relief:
        linear *= (1 + surface.relief * _pattern(surface, solid, setting, depth, rays))[:, None]
    if surface.gloss:
        halfway = light - rays
        halfway /= np.linalg.norm(halfway, axis=1, keepdims=True)
        aligned = np.maximum(np.einsum("nc,nc->n", normals, halfway), 0)
        linear += (surface.gloss * aligned**surface.sharpness * (lit > 0))[:, None]
    clear = np.exp(-look.haze_per_m * depth)[:, None]
    return np.minimum(255 * np.sqrt(linear), 255) * clear + setting.haze * (1 - clear)


def _pattern(surface: Surface, solid: Solid, setting: _Setting, depth: Maps, rays: Maps) -> Maps:
    """Compute the pattern [n] in [-1, 1] at points of a solid; it turns with the solid's spin."""
    waves = np.array(surface.waves)
    vectors = waves[:, :3] @ spin_axes(solid)  # in the solid's frame, [waves, 3]
    phases = waves[:, 3] - vectors @ (0.0, -setting.camera_m, solid.distance_m)
    angles = (depth[:, None] * rays) @ vectors.T.astype(np.float32) + phases.astype(np.float32)
    return np.clip(np.cos(angles).sum(axis=1) / np.float32(sqrt(len(waves))), -1, 1)


def _exposed(picture: Picture, look: Look) -> Picture:
    """Return the picture as a camera takes it: softened, exposed and noisy."""
    if look.blur:
        picture = _blurred(picture, look.blur * len(picture) / 512)
    levels = 255 * (look.gain * np.arange(256) / 255) ** look.gamma
    exposed = cv2.LUT(picture, np.clip(np.rint(levels), 0, 255).astype(np.uint8))
    if look.noise:
        noisy = exposed + look.noise * np.roll(_unit_noise(len(picture)), look.seed, axis=(0, 1))
        exposed = np.clip(np.rint(noisy), 0, 255)
    return np.asarray(exposed, np.uint8)


def _blurred(picture: Picture, deviation_px: float) -> Picture:
    padding = BLUR_PADDING_PX
    wrapped = np.hstack([picture[:, -padding:], picture, picture[:, :padding]])
    blurred = cv2.GaussianBlur(wrapped, (0, 0), deviation_px)
    return np.asarray(blurred[:, padding:-padding], np.uint8)


@lru_cache(maxsize=2)
def _unit_noise(height: int) -> Maps:
    """Sample noise [height, 2·height, 3] of deviation 1 once; each picture shifts it."""
    return np.random.default_rng(0).standard_normal((height, 2 * height, 3), np.float32)
