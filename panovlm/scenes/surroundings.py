"""What lies behind the solids: ground, sky or room, and far things, as functions of the ray.

None of it has a seam, and none of it moves when a scene is yaw-rotated.
"""

from functools import lru_cache
from math import atan2, ceil, floor, pi

import cv2
import numpy as np
from numpy.typing import NDArray

from panovlm.geometry.sphere import Floats, Pixels, column_yaws_rad, panorama_rays, row_pitches_rad
from panovlm.scenes.distractors import FarPart
from panovlm.scenes.look import Look, Room, Stream

Maps = NDArray[np.float32]

TEXTURE_PX = 256
TEXTURE_PX_PER_M = 32.0
FADE_DISTANCE_M = 7.0
"""Distance over which the ground's texture fades, before it gets finer than a pixel."""
CLOUD_COLOUR = np.array((238, 238, 240), np.float32)


def draw_surroundings(look: Look, camera_m: float, height: int) -> Pixels:
    """Render everything but the solids and their shadows.

    Args:
        look: What varies.
        camera_m: Height of the camera above the ground.
        height: Rows of the picture [height, 2·height, 3].
    """
    rng = np.random.default_rng((look.seed, Stream.TEXTURE))
    ground = _ground(rng, look, camera_m, height)
    if look.room:
        ceiling = np.full((height // 2, 2 * height, 3), np.rint(look.room.ceiling), np.uint8)
        picture = np.vstack([ceiling, ground])
        _draw_walls(picture, look.room, camera_m)
        return picture
    picture = np.vstack([_sky(rng, look, height), ground])
    for part in look.distractors:
        _draw_part(picture, part, look, camera_m, rng)
    return picture


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


def _ground(rng: np.random.Generator, look: Look, camera_m: float, height: int) -> Pixels:
    """Render the lower half [rows, 2·height, 3]: a patterned, noisy, dull plane in the haze."""
    pattern, noise = _pattern(look.ground.pattern), _noise(rng, steepness=1.2) - 0.5
    relief = look.ground.relief * (0.22 * pattern + 0.5 * noise)
    angle_rad, shift = rng.uniform(0, 2 * pi), rng.uniform(0, TEXTURE_PX)
    x, z, distance = _plane_maps(height, softening=0.02, upper=False)
    scale = camera_m * TEXTURE_PX_PER_M
    cos, sin = scale * np.cos(angle_rad), scale * np.sin(angle_rad)
    texture = _sampled(relief, cos * x - sin * z + shift, sin * x + cos * z + shift)
    texture *= np.exp(-distance * (camera_m / FADE_DISTANCE_M))
    clear = np.exp(-look.haze_per_m * camera_m * distance)[..., None]  # [rows, 1, 1]
    base = np.array(look.horizon, np.float32) * (1 - clear)
    return _coloured(base, np.array(look.ground.colour, np.float32) * clear, 1 + texture)


def _sky(rng: np.random.Generator, look: Look, height: int) -> Pixels:
    """Render the upper half [rows, 2·height, 3]: a gradient from zenith to horizon, with clouds."""
    zenith, horizon = np.array((look.sky.zenith, look.sky.horizon), np.float32)
    clouds = np.clip(2.5 * (_noise(rng, steepness=1.9) - look.sky.clearness), 0.0, 0.9)
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


def _coloured(base: Maps, change: Maps, amount: Maps) -> Pixels:
    """Compute the picture base + amount·change, `amount` being one number per pixel."""
    channels = [base[..., c] + amount * change[..., c] for c in range(3)]
    return np.asarray(cv2.merge([np.clip(c, 0, 255).astype(np.uint8) for c in channels]), np.uint8)


def _draw_walls(picture: Pixels, room: Room, camera_m: float) -> None:
    """Draw the walls of a room over its floor and its ceiling, every other one darker."""
    height, width = picture.shape[:2]
    yaw_rad = column_yaws_rad(width) - room.yaw_rad
    with np.errstate(divide="ignore"):
        aside = room.half_size_m[0] / np.abs(np.sin(yaw_rad))
        ahead = room.half_size_m[1] / np.abs(np.cos(yaw_rad))
    reach_m = np.minimum(aside, ahead).astype(np.float32)
    slopes = np.tan(row_pitches_rad(height)).astype(np.float32)
    above_m = camera_m + slopes[:, None] * reach_m  # [h, w]
    row, column = np.nonzero((above_m >= 0) & (above_m <= room.height_m))
    shade = np.where(aside < ahead, 0.9, 1.0)[column, None]
    picture[row, column] = np.rint(shade * room.wall)


def _draw_part(
    picture: Pixels, part: FarPart, look: Look, camera_m: float, rng: np.random.Generator
) -> None:
    """Draw a part of a distractor, in the haze and grainy."""
    height, width = picture.shape[:2]
    top, bottom = (
        (0.5 - atan2(level_m - camera_m, part.distance_m) / pi) * height
        for level_m in (part.top_m, part.bottom_m)
    )
    half = atan2(part.width_m / 2, part.distance_m) / (2 * pi) * width
    centre = (part.yaw_deg / 360 + 0.5) * width
    rows = np.arange(floor(top), ceil(bottom))
    columns = np.arange(floor(centre - half), ceil(centre + half))
    clear = np.exp(-look.haze_per_m * part.distance_m)
    colour = clear * np.array(part.colour) + (1 - clear) * np.array(look.horizon)
    shade = 1 + part.grain * rng.uniform(-1, 1, (len(rows), len(columns)))
    if part.is_round:
        across, down = (columns + 0.5 - centre) / half, (rows + 0.5 - (top + bottom) / 2) * 2
        inside = across**2 + (down / (bottom - top))[:, None] ** 2 <= 1
    else:
        inside = np.ones(shade.shape, np.bool_)
    row, column = np.nonzero(inside)
    pixels = rows[row], columns[column] % width
    picture[pixels] = np.clip(np.rint(shade[row, column, None] * colour), 0, 255)
