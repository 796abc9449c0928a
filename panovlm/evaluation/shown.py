"""How the picture of a question is shown: as it is, with less to see, or seen from elsewhere.

The probes bring what a question is about to where a panorama is difficult: to its left and right
edge, or near a pole, where an equirectangular picture stretches it most.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

from PIL import Image

from panovlm.evaluation.benchmarks.items import Benchmark, Item
from panovlm.geometry.rotation import roll_to_seam, tilt
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

    @property
    def is_moved(self) -> bool:
        """Whether a probe moves it."""
        return self.way in PROBES

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


def pole_pitch_deg(pitch_deg: float) -> float:
    """Return the pitch to which a target of some pitch is brought."""
    return POLE_PITCH_DEG if pitch_deg >= 0.0 else -POLE_PITCH_DEG


def _at_seam(benchmark: Benchmark, item: Item) -> Item | None:
    if item.yaw_deg is None or benchmark.rotate(item, ANY_SHIFT_DEG) is None:
        return None
    return benchmark.rotate(item, (item.yaw_deg - 180.0) % 360.0)


def _at_pole(benchmark: Benchmark, item: Item) -> Item | None:
    pitch_deg = pole_pitch_deg(item.pitch_deg or 0.0)
    return benchmark.tilt(item, pitch_deg)


PROBES = {
    "seam_shifted": Probe(
        "--seam-shifted",
        "a direction (yaw_deg) and an answer known after any rotation, as where all "
        "rolled_responses are one",
        _at_seam,
        lambda pixels, yaw_deg, pitch_deg: roll_to_seam(pixels, yaw_deg),
    ),
    "pole_shifted": Probe(
        "--pole-shifted",
        "an answer known after any rotation, as where all rolled_responses are one and pitch_deg "
        "is known",
        _at_pole,
        lambda pixels, yaw_deg, pitch_deg: tilt(
            pixels, yaw_deg, pitch_deg, pole_pitch_deg(pitch_deg)
        ),
    ),
}
"""The probes, by their names in reports."""
AGAIN = ("yaw_rotated", "without_view", *PROBES)
"""Ways in which some of the questions are asked again, in so many steps each."""


def can_be_asked(benchmark: Benchmark, item: Item, way: str, num_strides: int) -> bool:
    """Return whether it is known what is correct in every step of a way to ask again."""
    steps = range(num_strides if way == "yaw_rotated" else 1)
    return all(expected(benchmark, item, way, n, num_strides) is not None for n in steps)


def expected(
    benchmark: Benchmark, item: Item, way: str, number: int, num_strides: int
) -> Item | None:
    """Return a question with what is correct where it is asked again; None if it is not known.

    Args:
        benchmark: Of the question.
        item: The question about the picture as it is.
        way: One of `AGAIN`.
        number: As in `Shown`.
        num_strides: Of a whole yaw rotation.
    """
    if way in PROBES:
        return PROBES[way].expect(benchmark, item)
    if way == "yaw_rotated":
        return benchmark.rotate(item, 360.0 * number / num_strides)
    return item


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
