"""How the picture of a question is shown: as it is, with less to see, or seen from elsewhere.

The probes bring what a question is about to where a panorama is difficult: to its left and right
edge, or near a pole, where an equirectangular picture stretches it most.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
from PIL import Image

from panovlm.evaluation.benchmarks.items import Benchmark, Item
from panovlm.geometry.rotation import rotate_panorama
from panovlm.geometry.sphere import Pixels
from panovlm.pictures.declaring import PictureFile
from panovlm.pictures.panorama import load_panorama

POLE_PITCH_DEG = 75.0
"""Pitch to which a target is brought: the middle of the stratum nearest a pole, 4 times as wide."""
ANY_SHIFT_DEG = 1.0
"""A rotation by no whole step of a record's: what is correct then is so after any other."""


@dataclass(frozen=True)
class Shown:
    """A picture as it is shown; equal ones are shown alike.

    Attributes:
        way: "original", "blind", "single_view", "low_resolution", "without_view" (one view is
            blank), "yaw_rotated" (the camera turned right by whole strides), or a key of `PROBES`.
        picture: Its file; None if it is blank.
        number: Of the view that is blank, or of strides.
        yaw_deg: Of what a probe brings elsewhere.
        pitch_deg: Likewise.
    """

    way: str
    picture: PictureFile | None
    number: int = 0
    yaw_deg: float = 0.0
    pitch_deg: float = 0.0

    def moved(self, panorama: Pixels) -> Pixels:
        """Return a panorama, uint8 RGB [H, 2H, 3], as the probe shows it."""
        return PROBES[self.way].move(panorama, self.yaw_deg, self.pitch_deg)


@dataclass(frozen=True)
class Probe:
    """Questions asked again with their target elsewhere.

    Attributes:
        option: Of the command.
        needs: What a question has to have, in words.
        expect: Takes a benchmark and an item; returns what is correct then, None if it is not
            known.
        move: Takes a panorama, and yaw and pitch of the target in degrees; returns the panorama
            shown.
    """

    option: str
    needs: str
    expect: Callable[[Benchmark, Item], Item | None]
    move: Callable[[Pixels, float, float], Pixels]


def yaw_shift_to_seam_deg(yaw_deg: float) -> float:
    """Return by how much the camera turns right until a yaw is at the edge, in [0, 360) degrees."""
    return (yaw_deg - 180.0) % 360.0


def roll_to_seam(pixels: Pixels, yaw_deg: float, pitch_deg: float = 0.0) -> Pixels:
    """Roll the columns of a panorama until a yaw is at its left and right edge, to half a pixel.

    Args:
        pixels: uint8 [H, W, 3], yaw 0 in the middle.
        yaw_deg: Positive to the right.
        pitch_deg: Not used.
    """
    column = (yaw_deg / 360 + 0.5) * pixels.shape[1]
    return np.roll(pixels, -round(column), axis=1)


def tilt_to_pole(pixels: Pixels, yaw_deg: float, pitch_deg: float) -> Pixels:
    """Tilt a panorama until a target is near the nearest pole, its yaw as before, to half a pixel.

    Args:
        pixels: uint8 [H, W, 3], yaw 0 in the middle.
        yaw_deg: Of the target, positive to the right.
        pitch_deg: Of the target, positive up.
    """
    ahead = rotate_panorama(pixels, yaw_deg, pitch_deg - pole_pitch_deg(pitch_deg))
    return np.roll(ahead, round(yaw_deg / 360 * pixels.shape[1]), axis=1)


def pole_pitch_deg(pitch_deg: float) -> float:
    """Return the pitch to which a target of some pitch is brought."""
    return POLE_PITCH_DEG if pitch_deg >= 0.0 else -POLE_PITCH_DEG


def _at_seam(benchmark: Benchmark, item: Item) -> Item | None:
    if item.yaw_deg is None or benchmark.rotated(item, ANY_SHIFT_DEG) is None:
        return None
    return benchmark.rotated(item, yaw_shift_to_seam_deg(item.yaw_deg))


def _at_pole(benchmark: Benchmark, item: Item) -> Item | None:
    pitch_deg = pole_pitch_deg(item.pitch_deg or 0.0)
    return benchmark.tilt(item, pitch_deg) if benchmark.tilt else None


PROBES = {
    "seam_shifted": Probe(
        "--seam-shifted",
        "a direction (yaw_deg) and an answer known after any rotation, as where all "
        "rolled_responses are one",
        _at_seam,
        roll_to_seam,
    ),
    "pole_shifted": Probe(
        "--pole-shifted",
        "an answer known after any rotation, as where all rolled_responses are one and pitch_deg "
        "is known",
        _at_pole,
        tilt_to_pole,
    ),
}
"""The probes, by their names in reports."""


def low_resolution(picture: PictureFile, view_size: int) -> Image.Image:
    """Return a panorama, twice as wide as high, of about `view_size` squared pixels.

    Views cut from it look where they always do, but see only what a model would that is shown the
    whole equirectangular picture as one.

    Args:
        picture: Its file, with what is declared of it.
        view_size: Pixels along a side of a view.

    Raises:
        PanoVLMError: If the picture cannot be read.
    """
    height = max(round(view_size / sqrt(2)), 1)
    pixels = load_panorama(picture, min_width=2 * height)
    return Image.fromarray(pixels).resize((2 * height, height), Image.Resampling.BOX)
