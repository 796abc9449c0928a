"""Claims about what varies between pictures, and how far."""

from colorsys import rgb_to_hsv
from dataclasses import fields, replace
from itertools import pairwise, product

import numpy as np
import pytest

from panovlm.scenes.distractors import MIN_DISTANCE_M
from panovlm.scenes.look import JITTERS, MIN_FRONT, SKIES, Look, sample_look
from panovlm.scenes.world import COLOURS, DISTANCES_M, SHAPES, Solid

CHROMATIC = [name for name in COLOURS if name != "white"]
RGB = tuple[float, float, float]


@pytest.fixture(scope="module")
def looks() -> list[Look]:
    return [sample_look(seed) for seed in range(600)]


def hsv(rgb: RGB) -> RGB:
    red, green, blue = (level / 255 for level in rgb)
    return rgb_to_hsv(red, green, blue)


def extreme_albedos(name: str) -> list[RGB]:
    """The colours at all corners of a name's jitter, as (hue in degrees, saturation, value)."""
    hue, saturation, value = hsv(COLOURS[name])
    jitter = JITTERS[name]
    return [
        (360 * hue + h, min(saturation + s, 1.0), min(value + v, 1.0))
        for h, s, v in product(jitter.hue_deg, jitter.saturation, jitter.value)
    ]


def nearest_in_hue(hue_deg: float) -> str:
    def apart(name: str) -> float:
        return abs((hue_deg - 360 * hsv(COLOURS[name])[0] + 180) % 360 - 180)

    return min(CHROMATIC, key=apart)


@pytest.mark.parametrize("name", CHROMATIC)
def test_the_largest_jitter_leaves_a_colour_nearest_to_its_own_class(name: str) -> None:
    for hue_deg, saturation, _ in extreme_albedos(name):
        assert nearest_in_hue(hue_deg) == name
        assert saturation > 0.55


def test_two_colours_stay_eleven_degrees_of_hue_apart() -> None:
    spans = []
    for name in CHROMATIC:
        centre = 360 * hsv(COLOURS[name])[0]
        low, high = JITTERS[name].hue_deg
        middle = (centre + 180) % 360 - 180 if name == "red" else centre
        spans.append((middle + low, middle + high))
    spans.sort()
    wrapped = [*spans, (spans[0][0] + 360, spans[0][1] + 360)]
    assert min(following[0] - span[1] for span, following in pairwise(wrapped)) >= 11


def test_white_stays_bright_and_without_colour() -> None:
    for _, saturation, value in extreme_albedos("white"):
        assert saturation <= 0.041
        assert value >= 0.9


def test_sampled_solids_lie_within_the_jitter_of_their_colour(looks: list[Look]) -> None:
    for look in looks[:100]:
        for name in CHROMATIC:
            hue, saturation, _ = hsv(look.surface(Solid("cone", name, 0.0, 3, 1.2)).albedo)
            assert nearest_in_hue(360 * hue) == name
            assert saturation > 0.55


def test_orange_and_yellow_stay_bright() -> None:
    for name in ("orange", "yellow"):
        assert min(value for *_, value in extreme_albedos(name)) > 0.85


def test_a_surface_belongs_to_the_name_not_to_the_place(looks: list[Look]) -> None:
    solid = Solid("cube", "red", 10.0, 3, 1.2, 20.0)
    moved = replace(solid, yaw_deg=-80.0, distance_m=7)
    for look in looks[:20]:
        assert look.surface(solid) == look.surface(moved)
        assert look.surface(solid) != look.surface(replace(solid, colour="blue"))
        assert look.surface(solid) != look.surface(replace(solid, shape="cone"))


def test_the_same_seed_gives_the_same_look(looks: list[Look]) -> None:
    assert sample_look(5) == looks[5] != looks[6]


def test_light_comes_from_the_whole_upper_hemisphere(looks: list[Look]) -> None:
    light = np.array([look.light for look in looks])
    assert np.linalg.norm(light, axis=1) == pytest.approx(1.0)
    elevation_deg = np.degrees(np.arcsin(light[:, 1]))
    assert 20 <= elevation_deg.min() < 25
    assert 75 < elevation_deg.max() <= 80
    azimuths = np.degrees(np.arctan2(light[:, 0], light[:, 2]))
    assert np.histogram(azimuths, bins=8, range=(-180, 180))[0].min() > 40


def test_the_side_that_one_sees_is_never_dark_and_nothing_burns_out(looks: list[Look]) -> None:
    ambient = np.array([look.ambient[1] for look in looks])
    diffuse = np.array([look.diffuse[1] for look in looks])
    front = ambient + diffuse * np.array([max(-look.light[2], 0.0) for look in looks])
    assert front.min() > MIN_FRONT - 1e-9
    assert (ambient + diffuse).max() <= 1.1
    assert ambient.min() < 0.4
    assert ambient.max() > 0.8


def test_light_is_warm_in_some_looks_and_cool_in_others(looks: list[Look]) -> None:
    warmth = np.array([look.ambient[0] / look.ambient[2] for look in looks])
    assert 0.8 < warmth.min() < 0.9
    assert 1.1 < warmth.max() < 1.25


def test_some_looks_have_each_effect_and_others_none(looks: list[Look]) -> None:
    solid = Solid("cube", "red", 0.0, 3, 1.2)
    for shares in (
        [bool(look.haze_per_m) for look in looks],
        [bool(look.noise) for look in looks],
        [bool(look.blur) for look in looks],
        [bool(look.shadow_length) for look in looks],
        [bool(look.room) for look in looks],
        [bool(look.distractors) for look in looks],
        [bool(look.surface(solid).gloss) for look in looks],
        [bool(look.surface(solid).relief) for look in looks],
    ):
        assert 0.15 < np.mean(shares) < 0.75


def test_haze_is_clearly_seen_at_the_farthest_solid_and_never_hides_it(looks: list[Look]) -> None:
    hidden = 1 - np.exp(-max(look.haze_per_m for look in looks) * max(DISTANCES_M))
    assert 0.25 < hidden < 0.31


def test_distractors_stand_behind_every_solid_and_are_dull(looks: list[Look]) -> None:
    parts = [part for look in looks for part in look.distractors]
    assert len(parts) > 1000
    for part in parts:
        _, saturation, value = hsv(part.colour)
        assert part.distance_m >= MIN_DISTANCE_M > max(DISTANCES_M) + 4
        assert saturation < 0.39
        assert value <= 0.6


def test_rooms_hold_all_solids_and_have_no_distractors(looks: list[Look]) -> None:
    for look in looks:
        if look.room:
            assert min(look.room.half_size_m) >= max(DISTANCES_M) + 2
            assert look.distractors == ()
            assert max(hsv(look.room.wall)[1], hsv(look.room.ceiling)[1]) < 0.15


def test_grounds_differ_and_are_duller_than_any_solid(looks: list[Look]) -> None:
    colours = [hsv(look.ground.colour) for look in looks]
    assert max(saturation for _, saturation, _ in colours) < 0.45
    values = [value for *_, value in colours]
    assert min(values) < 0.27
    assert max(values) > 0.7
    assert any(0.2 < hue < 0.3 and saturation > 0.3 for hue, saturation, _ in colours)


def test_every_number_of_a_look_varies(looks: list[Look]) -> None:
    for field in fields(Look):
        values = [getattr(look, field.name) for look in looks]
        if isinstance(values[0], float):
            assert len(set(values)) > 50, field.name


def test_skies_get_brighter_towards_the_horizon() -> None:
    for zenith, horizon in SKIES:
        assert sum(horizon) > sum(zenith)


@pytest.mark.parametrize("shape", SHAPES)
def test_waves_are_those_of_noise_stripes_or_grain(looks: list[Look], shape: str) -> None:
    waves = [look.surface(Solid(shape, "red", 0.0, 3, 1.2)).waves for look in looks]
    assert {len(each) for each in waves} == {1, 5}
    for vectors in map(np.array, waves):
        lengths_m = 2 * np.pi / np.linalg.norm(vectors[:, :3], axis=1)
        assert 0.059 < lengths_m.min() <= lengths_m.max() < 0.91
