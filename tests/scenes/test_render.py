"""Claims about rendered scenes: where solids appear, what they look like, how they rotate."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from panovlm.errors import PanoVLMError
from panovlm.scenes.look import Look, sample_look
from panovlm.scenes.render import render
from panovlm.scenes.world import CAMERA_HEIGHT_M, COLOURS, SHAPES, Scene, Solid, sample_scene

HEIGHT = 256
MAGENTA = (255, 0, 255)
"""No shadow gives it any green, and a solid of yellow, cyan or white has much."""

Picture = NDArray[np.uint8]


def look_seed(*claims: Callable[[Look], object]) -> int:
    """The first seed whose look fulfils all claims."""
    looks = map(sample_look, count())
    return next(look.seed for look in looks if all(claim(look) for claim in claims))


def is_sharp(look: Look) -> bool:
    return not (look.noise or look.blur or look.haze_per_m)


PLAIN = look_seed(is_sharp, lambda look: not look.shadow_length)
"""Look of pictures in which edges are crisp, nothing is hazy and no shadow is cast far."""


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(11)
    return [sample_scene(rng) for _ in range(25)]


def constant(height: int, colour: tuple[int, int, int] = MAGENTA) -> Picture:
    return np.full((height, 2 * height, 3), colour, np.uint8)


def covered(*solids: Solid, height: int = 512) -> NDArray[np.bool_]:
    """The pixels of a solids-only picture that show a solid; yellow, cyan or white ones."""
    return render(Scene(solids, PLAIN), height, constant(height))[..., 1] > 25


def column_of(yaw_deg: float, width: int) -> int:
    return int((yaw_deg / 360 + 0.5) * width) % width


def centre_colour(picture: Picture, scene: Scene, solid: Solid) -> NDArray[np.float64]:
    height, width = picture.shape[:2]
    row = int((0.5 - scene.pitch_deg(solid) / 180) * height)
    return np.asarray(picture[row, column_of(solid.yaw_deg, width)], np.float64)


def hue_rad(rgb: NDArray[np.float64]) -> float:
    red, green, blue = rgb
    return float(np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue))


def named_colour(rgb: NDArray[np.float64]) -> str:
    """White without saturation, else the nearest in hue."""
    if np.ptp(rgb) < 0.25 * rgb.max():
        return "white"
    hues = {name: hue_rad(np.array(typical)) for name, typical in COLOURS.items()}
    return min(
        (name for name in COLOURS if name != "white"),
        key=lambda name: abs(np.angle(np.exp(1j * (hues[name] - hue_rad(rgb))))),
    )


def pixel_yaw_deg(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    columns = np.nonzero(mask)[1]
    return np.asarray((columns + 0.5) / mask.shape[1] - 0.5, np.float64) * 360


def circular_mean_deg(yaw_deg: NDArray[np.float64]) -> float:
    return float(np.degrees(np.angle(np.exp(1j * np.radians(yaw_deg)).mean())))


def angle_between_deg(a: float, b: float) -> float:
    return abs((a - b + 180) % 360 - 180)


def test_the_picture_is_uint8_rgb_twice_as_wide_as_high(scenes: list[Scene]) -> None:
    picture = render(scenes[0], 100)
    assert picture.shape == (100, 200, 3)
    assert picture.dtype == np.uint8


def test_the_same_scene_gives_the_same_picture(scenes: list[Scene]) -> None:
    assert np.array_equal(render(scenes[0], HEIGHT), render(scenes[0], HEIGHT))


def test_another_look_gives_another_ground_and_sky(scenes: list[Scene]) -> None:
    first, second = (render(Scene((), seed), HEIGHT).astype(int) for seed in (1, 2))
    for half in (slice(0, HEIGHT // 2), slice(HEIGHT // 2, None)):
        assert np.abs(first[half] - second[half]).mean() > 3


def test_solids_show_their_colour_at_their_centre(scenes: list[Scene]) -> None:
    for scene in scenes:
        picture = render(scene, HEIGHT)
        for solid in scene.solids:
            shown = centre_colour(picture, scene, solid)
            assert named_colour(shown) == solid.colour, (scene.look_seed, solid)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("shape", SHAPES)
def test_nearly_every_pixel_inside_a_solid_has_its_colour(shape: str, colour: str) -> None:
    named = []
    for seed in range(12):
        solid = Solid(shape, colour, 0.0, 3, 1.3, spin_deg=7.0 * seed)
        inside = covered(replace(solid, colour="cyan"), height=HEIGHT).astype(np.uint8)
        picture = render(Scene((solid,), seed), HEIGHT).astype(float)
        pixels = picture[cv2.erode(inside, np.ones((3, 3))) > 0][::7]
        named += [named_colour(rgb) for rgb in pixels]
    assert named.count(colour) > 0.98 * len(named)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("yaw_deg", [-171.5, -60.2, 0.0, 37.3, 100.0, 178.9, 180.0])
def test_a_solid_is_centred_on_its_yaw(shape: str, yaw_deg: float) -> None:
    mask = covered(Solid(shape, "cyan", yaw_deg, 3, 1.3))
    assert angle_between_deg(circular_mean_deg(pixel_yaw_deg(mask)), yaw_deg) < 0.2


@pytest.mark.parametrize(("distance_m", "within_deg"), [(2, 3.5), (3, 2.5), (5, 1.5), (7, 1.0)])
def test_a_spun_cube_is_centred_on_its_yaw_but_for_its_near_corner(
    distance_m: int, within_deg: float
) -> None:
    for spin_deg in (10.0, 25.0, 45.0, 70.0):
        mask = covered(Solid("cube", "cyan", 20.0, distance_m, 1.5, spin_deg))
        assert angle_between_deg(circular_mean_deg(pixel_yaw_deg(mask)), 20.0) < within_deg


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("distance_m", [2, 5])
@pytest.mark.parametrize("spin_deg", [0.0, 20.0, 45.0, 80.0])
def test_a_solid_covers_exactly_its_yaw_span(shape: str, distance_m: int, spin_deg: float) -> None:
    solid = Solid(shape, "cyan", 12.0, distance_m, 1.4, spin_deg)
    yaw_deg = pixel_yaw_deg(covered(solid)) - solid.yaw_deg
    pixel_deg = 360 / 1024
    assert (yaw_deg.min(), yaw_deg.max()) == pytest.approx(solid.yaw_span_deg, abs=2 * pixel_deg)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("distance_m", [2, 3, 7])
def test_a_solid_stands_on_the_ground(shape: str, distance_m: int) -> None:
    radius = 0.6
    rows = np.nonzero(covered(Solid(shape, "cyan", 12.0, distance_m, 2 * radius)))[0]
    foot_deg = np.degrees(np.arctan2(CAMERA_HEIGHT_M, distance_m - radius))
    if shape == "sphere":
        below, slant = CAMERA_HEIGHT_M - radius, np.hypot(CAMERA_HEIGHT_M - radius, distance_m)
        foot_deg = np.degrees(np.arctan2(below, distance_m) + np.arcsin(radius / slant))
    assert (rows.max() + 1) / 512 * 180 - 90 == pytest.approx(foot_deg, abs=0.5)


@pytest.mark.parametrize(
    ("shape", "top_over_bottom"), [("cone", (0.0, 0.25)), ("cylinder", (0.85, 1.2))]
)
def test_a_cone_narrows_and_a_cylinder_does_not(
    shape: str, top_over_bottom: tuple[float, float]
) -> None:
    widths = covered(Solid(shape, "cyan", 0.0, 7, 1.4)).sum(axis=1)
    widths = widths[widths > 0]
    low, high = top_over_bottom
    assert low <= widths[len(widths) // 8] / widths[-len(widths) // 4] <= high


def test_a_sphere_has_the_area_of_its_disc() -> None:
    mask = covered(Solid("sphere", "cyan", 0.0, 7, 1.4), height=1024)
    slant = np.hypot(7, CAMERA_HEIGHT_M - 0.7)
    solid_angle = 2 * np.pi * (1 - np.cos(np.arcsin(0.7 / slant)))
    rows = np.nonzero(mask)[0]
    seen = np.cos((0.5 - (rows + 0.5) / 1024) * np.pi).sum() * (np.pi / 1024) ** 2
    assert seen == pytest.approx(solid_angle, rel=0.05)


def test_the_faces_of_a_cube_differ_in_brightness_under_a_light_from_one_side() -> None:
    seed = look_seed(is_sharp, lambda look: look.diffuse[1] * abs(look.light[0]) > 0.3)
    solid = Solid("cube", "yellow", 0.0, 3, 1.2, spin_deg=45.0)
    picture = render(Scene((solid,), seed), 512, constant(512)).astype(int)
    row = int((0.5 + np.arctan2(1.0, 3) / np.pi) * 512)
    left, right = picture[row, [512 - 30, 512 + 30], 0]
    assert abs(left - right) > 20
    assert (right > left) == (sample_look(seed).light[0] > 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_solid_across_the_seam_appears_at_both_edges(shape: str) -> None:
    crossing = Solid(shape, "cyan", 176.0, 3, 1.3)
    mask = covered(crossing)
    assert crossing.crosses_seam
    assert mask[:, 0].any()
    assert mask[:, -1].any()
    assert not mask[:, 256:768].any()


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_yaw_rotation_rolls_the_solids(scenes: list[Scene], steps: int) -> None:
    background = constant(HEIGHT, (90, 90, 90))
    noiseless = [scene for scene in scenes if not sample_look(scene.look_seed).noise]
    for scene in noiseless[:12]:
        rotated = render(scene.yaw_rotated(45.0 * steps), HEIGHT, background).astype(int)
        rolled = np.roll(render(scene, HEIGHT, background), -steps * HEIGHT // 4, axis=1)
        assert (np.abs(rotated - rolled) <= 1).mean() > 0.999


def test_ground_and_sky_stay_when_the_scene_rotates(scenes: list[Scene]) -> None:
    empty = Scene((), scenes[0].look_seed)
    assert np.array_equal(render(empty, HEIGHT), render(empty.yaw_rotated(45.0), HEIGHT))


@pytest.mark.parametrize("near_first", [True, False])
def test_the_nearer_solid_hides_the_farther(near_first: bool) -> None:
    near = Solid("cylinder", "red", 10.0, 2, 1.5)
    far = Solid("cube", "cyan", 10.0, 7, 1.1)
    solids = (near, far) if near_first else (far, near)
    picture = render(Scene(solids, PLAIN), HEIGHT, constant(HEIGHT)).astype(float)
    alone = covered(far, height=HEIGHT)
    assert alone.any()
    assert {named_colour(rgb) for rgb in picture[alone]} == {"red"}


def test_a_solid_half_behind_another_shows_its_free_half() -> None:
    near, far = Solid("cylinder", "red", 0.0, 2, 1.2), Solid("cylinder", "green", 17.0, 5, 1.2)
    picture = render(Scene((near, far), PLAIN), 512, constant(512)).astype(float)
    row = int((0.5 + np.arctan2(1.0, 5) / np.pi) * 512)
    shown = {yaw: named_colour(picture[row, column_of(yaw, 1024)]) for yaw in (13, 16, 19, 22)}
    assert shown == {13: "red", 16: "red", 19: "green", 22: "green"}


def test_interlocking_solids_are_parted_by_depth_not_by_distance() -> None:
    cube, cone = Solid("cube", "red", 0.0, 5, 3.0), Solid("cone", "green", 0.0, 4, 1.2)
    picture = render(Scene((cube, cone), PLAIN), 512, constant(512)).astype(float)
    rgb = [picture[int((0.5 + np.arctan2(h, 3.5) / np.pi) * 512), 512] for h in (1.55, 0.5)]
    assert [named_colour(each) for each in rgb] == ["green", "red"]


@pytest.mark.parametrize("seed", range(24))
def test_ground_and_sky_continue_across_the_seam(seed: int) -> None:
    picture = render(Scene((), seed), HEIGHT).astype(float)
    across = np.abs(picture[:, 0] - picture[:, -1]).mean()
    within = np.abs(np.diff(picture, axis=1)).mean(axis=(0, 2))
    assert across <= within.max() + 0.1
    assert across < 8


def test_the_background_is_kept_where_no_solid_or_shadow_is() -> None:
    background = np.random.default_rng(0).integers(0, 256, (HEIGHT, 2 * HEIGHT, 3), np.uint8)
    solid = Solid("cube", "cyan", 30.0, 3, 1.3)
    picture = render(Scene((solid,), PLAIN), HEIGHT, background)
    changed = (picture != render(Scene((), PLAIN), HEIGHT, background)).any(axis=-1)
    rows, columns = np.nonzero(changed)
    assert changed[covered(solid, height=HEIGHT)].mean() > 0.99
    assert angle_between_deg(((columns.min() + columns.max() + 1) / 2 / 512 - 0.5) * 360, 30) < 2
    assert rows.min() > HEIGHT // 2
    assert changed.mean() < 0.06


def test_the_given_background_is_not_written_to() -> None:
    background = constant(HEIGHT)
    background.flags.writeable = False
    render(Scene((Solid("cube", "red", 30.0, 2, 1.3),), 0), HEIGHT, background)
    assert np.array_equal(background, constant(HEIGHT))


def greys_at_its_foot(solid: Solid, seed: int, *aside_m: float) -> list[int]:
    """The ground's brightness to the right of a solid's middle, of 200 without a shadow."""
    picture = render(Scene((solid,), seed), 512, constant(512, (200, 200, 200))).astype(int)
    row = int((0.5 + np.arctan2(CAMERA_HEIGHT_M, solid.distance_m) / np.pi) * 512)
    yaws = [np.degrees(np.arctan(offset_m / solid.distance_m)) for offset_m in aside_m]
    return [int(picture[row, column_of(yaw, 1024), 1]) for yaw in yaws]


def test_a_shadow_darkens_the_ground_beside_the_foot_and_fades() -> None:
    seed = look_seed(
        is_sharp,
        lambda look: not look.shadow_length,
        lambda look: look.shadow_depth > 0.4 and 1.4 < look.shadow_reach < 1.5,
    )
    near, middle, beyond, far = greys_at_its_foot(
        Solid("cylinder", "red", 0.0, 3, 1.2), seed, 0.66, 0.75, 0.95, 2.5
    )
    assert near < middle < beyond == far
    assert near < 0.9 * far


def test_a_cast_shadow_falls_away_from_the_light() -> None:
    cast = is_sharp, lambda look: look.shadow_length > 0.8 and look.shadow_depth > 0.4
    from_left = look_seed(*cast, lambda look: look.light[0] < -0.6 and abs(look.light[2]) < 0.2)
    from_right = look_seed(*cast, lambda look: look.light[0] > 0.6 and abs(look.light[2]) < 0.2)
    solid = Solid("cylinder", "red", 0.0, 3, 1.2)
    right, without = greys_at_its_foot(solid, from_left, 1.2, 2.9)
    assert right < 0.9 * without
    right, without = greys_at_its_foot(solid, from_right, 1.2, 2.9)
    assert right == without


@pytest.mark.parametrize("camera_m", [1.45, 1.75])
def test_solids_are_seen_from_the_height_of_the_scenes_own_camera(camera_m: float) -> None:
    solid = Solid("cylinder", "cyan", 0.0, 5, 1.2)
    scene = Scene((solid,), PLAIN, camera_m)
    rows = np.nonzero(render(scene, 512, constant(512))[..., 1] > 25)[0]
    foot_deg = np.degrees(np.arctan2(camera_m, 5 - 0.6))
    assert (rows.max() + 1) / 512 * 180 - 90 == pytest.approx(foot_deg, abs=0.5)
    top_deg = np.degrees(np.arctan2(camera_m - 1.2, 5 + 0.6))
    assert rows.min() / 512 * 180 - 90 == pytest.approx(top_deg, abs=0.5)


def test_haze_takes_far_solids_towards_the_horizon_more_than_near_ones() -> None:
    hazy = look_seed(lambda look: look.haze_per_m > 0.04 and not look.noise)
    grey = constant(HEIGHT, (128, 128, 128))
    saturations = []
    for distance_m in (2, 7):
        solid = Solid("cylinder", "blue", 0.0, distance_m, 1.3)
        scene = Scene((solid,), hazy)
        rgb = centre_colour(render(scene, HEIGHT, grey), scene, solid)
        saturations.append(np.ptp(rgb) / rgb.max())
    assert saturations[1] < 0.9 * saturations[0]


def test_a_soft_picture_is_one_across_the_seam() -> None:
    soft = look_seed(lambda look: look.blur and not look.noise)
    left_half = constant(HEIGHT, (0, 0, 0))
    left_half[:, :HEIGHT] = 200
    picture = render(Scene((), soft), HEIGHT, left_half).astype(int)
    assert (picture[:, 0] == picture[:, HEIGHT - 1]).all()
    assert (picture[:, -1] == picture[:, HEIGHT]).all()


@pytest.mark.parametrize("make", [lambda p: p, lambda p: p[:, :, ::-1]], ids=["plain", "reversed"])
def test_a_background_of_another_size_is_resized(make: Callable[[Picture], Picture]) -> None:
    background = make(constant(64, (10, 20, 30)))
    picture = render(Scene((), PLAIN), HEIGHT, background)
    assert picture.shape == (HEIGHT, 2 * HEIGHT, 3)
    assert (picture == picture[0, 0]).all()
    assert np.abs(picture[0, 0].astype(int) - background[0, 0]).max() < 12


@pytest.mark.parametrize(
    "background",
    [
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((64, 128), np.uint8),
        np.zeros((64, 128, 4), np.uint8),
        np.zeros((64, 128, 3), np.float32),
        np.zeros((0, 0, 3), np.uint8),
    ],
    ids=["square", "grey", "alpha", "float", "empty"],
)
def test_a_background_that_is_no_rgb_panorama_is_refused(background: Picture) -> None:
    with pytest.raises(PanoVLMError, match="found a background of shape"):
        render(Scene((), 0), HEIGHT, background)


def test_a_height_that_makes_no_picture_is_refused() -> None:
    with pytest.raises(PanoVLMError, match="found height 1, expected at least 2"):
        render(Scene((), 0), height=1)


def test_solids_higher_than_the_camera_rise_above_the_horizon() -> None:
    low = Solid("cylinder", "cyan", 0.0, 5, 1.5)
    assert not covered(low)[:255].any()
    tall_rows = np.nonzero(covered(replace(low, size_m=2.6)))[0]
    top_deg = np.degrees(np.arctan2(1.0, 5 - 1.3))
    assert 90 - tall_rows.min() / 512 * 180 == pytest.approx(top_deg, abs=0.5)
