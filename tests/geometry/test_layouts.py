"""What the views of a layout share, how much they see, and what a layout refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panovlm.errors import PanoVLMError
from panovlm.geometry.cutting import cut_views
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import angles_from_rays
from panovlm.geometry.views import GlobalView, View

RING = "ring of 8 views of 224 px, 90° wide, 45° apart, neighbours share 50%"


def test_ring_yaws_increase_from_the_front_and_wrap():
    assert ViewLayout.ring(8).yaws_deg == (0, 45, 90, 135, 180, -135, -90, -45)
    assert ViewLayout.ring(3).yaws_deg == pytest.approx((0, 120, -120))


def test_right_columns_of_a_view_look_where_the_left_columns_of_the_next_do():
    layout = ViewLayout.ring(8, 90.0)
    yaw_rad, _ = angles_from_rays(layout.rays(1, 64)[:, 0])
    shared = layout.overlap_columns(64)
    for view in range(8):
        right, left = yaw_rad[view, -shared:], yaw_rad[(view + 1) % 8, :shared]
        steps = np.angle(np.exp(1j * (right - yaw_rad[view].mean())))
        assert np.all(np.sort(steps) == steps)
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
        (lambda: ViewLayout((), 8), "without views"),
        (lambda: ViewLayout((View(0),), 0), "view size of 0 px.*view_size"),
        (lambda: ViewLayout.ring(1), "ring of 1 views, expected 2 or more.*num_views"),
        (lambda: ViewLayout.free([]), "without views"),
        (lambda: ViewLayout.free([(0, 0, 0)]), "view 0: found 3 numbers, expected 4.*angles_deg"),
        (
            lambda: ViewLayout.free([(0, 0, 0, 90), (0, 0, 0, 180)]),
            "view 1: found a field of view of 180°.*fov_deg",
        ),
    ],
)
def test_impossible_values_are_refused_with_the_knob(build, message):
    with pytest.raises(PanoVLMError, match=message):
        build()


def test_layouts_are_equal_and_hashed_by_value():
    assert {ViewLayout.ring(8): "a"}[ViewLayout.ring(8)] == "a"
    assert ViewLayout.ring(8) != ViewLayout.ring(8, 91.0)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (ViewLayout.ring(), RING),
        (ViewLayout.ring().with_global(), f"{RING}, and a global view of 224 px around 0°"),
        (
            ViewLayout.ring(4, 80, 32, (0, -45)),
            "8 views of 32 px in rows of 4 at pitch 0° and -45°, 80° wide, 90° apart",
        ),
        (
            ViewLayout.ring(4, 80, 32, (30,)),
            "4 views of 32 px in rows of 4 at pitch 30°, 80° wide, 90° apart",
        ),
        (ViewLayout.cubemap(64), "cube map of 6 views of 64 px"),
        (ViewLayout.cubemap(64, 110), "cube map of 6 views of 64 px, 110° wide"),
        (
            ViewLayout.cubemap(64).with_global(),
            "cube map of 6 views of 64 px, and a global view of 64 px around 0°",
        ),
        (ViewLayout.equirectangular(96), "global view of 96 px around 0°"),
        (
            ViewLayout((GlobalView(0), GlobalView(180)), 96),
            "global view of 96 px around 0° and 180°",
        ),
        (
            ViewLayout.free([(0, 60, 5, 90), (-30.5, 0, 0, 40)], 32),
            "2 views of 32 px at (yaw, pitch, roll, width) (0°, 60°, 5°, 90°), "
            "(-30.5°, 0°, 0°, 40°)",
        ),
        (
            ViewLayout.ring(4, 80, 32, (0, 0)),
            "8 views of 32 px at (yaw, pitch, roll, width) "
            + ", ".join(f"({yaw}°, 0°, 0°, 80°)" for yaw in (0, 90, 180, -90) * 2),
        ),
    ],
)
def test_each_layout_is_described_in_a_line(layout, expected):
    assert layout.describe() == expected


def test_a_long_list_of_views_is_described_in_part():
    text = ViewLayout.free([(7 * step, 0, 0, 50) for step in range(20)]).describe()
    assert text.count("50°)") == 8
    assert text.endswith(" and 12 more")


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


@pytest.mark.parametrize(
    ("layout", "num_strides"),
    [
        (ViewLayout.ring(8, 90, 16), 8),
        (ViewLayout.ring(8, 90, 16, (0.0, 55.0, -55.0)), 8),
        (ViewLayout.free([*((y, 0, 0, 90) for y in (0, 90, 180, 270)), (0, 50, 0, 90)]), 1),
        (ViewLayout.free([(y, 10 * (y % 180 > 0), 0, 90) for y in (0, 90, 180, 270)], 16), 2),
        (ViewLayout.cubemap(16), 1),
        (ViewLayout.ring(4, 90, 16).with_global(), 1),
    ],
)
def test_a_rotation_by_a_stride_changes_the_order_of_views_alone(layout, num_strides):
    assert layout.num_strides == num_strides
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 128, 3), dtype=np.uint8)
    views = cut_views(pixels, layout)
    for count in range(-1, num_strides + 1):
        rotated = np.roll(pixels, -count * 128 // num_strides, axis=1)
        assert np.array_equal(cut_views(rotated, layout), views[list(layout.order_after(count))])


def test_settings_describe_one_layout():
    settings = {"num_views": 4, "fov_deg": 100.0, "view_size": 32}
    angles = [[0.0, 0.0, 0.0, 90.0], [180.0, 30.0, 5.0, 60.0]]
    of = ViewLayout.of_settings
    assert of(**settings) == ViewLayout.ring(4, 100.0, 32)
    assert of(**settings, pitches_deg=[0, 40]) == ViewLayout.ring(4, 100.0, 32, (0, 40))
    assert of(**settings, cubemap=True) == ViewLayout.cubemap(32, 100.0)
    assert of(**settings, angles_deg=angles) == ViewLayout.free(angles, 32)
    assert of(**settings, global_view=True) == ViewLayout.ring(4, 100.0, 32).with_global()
    with pytest.raises(PanoVLMError, match="found pitches_deg beside cubemap, expected one"):
        of(**settings, pitches_deg=[0], cubemap=True)


def test_free_views_have_the_angles_given():
    layout = ViewLayout.free([(10, -20, 30, 40), (0, 0, 0, 90)], 48)
    assert layout == ViewLayout((View(10, -20, 30, 40), View(0)), 48)


def test_a_global_view_comes_after_the_others():
    layout = ViewLayout.ring(4, 90.0, 32).with_global()
    assert layout.views == (*ViewLayout.ring(4, 90.0, 32).views, GlobalView())
    assert layout.rays(3, 5).shape == (5, 3, 5, 3)
    assert layout.perspective == ViewLayout.ring(4, 90.0, 32)
    assert ViewLayout.equirectangular().perspective is None


@pytest.mark.parametrize("layout", [ViewLayout.ring().with_global(), ViewLayout.equirectangular()])
def test_a_layout_with_a_global_view_is_no_ring(layout):
    assert not layout.is_ring
    with pytest.raises(PanoVLMError, match=r"no even ring.*global view.*and no others"):
        layout.overlap_columns(16)


def test_a_global_view_adds_nothing_to_the_coverage_of_others():
    ring = ViewLayout.ring(4)
    assert ring.with_global().coverage() == ring.coverage()
    assert ViewLayout.equirectangular().coverage() == 1.0


@pytest.mark.parametrize("rows", [90, 91, 360])  # 90 puts rays on the edges of the cube
def test_a_cube_leaves_no_gap_between_its_faces(rows):
    assert ViewLayout.cubemap().coverage(rows) == 1.0


def angles(low, high):
    """Angles in degrees; training turns subnormal numbers off for the whole process."""
    return st.floats(low, high, allow_subnormal=False)


ANGLES = st.tuples(angles(-360, 360), angles(-90, 90), angles(-180, 180), angles(1, 179))


@settings(max_examples=30)
@given(st.lists(ANGLES, min_size=1, max_size=4))
def test_coverage_is_a_share_and_grows_with_every_view(views):
    shares = [ViewLayout.free(views[:count]).coverage(40) for count in range(1, len(views) + 1)]
    assert 0 <= shares[0] <= shares[-1] <= 1
    assert shares == sorted(shares)
