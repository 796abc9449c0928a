"""What varies between pictures of scenes and no question is about: a model must not rely on it.

A model takes for granted whatever all of its pictures share. With one light and one palette it
reads the pictures of this renderer alone; so nothing here is the same twice. Every field is a
function of the seed, and has a random stream of its own: to vary one more leaves the others as
they are. `render.py` and `surroundings.py` turn a look into pixels.
"""

from colorsys import rgb_to_hsv
from dataclasses import dataclass
from enum import IntEnum
from math import cos, exp, pi, radians, sin, tan
from zlib import crc32

import numpy as np

from panovlm.scenes.colours import RGB, Span, rgb_from_hsv, sample_hsv
from panovlm.scenes.distractors import FarPart, sample_distractors
from panovlm.scenes.world import COLOURS, Solid

Generator = np.random.Generator


class Stream(IntEnum):
    """Numbers of the random streams of a look; never reuse one."""

    LIGHT = 0
    SHADOW = 1
    AIR = 2
    FILM = 3
    GROUND = 4
    SKY = 5
    ROOM = 6
    DISTRACTORS = 7
    SURFACE = 8
    TEXTURE = 9


@dataclass(frozen=True)
class Jitter:
    """How far a colour may lie from the most typical one of its name, in HSV.

    Attributes:
        hue_deg: Least and largest change of the hue. Two names stay at least 11° apart.
        saturation: Of the saturation, which is in [0, 1].
        value: Of the value, in [0, 1]. Yellow and orange stay bright: dark, they are olive and
            brown.
    """

    hue_deg: Span
    saturation: Span
    value: Span


JITTERS = {
    "red": Jitter((-8, 8), (-0.17, 0.10), (-0.14, 0.16)),
    "orange": Jitter((-6, 8), (-0.12, 0.08), (-0.08, 0.04)),
    "yellow": Jitter((-5, 7), (-0.20, 0.10), (-0.08, 0.06)),
    "green": Jitter((-22, 18), (-0.22, 0.15), (-0.12, 0.24)),
    "cyan": Jitter((-9, 6), (-0.22, 0.18), (-0.06, 0.15)),
    "blue": Jitter((-17, 5), (-0.20, 0.16), (-0.12, 0.20)),
    "purple": Jitter((-14, 6), (-0.12, 0.16), (-0.06, 0.24)),
    "white": Jitter((0, 360), (0.0, 0.04), (-0.06, 0.04)),
}
MIN_FRONT = 0.66
"""Least light, of 1, on the side of a solid that faces the camera: colours keep their names."""
GROUND_PATTERNS = ("plain", "checker", "stripes", "paving")
GROUNDS: tuple[tuple[Span, Span, Span], ...] = (
    ((190, 250), (0.0, 0.12), (0.22, 0.45)),  # asphalt
    ((20, 60), (0.0, 0.14), (0.40, 0.72)),  # concrete
    ((20, 40), (0.15, 0.38), (0.25, 0.50)),  # earth
    ((32, 46), (0.15, 0.36), (0.55, 0.78)),  # sand
    ((70, 110), (0.18, 0.42), (0.24, 0.50)),  # grass
    ((18, 34), (0.22, 0.44), (0.32, 0.62)),  # wooden floor
    ((0, 360), (0.0, 0.12), (0.30, 0.75)),  # tiles
    ((200, 235), (0.08, 0.28), (0.25, 0.50)),  # carpet
)
"""Ranges of (hue in degrees, saturation, value); the saturation of solids begins at 0.58."""
SKIES: tuple[tuple[RGB, RGB], ...] = (
    ((70, 125, 195), (195, 213, 228)),  # clear
    ((45, 90, 165), (150, 185, 215)),  # deep
    ((110, 160, 205), (222, 226, 224)),  # hazy
    ((140, 150, 162), (205, 208, 211)),  # overcast
    ((95, 102, 112), (150, 154, 158)),  # before rain
    ((205, 208, 212), (228, 229, 230)),  # white
    ((90, 100, 150), (232, 196, 160)),  # evening
    ((58, 64, 92), (142, 130, 134)),  # dusk
    ((150, 165, 190), (224, 208, 196)),  # morning
)
"""(zenith, horizon)."""


@dataclass(frozen=True)
class Surface:
    """What a solid is made of.

    Attributes:
        albedo: Its colour, sRGB in [0, 255]: any tone that people call by its name.
        gloss: Light that its highlight adds at most, 0 to 0.35; 0 for half of the solids. More
            would hide the colour of small solids.
        sharpness: Exponent of the highlight, 8 (wide, as on rubber) to 90 (small, as on varnish).
        relief: How far its pattern changes the brightness at most, 0 to 0.16 of it; 0 for half of
            the solids. Brightness alone, so that the colour keeps its name.
        waves: Plane waves (x, y, z in radians per metre, phase in radians) whose sum is the
            pattern: one for stripes, several long ones for noise, short ones for grain.
    """

    albedo: RGB
    gloss: float
    sharpness: float
    relief: float
    waves: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Ground:
    """The ground or floor.

    Attributes:
        colour: sRGB in [0, 255], of one of `GROUNDS`: dull beside every solid.
        pattern: One of `GROUND_PATTERNS`.
        relief: Strength of pattern and noise, 0.15 (a smooth floor) to 1.3 (gravel).
    """

    colour: RGB
    pattern: str
    relief: float


@dataclass(frozen=True)
class Sky:
    """The sky.

    Attributes:
        zenith: Colour overhead, near one of `SKIES`, sRGB in [0, 255].
        horizon: Colour at the horizon, of the same kind.
        clearness: Least noise, of [0, 1], that is a cloud: 0.3 (overcast) to 1 (no cloud).
    """

    zenith: RGB
    horizon: RGB
    clearness: float


@dataclass(frozen=True)
class Room:
    """Four walls and a ceiling in the place of a sky.

    Attributes:
        wall: sRGB in [0, 255]; greyish or pastel, darker than a white solid.
        ceiling: The same.
        half_size_m: Distance of the walls from the camera, 9 to 16: behind every solid.
        height_m: Of the ceiling, 2.6 to 5.
        yaw_rad: Of the room.
    """

    wall: RGB
    ceiling: RGB
    half_size_m: tuple[float, float]
    height_m: float
    yaw_rad: float


@dataclass(frozen=True)
class Look:
    """Everything in a picture that no question is about.

    Attributes:
        seed: What the rest is sampled from.
        light: Unit vector to the light in the frame of each solid (x right, y up, z away from the
            camera): 20° to 80° high, from any side, as the sun may stand behind a solid too.
        ambient: Light from everywhere in linear RGB, 0.35 (hard sun) to 0.85 (overcast) before
            its tint. It is higher where the light leaves the side that one sees below
            `MIN_FRONT`, as a camera is set by what it sees.
        diffuse: Light from `light` in linear RGB. With `ambient` 0.95 to 1.1 before the tint of
            both, warm or cool by up to a tenth: more would burn colours out.
        haze_per_m: How fast things take the horizon's colour: 0 for 40 %, else up to 0.05, which
            is 30 % at 7 m. More would make purple and blue one colour.
        shadow_depth: Share of the ground's light that a shadow takes, 0.15 to 0.7.
        shadow_reach: Radius at which a shadow ends, in radii of the base: 1.06 (hard) to 1.6.
        shadow_length: Length of the cast shadow in heights of the solid, 0 to 1.2. 0 for half of
            the looks, which have the contact shadow alone.
        gain: Exposure, 0.92 to 1.1; darker, orange would be brown and white grey.
        gamma: Exponent of the tone curve, 0.88 to 1.14.
        blur: Softness as a deviation in 1/512 of the picture's height: 0 for three of four, else
            0.4 to 0.8, as lenses have it.
        noise: Deviation of the sensor's noise in levels of 255: 0 for two of three, else 1 to 4.
        ground: The ground.
        sky: The sky, hidden by the room if there is one.
        room: The room, in a fifth of the looks.
        distractors: Far things around the horizon; none in a third of the looks, nor in rooms.
    """

    seed: int
    light: tuple[float, float, float]
    ambient: RGB
    diffuse: RGB
    haze_per_m: float
    shadow_depth: float
    shadow_reach: float
    shadow_length: float
    gain: float
    gamma: float
    blur: float
    noise: float
    ground: Ground
    sky: Sky
    room: Room | None
    distractors: tuple[FarPart, ...]

    @property
    def horizon(self) -> RGB:
        """The colour that lies behind everything."""
        return self.room.wall if self.room else self.sky.horizon

    def surface(self, solid: Solid) -> Surface:
        """Sample what a solid is made of, by its name: wherever it stands it stays the same."""
        rng = np.random.default_rng((self.seed, Stream.SURFACE, crc32(solid.name.encode())))
        return Surface(
            albedo=_sample_albedo(rng, solid.colour),
            gloss=float(max(rng.uniform(-0.35, 0.35), 0.0)),
            sharpness=float(8 * (90 / 8) ** rng.random()),
            relief=float(max(rng.uniform(-0.16, 0.16), 0.0)),
            waves=_sample_waves(rng),
        )


def sample_look(look_seed: int) -> Look:
    """Sample the look that belongs to a seed, at least 0; each call returns the same."""

    def stream(number: Stream) -> Generator:
        return np.random.default_rng((look_seed, number))

    light, ambient, diffuse = _sample_light(stream(Stream.LIGHT))
    depth, reach, length = _sample_shadow(stream(Stream.SHADOW), light[1])
    gain, gamma, blur, noise = _sample_film(stream(Stream.FILM))
    room = _sample_room(stream(Stream.ROOM))
    return Look(
        seed=look_seed,
        light=light,
        ambient=ambient,
        diffuse=diffuse,
        haze_per_m=float(max(stream(Stream.AIR).uniform(-0.033, 0.05), 0.0)),
        shadow_depth=depth,
        shadow_reach=reach,
        shadow_length=length,
        gain=gain,
        gamma=gamma,
        blur=blur,
        noise=noise,
        ground=_sample_ground(stream(Stream.GROUND)),
        sky=_sample_sky(stream(Stream.SKY)),
        room=room,
        distractors=() if room else sample_distractors(stream(Stream.DISTRACTORS)),
    )


def _sample_albedo(rng: Generator, name: str) -> RGB:
    hue, saturation, value = rgb_to_hsv(*(level / 255 for level in COLOURS[name]))
    jitter = JITTERS[name]
    return rgb_from_hsv(
        360 * hue + rng.uniform(*jitter.hue_deg),
        min(saturation + rng.uniform(*jitter.saturation), 1.0),
        min(value + rng.uniform(*jitter.value), 1.0),
    )


def _sample_waves(rng: Generator) -> tuple[tuple[float, float, float, float], ...]:
    """Sample noise, stripes or grain."""
    number, shortest_m, longest_m = ((5, 0.3, 0.9), (1, 0.15, 0.4), (5, 0.06, 0.14))[
        rng.integers(3)
    ]
    directions = rng.normal(size=(number, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    vectors = directions * (2 * pi / rng.uniform(shortest_m, longest_m, (number, 1)))
    phases = rng.uniform(0, 2 * pi, (number, 1))
    return tuple((x, y, z, phase) for x, y, z, phase in np.hstack([vectors, phases]).tolist())


def _sample_light(rng: Generator) -> tuple[tuple[float, float, float], RGB, RGB]:
    """Sample the direction to the light, the ambient and the diffuse light."""
    elevation_rad, azimuth_rad = radians(rng.uniform(20, 80)), rng.uniform(0, 2 * pi)
    level = cos(elevation_rad)
    light = level * sin(azimuth_rad), sin(elevation_rad), -level * cos(azimuth_rad)
    total, facing = rng.uniform(0.95, 1.1), max(-light[2], 0.0)
    least = (MIN_FRONT - total * facing) / (1 - facing)
    ambient = max(rng.uniform(0.35, 0.85), least)
    warmth = rng.uniform(-1, 1)
    tint = 1 + 0.08 * warmth, 1.0, 1 - 0.1 * warmth
    return (
        light,
        (ambient * tint[0], ambient, ambient * tint[2]),
        ((total - ambient) * tint[0], total - ambient, (total - ambient) * tint[2]),
    )


def _sample_shadow(rng: Generator, light_y: float) -> tuple[float, float, float]:
    """Sample depth, reach and length of shadows under a light of that height on the unit sphere."""
    depth, reach = rng.uniform(0.15, 0.7), rng.uniform(1.06, 1.6)
    length = min(1 / tan(np.arcsin(light_y)), 1.2) if rng.random() < 0.5 else 0.0
    return depth, reach, length


def _sample_film(rng: Generator) -> tuple[float, float, float, float]:
    """Sample gain, gamma, blur and noise."""
    gain, gamma = rng.uniform(0.92, 1.1), exp(rng.uniform(-0.13, 0.13))
    blur = rng.uniform(0.4, 0.8) if rng.random() < 1 / 4 else 0.0
    return gain, gamma, blur, rng.uniform(1, 4) if rng.random() < 1 / 3 else 0.0


def _sample_ground(rng: Generator) -> Ground:
    return Ground(
        colour=sample_hsv(rng, *GROUNDS[rng.integers(len(GROUNDS))]),
        pattern=GROUND_PATTERNS[rng.integers(len(GROUND_PATTERNS))],
        relief=float(rng.uniform(0.15, 1.3)),
    )


def _sample_sky(rng: Generator) -> Sky:
    zenith, horizon = SKIES[rng.integers(len(SKIES))]
    brightness, shift = rng.uniform(0.85, 1.08), rng.uniform(-8, 8, 3)

    def near(colour: RGB) -> RGB:
        red, green, blue = np.clip(brightness * np.array(colour) + shift, 0, 255).tolist()
        return red, green, blue

    return Sky(near(zenith), near(horizon), clearness=float(rng.uniform(0.3, 1.0)))


def _sample_room(rng: Generator) -> Room | None:
    if rng.random() >= 0.2:
        return None
    return Room(
        wall=sample_hsv(rng, (0, 360), (0.0, 0.14), (0.4, 0.86)),
        ceiling=sample_hsv(rng, (20, 60), (0.0, 0.08), (0.55, 0.88)),
        half_size_m=(float(rng.uniform(9, 16)), float(rng.uniform(9, 16))),
        height_m=float(rng.uniform(2.6, 5)),
        yaw_rad=float(rng.uniform(0, pi / 2)),
    )
