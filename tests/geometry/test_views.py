"""Where views look, what they see, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import (
    angles_between,
    angles_from_rays,
    panorama_rays,
    rays_from_angles,
)
from panovlm.geometry.views import GlobalView, View


def floats(low, high):
    """Numbers to try; training turns subnormal ones off for the whole process."""
    return st.floats(low, high, allow_subnormal=False)


YAWS, PITCHES = floats(-720, 720), floats(-90, 90)
VIEWS = st.builds(View, YAWS, PITCHES, floats(-720, 720), floats(1, 175))
GLOBAL_VIEWS = st.builds(GlobalView, YAWS)
PLACES = floats(0, 1)


def degrees_of(rays):
    return tuple(np.degrees(angle) for angle in angles_from_rays(rays))


@pytest.mark.parametrize("view", [View(0), View(-130, 35, 50, 70), View(180, -90, 5, 120)])
def test_rays_have_unit_length(view):
    rays = view.rays(5, 7)
    assert rays.shape == (5, 7, 3)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1.0)


@pytest.mark.parametrize("roll_deg", [0.0, 33.0, -120.0])
@pytest.mark.parametrize(("yaw_deg", "pitch_deg"), [(0, 0), (45, 0), (-100, 60), (170, -85)])
def test_the_centre_ray_looks_at_yaw_and_pitch_whatever_the_roll(yaw_deg, pitch_deg, roll_deg):
    centre = View(yaw_deg, pitch_deg, roll_deg).rays(1, 1)[0, 0]
    expected = rays_from_angles(np.radians(yaw_deg), np.radians(pitch_deg))
    np.testing.assert_allclose(centre, expected, atol=1e-12)


@pytest.mark.parametrize("fov_deg", [40.0, 90.0, 120.0])
def test_edges_lie_half_the_field_of_view_away(fov_deg):
    view = View(30, fov_deg=fov_deg)
    yaw_deg, _ = degrees_of(view.rays_at(np.array([0.0, 1.0]), np.array([0.5, 0.5])))
    np.testing.assert_allclose(yaw_deg, [30 - fov_deg / 2, 30 + fov_deg / 2])
    _, pitch_deg = degrees_of(view.rays_at(np.array([0.5, 0.5]), np.array([0.0, 1.0])))
    np.testing.assert_allclose(pitch_deg, [fov_deg / 2, -fov_deg / 2])


def test_cells_are_spaced_by_tangent_with_centres_at_half_integers():
    x, _, z = np.moveaxis(View(0, fov_deg=90).rays(1, 4)[0], -1, 0)
    np.testing.assert_allclose(x / z, [-0.75, -0.25, 0.25, 0.75])


def test_columns_go_right_and_rows_go_down():
    yaw_deg, pitch_deg = degrees_of(View(0).rays(4, 4))
    assert np.all(np.diff(yaw_deg, axis=1) > 0)
    assert np.all(np.diff(pitch_deg, axis=0) < 0)


def test_positive_roll_lowers_the_right_side():
    _, pitch_deg = degrees_of(View(0, roll_deg=20).rays_at(np.array(1.0), np.array(0.5)))
    assert pitch_deg < -10


def test_a_quarter_roll_rotates_the_picture():
    upright, rolled = View(10, 20).rays(6, 6), View(10, 20, 90).rays(6, 6)
    np.testing.assert_allclose(rolled, np.rot90(upright), atol=1e-12)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: View(0, fov_deg=0.0), "found a field of view of 0°.*fov_deg"),
        (lambda: View(0, fov_deg=180.0), "found a field of view of 180°.*fov_deg"),
        (lambda: View(0, fov_deg=float("nan")), "found a field of view of nan°.*fov_deg"),
        (lambda: View(0, 91.0), "found a pitch of 91°.*pitch_deg"),
        (lambda: View(0, float("nan")), "found a pitch of nan°.*pitch_deg"),
        (lambda: View(float("nan")), "found a yaw of nan°, expected a finite number.*yaw_deg"),
        (lambda: View(0, roll_deg=float("inf")), "found a roll of inf°.*roll_deg"),
        (lambda: GlobalView(float("inf")), "found a yaw of inf°, expected a finite.*yaw_deg"),
    ],
)
def test_impossible_values_are_refused_with_the_knob(build, message):
    with pytest.raises(PanoVLMError, match=message):
        build()


@pytest.mark.parametrize("view", [View(20), View(-60, 25, 10, 70), View(0, 60), View(5, -90)])
def test_the_finest_step_is_the_smallest_one_seen_between_neighbouring_rays(view):
    size, fine = 40, 0.05  # directions of every slope, a twentieth of a pixel long
    grid = (np.arange(size * 4) + 0.5) / (size * 4)
    across, down = np.meshgrid(grid, grid)
    yaw_rad, pitch_rad = angles_from_rays(view.rays_at(across, down))
    steps = []
    for slope in np.linspace(0, np.pi, 36, endpoint=False):
        dx, dy = np.cos(slope) * fine / size, np.sin(slope) * fine / size
        yaw, pitch = angles_from_rays(view.rays_at(across + dx, down + dy))
        yaw_step = np.angle(np.exp(1j * (yaw - yaw_rad)))
        steps.append(np.hypot(yaw_step, pitch - pitch_rad).min() / fine)
    assert view.finest_step_rad(size) == pytest.approx(min(steps), rel=0.03)


@pytest.mark.parametrize("view", [View(0), View(-130, 35, 50, 70), View(180, -90, 5, 120)])
def test_places_are_where_rays_came_from(view):
    across, down = np.random.default_rng(0).random((2, 50))
    found = view.places_of(3.0 * view.rays_at(across, down))
    np.testing.assert_allclose(found, (across, down), atol=1e-12)


def test_what_lies_behind_has_no_place_and_is_not_seen():
    view = View(20, 10)
    behind = -view.rays(3, 3)
    assert np.isnan(view.places_of(behind)).all()
    assert not view.sees(behind).any()
    assert view.sees(view.rays(3, 3)).all()


def rotation_about(axis, angle_deg):
    """Rodrigues' rotation by the right-hand rule, written apart from the package."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(angle_deg)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


@given(VIEWS, PLACES, PLACES)
def test_a_view_is_rolled_then_pitched_then_rotated(view, across, down):
    half = np.tan(np.radians(view.fov_deg / 2))
    straight = np.array([(2 * across - 1) * half, (1 - 2 * down) * half, 1.0])
    # Yaw rotates front to right, pitch front to up, roll right to down.
    roll = rotation_about((0, 0, 1), -view.roll_deg)
    pitch = rotation_about((1, 0, 0), -view.pitch_deg)
    yaw = rotation_about((0, 1, 0), view.yaw_deg)
    expected = yaw @ pitch @ roll @ straight / np.linalg.norm(straight)
    found = view.rays_at(np.array(across), np.array(down))
    np.testing.assert_allclose(found, expected, atol=1e-9)


@given(VIEWS, PLACES, PLACES, floats(0.01, 100))
def test_every_place_of_a_view_is_found_again(view, across, down, length):
    found = view.places_of(length * view.rays_at(np.array(across), np.array(down)))
    np.testing.assert_allclose(found, (across, down), atol=1e-7)


@given(GLOBAL_VIEWS, PLACES, floats(0.001, 0.999), floats(0.01, 100))
def test_every_place_of_a_global_view_is_found_again(view, across, down, length):
    found = view.places_of(length * view.rays_at(np.array(across), np.array(down)))
    assert 0 <= found[0] < 1
    np.testing.assert_allclose(found[1], down, atol=1e-9)
    apart = (found[0] - across + 0.5) % 1 - 0.5  # the left and the right border are one
    assert abs(apart) < 1e-9


@given(st.one_of(VIEWS, GLOBAL_VIEWS), floats(-180, 180), PITCHES)
def test_every_ray_that_a_view_sees_is_found_again(view, yaw_deg, pitch_deg):
    ray = rays_from_angles(np.radians(yaw_deg), np.radians(pitch_deg))
    if view.sees(ray):
        back = view.rays_at(*view.places_of(ray))
        assert angles_between(back, ray) < 1e-7


def test_a_global_view_sees_every_direction():
    rays = np.random.default_rng(0).normal(size=(4, 50, 3))
    assert GlobalView(33).sees(rays).shape == (4, 50)
    assert GlobalView(33).sees(rays).all()


def test_a_global_view_is_the_panorama_rotated_by_whole_columns():
    panorama = panorama_rays(6, 8)
    np.testing.assert_allclose(GlobalView().rays(6, 8), panorama, atol=1e-12)
    np.testing.assert_allclose(GlobalView(90).rays(6, 8), np.roll(panorama, -2, axis=1), atol=1e-12)


def test_the_middle_of_a_global_view_looks_at_its_yaw():
    np.testing.assert_allclose(GlobalView(50).rays(1, 1)[0, 0], View(50).rays(1, 1)[0, 0])


def test_the_finest_step_of_a_global_view_is_a_row():
    yaw_rad, pitch_rad = angles_from_rays(GlobalView().rays(50, 50))
    row, column = -np.diff(pitch_rad, axis=0).mean(), np.diff(yaw_rad, axis=1).mean()
    assert GlobalView().finest_step_rad(50) == pytest.approx(row)
    assert column == pytest.approx(2 * row)


def test_a_ray_on_the_border_of_two_faces_is_seen_by_both():
    for yaw_deg in range(-180, 180, 90):
        ray = rays_from_angles(np.radians(yaw_deg + 45.0), np.radians(np.linspace(-30, 30, 7)))
        assert View(yaw_deg).sees(ray).all()
        assert View(yaw_deg + 90).sees(ray).all()
