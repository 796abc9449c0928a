"""Where views look, what neighbours share, and what a layout refuses."""

import numpy as np
import pytest

from panovlm.model.errors import PanoVLMError
from panovlm.model.sphere import angles_from_rays, rays_from_angles
from panovlm.model.views import View, ViewLayout


def degrees_of(rays):
    return tuple(np.degrees(angle) for angle in angles_from_rays(rays))


def test_ring_yaws_increase_from_the_front_and_wrap():
    assert ViewLayout.ring(8).yaws_deg == (0, 45, 90, 135, 180, -135, -90, -45)
    assert ViewLayout.ring(3).yaws_deg == pytest.approx((0, 120, -120))


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


def test_right_columns_of_a_view_look_where_the_left_columns_of_the_next_do():
    layout = ViewLayout.ring(8, 90.0)
    yaw_rad, _ = angles_from_rays(layout.rays(1, 64)[:, 0])
    shared = layout.overlap_columns(64)
    for view in range(8):
        right, left = yaw_rad[view, -shared:], yaw_rad[(view + 1) % 8, :shared]
        turn = np.angle(np.exp(1j * (right - yaw_rad[view].mean())))
        assert np.all(np.sort(turn) == turn)
        gaps = np.degrees(np.angle(np.exp(1j * (right[:, None] - left[None, :]))))
        assert np.abs(gaps).min(axis=1).max() < 90 / 64  # each column has a partner nearby
        assert abs(np.degrees(np.angle(np.exp(1j * (right[0] - left[0]))))) < 1.0


def test_ring_overlap_follows_from_stride_and_field_of_view():
    layout = ViewLayout.ring(8, 90.0)
    assert (layout.num_views, layout.stride_deg, layout.overlap_ratio) == (8, 45.0, 0.5)
    assert layout.overlap_columns(16) == 8
    assert ViewLayout.ring(4, 120.0).overlap_ratio == 0.25
    assert ViewLayout.ring(6, 90.0).overlap_columns(15) == 5  # not 4 through rounding


@pytest.mark.parametrize(("num_views", "fov_deg"), [(4, 90.0), (4, 60.0), (8, 46.0)])
def test_no_whole_overlap_column_names_the_knobs(num_views, fov_deg):
    with pytest.raises(PanoVLMError, match=r"no whole column of 16.*num_views.*fov_deg"):
        ViewLayout.ring(num_views, fov_deg).overlap_columns(16)


def test_a_ring_that_starts_elsewhere_is_a_ring():
    views = tuple(View(yaw_deg) for yaw_deg in (100, -170, -80, 10))
    assert ViewLayout(views, 8).stride_deg == 90.0


@pytest.mark.parametrize(
    "views",
    [
        (View(0),),
        (View(0), View(90)),
        (View(0), View(180, 1)),
        (View(0), View(180, fov_deg=80)),
        (View(0, 30), View(180, 30)),
        (View(0), View(-120), View(120)),
    ],
)
def test_stride_and_overlap_belong_to_even_rings_only(views):
    layout = ViewLayout(views, 32)
    assert not layout.is_ring
    for ask in (lambda: layout.stride_deg, lambda: layout.overlap_ratio):
        with pytest.raises(PanoVLMError, match=r"no even ring.*ViewLayout\.ring"):
            ask()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: View(0, fov_deg=0.0), "found a field of view of 0°.*fov_deg"),
        (lambda: View(0, fov_deg=180.0), "found a field of view of 180°.*fov_deg"),
        (lambda: View(0, fov_deg=float("nan")), "found a field of view of nan°.*fov_deg"),
        (lambda: View(0, 91.0), "found a pitch of 91°.*pitch_deg"),
        (lambda: ViewLayout((), 8), "without views"),
        (lambda: ViewLayout((View(0),), 0), "view size of 0 px.*view_size"),
        (lambda: ViewLayout.ring(1), "ring of 1 views, expected 2 or more.*num_views"),
    ],
)
def test_impossible_values_are_refused_with_the_knob(build, message):
    with pytest.raises(PanoVLMError, match=message):
        build()


def test_layouts_are_equal_and_hashed_by_value():
    assert {ViewLayout.ring(8): "a"}[ViewLayout.ring(8)] == "a"
    assert ViewLayout.ring(8) != ViewLayout.ring(8, 91.0)


def test_describe_tells_rings_from_other_layouts():
    expected = "ring of 8 views of 224 px, 90° wide, 45° apart, neighbours share 50%"
    assert ViewLayout.ring().describe() == expected
    assert ViewLayout((View(0, 60),), 32).describe() == "1 views of 32 px at (yaw, pitch) (0°, 60°)"


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


def test_the_faces_of_a_cube_see_each_direction_once():
    rays = np.random.default_rng(0).normal(size=(2000, 3))
    seen = sum(view.sees(rays).astype(int) for view in ViewLayout.cubemap().views)
    assert (seen == 1).all()


def test_coverage_is_the_share_of_the_sphere():
    assert ViewLayout.cubemap().coverage() == 1.0
    # A face of a cube is a sixth; a view of angle a: asin(sin²(a/2)) / π of the sphere.
    assert ViewLayout((View(33),), 8).coverage() == pytest.approx(1 / 6, abs=1e-3)
    narrow = ViewLayout((View(0, 40, 10, 50),), 8).coverage()
    assert narrow == pytest.approx(np.arcsin(np.sin(np.radians(25)) ** 2) / np.pi, abs=1e-3)
    assert ViewLayout.ring(4).coverage() == pytest.approx(4 / 6, abs=1e-3)


def test_a_ring_of_several_rows_has_one_for_each_pitch():
    layout = ViewLayout.ring(4, 90.0, 32, pitches_deg=(0.0, 60.0))
    assert layout.views[:4] == ViewLayout.ring(4, 90.0, 32).views
    assert [view.pitch_deg for view in layout.views[4:]] == [60.0] * 4
    assert layout.yaws_deg[4:] == layout.yaws_deg[:4]
    assert not layout.is_ring
    assert layout.coverage() > ViewLayout.ring(4).coverage() + 0.1
