"""Claims about rendered scenes: where solids appear, what they look like, how they rotate."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from panovlm.errors import PanoVLMError
from panovlm.scenes.render import render
from panovlm.scenes.world import CAMERA_HEIGHT_M, COLOURS, SHAPES, Scene, Solid, sample_scene

HEIGHT = 256
MAGENTA = (255, 0, 255)
"""No shadow gives it any green, and every solid has some."""

Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(11)
    return [sample_scene(rng) for _ in range(25)]


def constant(height: int, colour: tuple[int, int, int] = MAGENTA) -> Picture:
    return np.full((height, 2 * height, 3), colour, np.uint8)


def covered(*solids: Solid, height: int = 512) -> NDArray[np.bool_]:
    """The pixels of a solids-only picture that show a solid."""
    return render(Scene(solids, 0), height, constant(height))[..., 1] > 10


def column_of(yaw_deg: float, width: int) -> int:
    return int((yaw_deg / 360 + 0.5) * width) % width


def centre_colour(picture: Picture, solid: Solid) -> NDArray[np.float64]:
    height, width = picture.shape[:2]
    pitch_deg = np.degrees(np.arctan2(solid.size_m / 2 - CAMERA_HEIGHT_M, solid.distance_m))
    row = int((0.5 - pitch_deg / 180) * height)
    return np.asarray(picture[row, column_of(solid.yaw_deg, width)], np.float64)


def nearest_colour(rgb: NDArray[np.float64]) -> str:
    return min(
        COLOURS,
        key=lambda name: float(np.linalg.norm(rgb - COLOURS[name])),
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
            assert nearest_colour(centre_colour(picture, solid)) == solid.colour, solid


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_pixel_inside_a_solid_is_nearest_to_its_colour(shape: str, colour: str) -> None:
    for spin_deg, look_seed in ((0.0, 0), (30.0, 1), (45.0, 2), (75.0, 3)):
        solid = Solid(shape, colour, 0.0, 3, 1.3, spin_deg)
        picture = render(Scene((solid,), look_seed), HEIGHT, constant(HEIGHT)).astype(float)
        inside = cv2.erode(covered(solid, height=HEIGHT).astype(np.uint8), np.ones((3, 3)))
        assert {nearest_colour(rgb) for rgb in picture[inside > 0][::5]} == {colour}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("yaw_deg", [-171.5, -60.2, 0.0, 37.3, 100.0, 178.9, 180.0])
def test_a_solid_is_centred_on_its_yaw(shape: str, yaw_deg: float) -> None:
    mask = covered(Solid(shape, "green", yaw_deg, 3, 1.3))
    assert angle_between_deg(circular_mean_deg(pixel_yaw_deg(mask)), yaw_deg) < 0.2


@pytest.mark.parametrize(("distance_m", "within_deg"), [(2, 3.5), (3, 2.5), (5, 1.5), (7, 1.0)])
def test_a_spun_cube_is_centred_on_its_yaw_but_for_its_near_corner(
    distance_m: int, within_deg: float
) -> None:
    for spin_deg in (10.0, 25.0, 45.0, 70.0):
        mask = covered(Solid("cube", "green", 20.0, distance_m, 1.5, spin_deg))
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


def test_the_faces_of_a_cube_differ_in_brightness() -> None:
    solid = Solid("cube", "yellow", 0.0, 3, 1.2, spin_deg=45.0)
    picture = render(Scene((solid,), 0), 512, constant(512)).astype(int)
    row = int((0.5 + np.arctan2(1.0, 3) / np.pi) * 512)
    left, right = picture[row, [512 - 30, 512 + 30], 0]
    assert abs(left - right) > 20


@pytest.mark.parametrize("shape", SHAPES)
def test_a_solid_across_the_seam_appears_at_both_edges(shape: str) -> None:
    crossing = Solid(shape, "green", 176.0, 3, 1.3)
    mask = covered(crossing)
    assert crossing.crosses_seam
    assert mask[:, 0].any()
    assert mask[:, -1].any()
    assert not mask[:, 256:768].any()


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_yaw_rotation_rolls_the_solids(scenes: list[Scene], steps: int) -> None:
    background = constant(HEIGHT, (90, 90, 90))
    for scene in scenes[:8]:
        rotated = render(scene.yaw_rotated(45.0 * steps), HEIGHT, background).astype(int)
        rolled = np.roll(render(scene, HEIGHT, background), -steps * HEIGHT // 4, axis=1)
        assert (np.abs(rotated - rolled) <= 1).mean() > 0.999


def test_ground_and_sky_stay_when_the_scene_rotates(scenes: list[Scene]) -> None:
    empty = Scene((), scenes[0].look_seed)
    assert np.array_equal(render(empty, HEIGHT), render(empty.yaw_rotated(45.0), HEIGHT))


@pytest.mark.parametrize("near_first", [True, False])
def test_the_nearer_solid_hides_the_farther(near_first: bool) -> None:
    near = Solid("cylinder", "red", 10.0, 2, 1.5)
    far = Solid("cube", "green", 10.0, 7, 1.1)
    solids = (near, far) if near_first else (far, near)
    picture = render(Scene(solids, 0), HEIGHT, constant(HEIGHT)).astype(float)
    alone = covered(far, height=HEIGHT)
    assert alone.any()
    assert {nearest_colour(rgb) for rgb in picture[alone]} == {"red"}


def test_a_solid_half_behind_another_shows_its_free_half() -> None:
    near, far = Solid("cylinder", "red", 0.0, 2, 1.2), Solid("cylinder", "green", 17.0, 5, 1.2)
    picture = render(Scene((near, far), 0), 512, constant(512)).astype(float)
    row = int((0.5 + np.arctan2(1.0, 5) / np.pi) * 512)
    shown = {yaw: nearest_colour(picture[row, column_of(yaw, 1024)]) for yaw in (13, 16, 19, 22)}
    assert shown == {13: "red", 16: "red", 19: "green", 22: "green"}


def test_interlocking_solids_are_parted_by_depth_not_by_distance() -> None:
    cube, cone = Solid("cube", "red", 0.0, 5, 3.0), Solid("cone", "green", 0.0, 4, 1.2)
    picture = render(Scene((cube, cone), 0), 512, constant(512)).astype(float)
    rgb = [picture[int((0.5 + np.arctan2(h, 3.5) / np.pi) * 512), 512] for h in (1.55, 0.5)]
    assert [nearest_colour(each) for each in rgb] == ["green", "red"]


@pytest.mark.parametrize("look_seed", range(24))
def test_ground_and_sky_continue_across_the_seam(look_seed: int) -> None:
    picture = render(Scene((), look_seed), HEIGHT).astype(float)
    across = np.abs(picture[:, 0] - picture[:, -1]).mean()
    within = np.abs(np.diff(picture, axis=1)).mean(axis=(0, 2))
    assert across <= within.max() + 0.1
    assert across < 8


@pytest.mark.parametrize("look_seed", range(24))
def test_ground_is_nearly_grey(look_seed: int) -> None:
    ground = render(Scene((), look_seed), HEIGHT)[HEIGHT // 2 :].astype(int)
    assert np.ptp(ground, axis=-1).max() <= 60
    assert ground.mean() < 190


def test_the_background_is_kept_where_no_solid_or_shadow_is(scenes: list[Scene]) -> None:
    background = np.random.default_rng(0).integers(0, 256, (HEIGHT, 2 * HEIGHT, 3), np.uint8)
    solid = Solid("cube", "red", 30.0, 3, 1.3)
    picture = render(Scene((solid,), 0), HEIGHT, background)
    changed = (picture != background).any(axis=-1)
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


def test_a_shadow_darkens_the_ground_beside_the_foot_and_fades() -> None:
    solid = Solid("cylinder", "red", 0.0, 3, 1.2)
    picture = render(Scene((solid,), 0), 512, constant(512, (200, 200, 200)))
    row = int((0.5 + np.arctan2(CAMERA_HEIGHT_M, 3) / np.pi) * 512)
    yaws = [np.degrees(np.arctan(offset_m / 3)) for offset_m in (0.66, 0.75, 0.9)]
    greys = [int(picture[row, column_of(yaw, 1024), 1]) for yaw in yaws]
    assert greys[0] < greys[1] < greys[2] == 200
    assert greys[0] < 180


@pytest.mark.parametrize("make", [lambda p: p, lambda p: p[:, :, ::-1]], ids=["plain", "reversed"])
def test_a_background_of_another_size_is_resized(make: Callable[[Picture], Picture]) -> None:
    background = make(constant(64, (10, 20, 30)))
    picture = render(Scene((), 0), HEIGHT, background)
    assert picture.shape == (HEIGHT, 2 * HEIGHT, 3)
    assert (picture == background[0, 0]).all()


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
