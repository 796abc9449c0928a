"""Claims about scenes: what a sampled one holds, how it rotates, how it is stored."""

import json

import numpy as np
import pytest

from panovlm.geometry.sphere import wrap_deg
from panovlm.scenes.world import (
    CAMERA_HEIGHT_M,
    CAMERA_HEIGHTS_M,
    COLOURS,
    DISTANCES_M,
    MAX_OFFSET_DEG,
    SHAPES,
    Scene,
    Solid,
    sample_scene,
)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(7)
    return [sample_scene(rng) for _ in range(400)]


def edges_deg(solid: Solid) -> tuple[float, float]:
    left, right = solid.yaw_span_deg
    return solid.yaw_deg + left, solid.yaw_deg + right


def test_sampled_scenes_hold_two_to_six_solids_and_every_count_occurs(scenes: list[Scene]) -> None:
    assert {len(scene.solids) for scene in scenes} == {2, 3, 4, 5, 6}


def test_every_shape_colour_distance_and_sector_occurs(scenes: list[Scene]) -> None:
    solids = [solid for scene in scenes for solid in scene.solids]
    assert {solid.shape for solid in solids} == set(SHAPES)
    assert {solid.colour for solid in solids} == set(COLOURS)
    assert {solid.distance_m for solid in solids} == set(DISTANCES_M)
    assert {solid.sector for solid in solids} == set(range(8))


def test_names_are_unique_within_a_scene(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert len({solid.name for solid in scene.solids}) == len(scene.solids)


def test_solids_stand_in_sectors_of_their_own_in_clockwise_order(scenes: list[Scene]) -> None:
    for scene in scenes:
        sectors = [solid.sector for solid in scene.solids]
        assert sectors == sorted(set(sectors))


def test_solids_stay_near_the_centre_of_their_sector(scenes: list[Scene]) -> None:
    for scene in scenes:
        for solid in scene.solids:
            assert abs(wrap_deg(solid.yaw_deg - 45 * solid.sector)) <= MAX_OFFSET_DEG + 1e-9


def test_no_two_solids_cover_the_same_yaw(scenes: list[Scene]) -> None:
    for scene in scenes:
        for solid in scene.solids:
            _, right = edges_deg(solid)
            for other in scene.solids:
                if other is not solid:
                    left, other_right = edges_deg(other)
                    assert (left - right) % 360 < (other_right - right) % 360


def test_solids_cross_the_seam_in_some_scenes_and_only_behind(scenes: list[Scene]) -> None:
    crossing = [solid for scene in scenes for solid in scene.solids if solid.crosses_seam]
    assert {solid.sector for solid in crossing} == {4}


def test_the_same_generator_state_gives_the_same_scene() -> None:
    first, second = (sample_scene(np.random.default_rng(3)) for _ in range(2))
    assert first == second
    assert first != sample_scene(np.random.default_rng(4))


@pytest.mark.parametrize(("yaw_deg", "expected"), [(0, 0), (22, 0), (23, 1), (-90, 6), (180, 4)])
def test_sector_by_hand(yaw_deg: float, expected: int) -> None:
    assert Solid("cone", "red", yaw_deg, 3, 1.2).sector == expected


@pytest.mark.parametrize(
    ("distance_m", "size_m", "camera_m", "pitch_deg"),
    [
        (2, 1.2, 1.6, -26.565),  # atan(-1 / 2)
        (7, 1.6, 1.6, -6.520),  # atan(-0.8 / 7)
        (2, 1.0, 1.5, -26.565),
        (3, 3.2, 1.6, 0.0),
    ],
)
def test_pitch_of_a_middle_by_hand(
    distance_m: int, size_m: float, camera_m: float, pitch_deg: float
) -> None:
    for yaw_deg in (0.0, 170.0):
        solid = Solid("cone", "red", yaw_deg, distance_m, size_m)
        scene = Scene((solid,), 0, camera_m)
        assert scene.pitch_deg(solid) == pytest.approx(pitch_deg, abs=1e-3)


def test_cameras_stand_at_different_heights(scenes: list[Scene]) -> None:
    heights_m = [scene.camera_height_m for scene in scenes]
    low, high = CAMERA_HEIGHTS_M
    assert low <= min(heights_m) < low + 0.02
    assert high - 0.02 < max(heights_m) <= high


def test_a_rotation_keeps_the_camera_height(scenes: list[Scene]) -> None:
    for scene in scenes[:50]:
        assert scene.yaw_rotated(45.0).camera_height_m == scene.camera_height_m


def test_a_scene_written_without_camera_height_has_the_former_one(scenes: list[Scene]) -> None:
    data = scenes[0].to_json()
    del data["camera_height_m"]
    scene = Scene.from_json(data)
    assert scene.solids == scenes[0].solids
    assert scene.camera_height_m == CAMERA_HEIGHT_M


def test_a_rotation_to_the_right_moves_a_solid_left() -> None:
    rotated = Scene((Solid("cone", "red", 90.0, 3, 1.2),), 0).yaw_rotated(90.0)
    assert rotated.solids[0].yaw_deg == 0.0


def test_a_rotation_by_a_whole_circle_changes_nothing(scenes: list[Scene]) -> None:
    for scene in scenes[:50]:
        rotated = scene.yaw_rotated(360.0)
        assert rotated.look_seed == scene.look_seed
        assert [s.name for s in rotated.solids] == [s.name for s in scene.solids]
        yaws = [solid.yaw_deg for solid in scene.solids]
        assert [solid.yaw_deg for solid in rotated.solids] == pytest.approx(yaws, abs=1e-9)


def test_a_rotation_by_45_degrees_shifts_every_sector_by_one(scenes: list[Scene]) -> None:
    for scene in scenes[:50]:
        names = [solid and solid.name for solid in scene.by_sector()]
        rotated = [solid and solid.name for solid in scene.yaw_rotated(45.0).by_sector()]
        assert rotated == names[1:] + names[:1]


def test_rotated_scenes_stay_in_clockwise_order(scenes: list[Scene]) -> None:
    for scene in scenes[:50]:
        sectors = [solid.sector for solid in scene.yaw_rotated(135.0).solids]
        assert sectors == sorted(sectors)


def test_by_sector_holds_each_solid_at_its_sector_and_none_elsewhere() -> None:
    solid = Solid("cone", "red", -90.0, 3, 1.2)
    assert Scene((solid,), 0).by_sector() == [None] * 6 + [solid, None]


def test_json_round_trip_gives_an_equal_scene(scenes: list[Scene]) -> None:
    for scene in scenes[:50]:
        assert Scene.from_json(json.loads(json.dumps(scene.to_json()))) == scene


@pytest.mark.parametrize(
    ("shape", "yaw_deg", "expected"),
    [
        ("sphere", 180.0, True),
        ("sphere", 0.0, False),
        ("sphere", 151.0, True),  # asin(1 / 2) = 30° to either side
        ("sphere", -151.0, True),
        ("sphere", 149.0, False),
        ("sphere", -149.0, False),
        ("cube", 136.0, True),  # its near edge lies at atan(1 / 1) = 45°
        ("cube", 134.0, False),
    ],
)
def test_seam_crossing_by_hand(shape: str, yaw_deg: float, expected: bool) -> None:
    assert Solid(shape, "red", yaw_deg, 2, 2.0).crosses_seam is expected


def test_a_cube_on_edge_spans_its_diagonal() -> None:
    half_deg = np.degrees(np.arctan(np.sqrt(0.5) / 2))
    on_edge = Solid("cube", "red", 0.0, 2, 1.0, spin_deg=45.0)
    assert on_edge.yaw_span_deg == pytest.approx((-half_deg, half_deg))


def test_a_spun_cube_reaches_farther_to_one_side() -> None:
    rotated = Solid("cube", "red", 0.0, 2, 1.0, spin_deg=20.0)
    left, right = rotated.yaw_span_deg
    assert right != pytest.approx(-left, abs=0.5)
    assert rotated.half_width_deg == max(-left, right)
