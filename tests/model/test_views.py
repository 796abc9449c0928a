"""Where views look, what they see, and what they refuse."""

import numpy as np
import pytest

from panovlm.model.errors import PanoVLMError
from panovlm.model.sphere import angles_from_rays, rays_from_angles
from panovlm.model.views import View


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


def test_a_quarter_roll_turns_the_picture():
    upright, rolled = View(10, 20).rays(6, 6), View(10, 20, 90).rays(6, 6)
    np.testing.assert_allclose(rolled, np.rot90(upright), atol=1e-12)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: View(0, fov_deg=0.0), "found a field of view of 0°.*fov_deg"),
        (lambda: View(0, fov_deg=180.0), "found a field of view of 180°.*fov_deg"),
        (lambda: View(0, fov_deg=float("nan")), "found a field of view of nan°.*fov_deg"),
        (lambda: View(0, 91.0), "found a pitch of 91°.*pitch_deg"),
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
        turn = np.angle(np.exp(1j * (yaw - yaw_rad)))
        steps.append(np.hypot(turn, pitch - pitch_rad).min() / fine)
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
