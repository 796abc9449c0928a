"""What holds of every direction, view, region and box: at the seam, at the poles, everywhere."""

from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from panovlm.errors import PanoVLMError
from panovlm.geometry.assembling import assemble_panorama
from panovlm.geometry.boxes import (
    PanoramaBox,
    ViewBox,
    panorama_box_to_region,
    region_to_panorama_box,
    region_to_view_box,
    view_box_to_panorama_box,
    view_box_to_region,
)
from panovlm.geometry.cutting import cut_views, required_width
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.places import (
    angles_to_panorama,
    nearest_view,
    panorama_to_angles,
    panorama_to_rays,
    panorama_to_view,
    rays_to_panorama,
    view_to_panorama,
    views_that_see,
)
from panovlm.geometry.polygons import clip_polygon, polygon_area_sr, side_normals
from panovlm.geometry.regions import Region, interval_iou
from panovlm.geometry.sphere import (
    angles_between,
    angles_from_rays,
    direction_index,
    panorama_rays,
    rays_from_angles,
    wrap_deg,
)
from panovlm.geometry.views import View

always = settings(derandomize=True, deadline=None, max_examples=60)
rarely = settings(always, max_examples=15)


def numbers(low, high, *special):
    plain = st.floats(low, high, allow_nan=False, allow_subnormal=False)
    return st.one_of(plain, st.sampled_from(special)) if special else plain


yaws = numbers(-720, 720, -180.0, 180.0, -360.0, 0.0, np.nextafter(180.0, 181), 179.9999)
pitches = numbers(-90, 90, -90.0, 90.0, 0.0, 89.9999)
sizes = st.tuples(st.integers(2, 300), st.integers(2, 300))  # rows and columns
shares = numbers(0, 1, 0.0, 0.5, 1.0)
views = st.builds(View, yaws, pitches, numbers(-180, 180), numbers(20, 150))
regions = st.builds(Region, yaws, pitches, numbers(1, 170), numbers(1, 170))


@st.composite
def directions(draw):
    return rays_from_angles(np.radians(draw(yaws)), np.radians(draw(pitches)))


@st.composite
def rotations(draw):
    parts = np.array([draw(numbers(-1, 1)) for _ in range(4)])
    assume(np.linalg.norm(parts) > 0.1)
    w, x, y, z = parts / np.linalg.norm(parts)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


@st.composite
def panorama_boxes(draw, height, width):
    top, left = draw(numbers(0, height - 1, 0.0)), draw(numbers(0, width - 1e-6, 0.0))
    down = draw(st.one_of(numbers(0.5, height - top), st.just(height - top)))
    return PanoramaBox(left, top, draw(numbers(0.5, width, float(width))), down)


def even_rays(count=20_000):
    """Rays that each stand for the same area: a spiral from pole to pole."""
    yaws_rad = np.arange(count) * np.pi * (3 - np.sqrt(5))
    return rays_from_angles(yaws_rad, np.arcsin(1 - (2 * np.arange(count) + 1) / count))


EVEN_RAYS = even_rays()


def rotated(region, by_deg):
    return replace(region, yaw_deg=region.yaw_deg + by_deg)


# Angles


@always
@given(yaws)
def test_a_wrapped_yaw_is_the_same_direction_within_180_degrees(yaw_deg):
    wrapped = wrap_deg(yaw_deg)
    assert -180 < wrapped <= 180
    assert wrap_deg(wrapped) == wrapped
    whole = (yaw_deg - wrapped) / 360
    assert whole == pytest.approx(round(whole), abs=1e-12)


@always
@given(yaws, st.integers(-3, 3))
def test_direction_words_do_not_depend_on_whole_rotations(yaw_deg, count):
    assume(abs((yaw_deg / 45) % 1 - 0.5) > 1e-9)  # between two words rounding decides
    assert direction_index(yaw_deg) == direction_index(wrap_deg(yaw_deg))
    assert direction_index(yaw_deg) == direction_index(yaw_deg + 360 * count)
    middle_deg = 45 * direction_index(yaw_deg)
    assert abs(wrap_deg(yaw_deg - middle_deg)) <= 22.5


@always
@given(directions(), numbers(0.1, 100))
def test_a_ray_of_any_length_is_given_back_by_its_angles(ray, length):
    np.testing.assert_allclose(rays_from_angles(*angles_from_rays(length * ray)), ray, atol=1e-15)


@always
@given(directions(), directions(), directions())
def test_great_circle_distance_is_a_metric(first, second, third):
    there = angles_between(first, second)
    assert 0 <= there <= np.pi
    assert there == angles_between(second, first)
    assert angles_between(first, first) == 0
    assert there <= angles_between(first, third) + angles_between(third, second) + 1e-14
    assert (there > 1e-15) == (np.abs(first - second).max() > 1e-15)


@always
@given(directions(), directions(), rotations())
def test_great_circle_distance_is_kept_by_rotating_the_sphere(first, second, rotation):
    here, there = angles_between(first, second), angles_between(rotation @ first, rotation @ second)
    assert there == pytest.approx(here, abs=1e-14)


# Places


@always
@given(sizes, shares, shares)
def test_a_place_of_the_panorama_is_given_back_by_its_angles_and_its_ray(size, across, down):
    height, width = size
    x, y = across * width, down * height
    yaw_deg, pitch_deg = panorama_to_angles(x, y, *size)
    assert -180 < yaw_deg <= 180
    back_x, back_y = angles_to_panorama(yaw_deg, pitch_deg, *size)
    assert 0 <= back_x < width
    assert (back_x - x + width / 2) % width == pytest.approx(width / 2, abs=1e-9)
    assert back_y == pytest.approx(y, abs=1e-9)
    ray = panorama_to_rays(x, y, *size)
    back = panorama_to_rays(*rays_to_panorama(ray, *size), *size)  # at a pole x is lost
    np.testing.assert_allclose(back, ray, atol=1e-14)


@always
@given(views, st.integers(1, 500), sizes, shares, shares)
def test_a_place_of_a_view_is_given_back_by_the_panorama(view, view_size, size, across, down):
    place = across * view_size, down * view_size
    there = view_to_panorama(view, view_size, *place, *size)
    assert 0 <= there[0] < size[1]
    assert 0 <= there[1] <= size[0]
    np.testing.assert_allclose(
        panorama_to_view(view, view_size, *there, *size), place, atol=1e-9 * view_size
    )


@always
@given(st.lists(views, min_size=1, max_size=5), yaws, pitches)
def test_the_nearest_view_sees_the_direction_and_none_that_sees_it_is_nearer(
    some, yaw_deg, pitch_deg
):
    seen = views_that_see(some, yaw_deg, pitch_deg)
    nearest = nearest_view(some, yaw_deg, pitch_deg)
    if nearest == -1:
        assert not seen.any()
    else:
        ray = rays_from_angles(np.radians(yaw_deg), np.radians(pitch_deg))
        apart = np.array([angles_between(ray, view.rays(1, 1)[0, 0]) for view in some])
        assert seen[nearest]
        assert apart[nearest] <= apart[seen].min() + 1e-9


# Regions


@always
@given(regions, regions, numbers(-400, 400))
def test_overlap_is_symmetric_and_keeps_when_the_camera_rotates(first, second, by_deg):
    overlap = first.iou(second)
    assert 0 <= overlap <= 1 + 1e-12
    assert second.iou(first) == pytest.approx(overlap, abs=1e-9)
    assert rotated(first, by_deg).iou(rotated(second, by_deg)) == pytest.approx(overlap, abs=1e-9)
    assert first.iou(first) == pytest.approx(1, abs=1e-9)
    assert first.iou(rotated(first, 360)) == pytest.approx(1, abs=1e-9)


@always
@given(regions, regions, numbers(-400, 400), st.booleans())
def test_overlap_of_intervals_is_symmetric_and_keeps_when_the_camera_rotates(
    first, second, by_deg, by_solid_angle
):
    def overlap(one, other):
        return interval_iou(astuple(one), astuple(other), by_solid_angle=by_solid_angle)

    assert 0 <= overlap(first, second) <= 1 + 1e-12
    assert overlap(second, first) == pytest.approx(overlap(first, second), abs=1e-9)
    there = overlap(rotated(first, by_deg), rotated(second, by_deg))
    assert there == pytest.approx(overlap(first, second), abs=1e-9)
    assert overlap(first, first) == pytest.approx(1)


@always
@given(regions, regions)
def test_areas_are_those_of_counted_directions(first, second):
    inside, also = first.contains(EVEN_RAYS), second.contains(EVEN_RAYS)
    area_sr = 4 * np.pi * inside.mean()
    assert first.solid_angle_sr == pytest.approx(area_sr, abs=0.02)
    assert polygon_area_sr(first.outline()) == pytest.approx(first.solid_angle_sr, rel=1e-6)
    shared_sr = 4 * np.pi * (inside & also).mean()
    overlap = first.iou(second)
    union_sr = first.solid_angle_sr + second.solid_angle_sr
    assert overlap * union_sr / (1 + overlap) == pytest.approx(shared_sr, abs=0.02)


@always
@given(regions, st.lists(directions(), min_size=1, max_size=6))
def test_every_cut_leaves_less_of_a_polygon_and_both_halves_make_the_whole(region, normals):
    polygon = region.outline()
    for normal in normals:
        left, other = clip_polygon(polygon, normal), clip_polygon(polygon, -normal)
        whole_sr, left_sr = polygon_area_sr(polygon), polygon_area_sr(left)
        assert left_sr <= whole_sr + 1e-12
        assert left_sr + polygon_area_sr(other) == pytest.approx(whole_sr, abs=1e-9)
        polygon = left


@always
@given(yaws, numbers(-85, 85), numbers(1, 150), numbers(1, 150))
def test_a_region_is_given_back_by_its_outline(yaw_deg, pitch_deg, width_deg, height_deg):
    region = Region(yaw_deg, pitch_deg, width_deg, height_deg)
    found = Region.around(region.outline())
    assert wrap_deg(found.yaw_deg - yaw_deg) == pytest.approx(0, abs=1e-5)
    assert astuple(found)[1:] == pytest.approx(astuple(region)[1:], abs=1e-5)


@always
@given(st.lists(directions(), min_size=2, max_size=8))
def test_a_region_around_directions_holds_them(some):
    rays = np.stack(some)
    try:
        region = Region.around(rays)
    except PanoVLMError:
        return
    grown = (min(size + 1e-6, 179.9999999) for size in (region.width_deg, region.height_deg))
    assert Region(region.yaw_deg, region.pitch_deg, *grown).contains(rays).all()


# Boxes


def outside_px(box, x, y, panorama_width):
    """How far places lie outside a box of the panorama, and how far the box reaches beyond them."""
    right = (x - box.left + 1) % panorama_width - 1
    if box.width >= panorama_width:
        right = np.array([0.0, box.width])
    out = max(
        -right.min(), right.max() - box.width, box.top - y.min(), y.max() - box.top - box.height
    )
    empty = (
        right.min(),
        box.width - right.max(),
        y.min() - box.top,
        box.top + box.height - y.max(),
    )
    return out, empty


@always
@given(regions)
def test_the_panorama_box_of_a_region_just_holds_its_outline(region):
    height, width = 256, 512
    poles = np.array([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
    assume((np.abs(poles @ side_normals(region.outline()).T).min(axis=1) > 1e-3).all())
    box = region_to_panorama_box(region, height, width)
    out, empty = outside_px(box, *rays_to_panorama(region.outline(500), height, width), width)
    assert out < 1e-6
    upper, lower = region.contains(poles)
    if upper or lower:
        assert box.width == width
    else:
        assert max(empty[:2]) < 1e-6  # widest at its corners
    assert box.top < 1e-6 if upper else empty[2] < 0.05
    assert box.top + box.height > height - 1e-6 if lower else empty[3] < 0.05


@always
@given(st.data(), views)
def test_a_view_box_goes_to_regions_and_panorama_boxes_that_hold_all_it_shows(data, view):
    left, top = data.draw(numbers(0, 60)), data.draw(numbers(0, 60))
    box = ViewBox(left, top, data.draw(numbers(1, 64 - left)), data.draw(numbers(1, 64 - top)))
    share = np.linspace(0, 1, 50)
    x, y = np.meshgrid(box.left + share * box.width, box.top + share * box.height)
    rays = view.rays_at(x / 64, y / 64)
    region = view_box_to_region(box, view, 64)
    grown = replace(region, width_deg=region.width_deg + 1e-6, height_deg=region.height_deg + 1e-6)
    assert grown.contains(rays).all()
    there = view_box_to_panorama_box(box, view, 64, 256, 512)
    assert outside_px(there, *rays_to_panorama(rays, 256, 512), 512)[0] < 1e-6
    back = region_to_view_box(region, view, 64)
    assert back.left <= box.left + 1e-4
    assert back.top <= box.top + 1e-4
    assert back.left + back.width >= box.left + box.width - 1e-4
    assert back.top + back.height >= box.top + box.height - 1e-4


@always
@given(regions, views)
def test_the_view_box_of_a_region_holds_all_that_the_view_sees_of_it(region, view):
    box = region_to_view_box(region, view, 64)
    seen = EVEN_RAYS[region.contains(EVEN_RAYS) & view.sees(EVEN_RAYS)]
    if box is None:
        assert len(seen) == 0
        return
    across, down = view.places_of(seen)
    assert ((across * 64 >= box.left - 1e-6) & (across * 64 <= box.left + box.width + 1e-6)).all()
    assert ((down * 64 >= box.top - 1e-6) & (down * 64 <= box.top + box.height + 1e-6)).all()


@always
@given(panorama_boxes(180, 360))
def test_a_panorama_box_goes_to_a_region_that_holds_it_and_to_the_same_parts(box):
    first, *second = box.split(360)
    assert (first.left, first.top, first.height) == (box.left, box.top, box.height)
    assert first.left + first.width <= 360 + 1e-9
    if second:
        assert first.left + first.width == pytest.approx(360)
        assert (second[0].left, second[0].top, second[0].height) == (0, box.top, box.height)
    assert sum(part.width for part in box.split(360)) == pytest.approx(box.width)
    try:
        region = panorama_box_to_region(box, 180, 360)
    except PanoVLMError:
        assert box.width >= 180 or box.height > 179.9  # nothing less reaches around
        return
    share = np.linspace(0, 1, 60)
    x, y = np.meshgrid(box.left + share * box.width, box.top + share * box.height)
    grown = (min(size + 1e-6, 179.9999999) for size in (region.width_deg, region.height_deg))
    holding = Region(region.yaw_deg, region.pitch_deg, *grown)
    assert holding.contains(panorama_to_rays(x, y, 180, 360)).all()
    assert outside_px(region_to_panorama_box(holding, 180, 360), x, y, 360)[0] < 1e-6


# Pictures

SLOPE, BEND = 240.0, 720.0
"""Bounds of the first and second derivatives of `waves` by angle, in grey levels and radians."""


def waves(rays):
    """A smooth grey level for every direction, 0..255, the same in three channels but for phase."""
    ways = np.array([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0], [-0.8, 0.6, 0.0]])
    return 127.5 + 80 * np.sin(3 * rays @ ways.T + [0.3, 1.0, 2.0])


def picture_of_waves(height, width):
    return np.rint(waves(panorama_rays(height, width))).astype(np.uint8)


def cutting_bound(layout, height, width):
    """How far a cut view may be from the truth, in grey levels, from where each step rounds."""
    roundings = 4 * 0.5  # the panorama, its reduction, the samples and their mean are whole numbers
    factor = max(width // required_width(layout), 1)
    column = np.pi * factor * max(2 / width, 1 / height)  # of the reduced panorama, in radians
    wide = 2 * np.tan(np.radians(max(view.fov_deg for view in layout.views)) / 2)
    pixel = wide / layout.view_size
    between_columns = (SLOPE + BEND) * column**2 * (1 / 4 + 1 / 12)  # bilinear, and averaged before
    table = SLOPE * column / 32  # OpenCV's maps know 32 places between two pixels along each axis
    averaged = (SLOPE + BEND) * (pixel / 4) ** 2  # 2x2 samples around the centre of a pixel
    return roundings + between_columns + table + averaged


@rarely
@given(
    st.lists(
        st.builds(View, yaws, pitches, numbers(-180, 180), numbers(30, 110)), min_size=1, max_size=3
    ),
    st.integers(100, 800),
    st.integers(24, 64),
)
def test_views_show_smooth_panoramas_as_exactly_as_rounding_allows(some, height, view_size):
    layout = ViewLayout(tuple(some), view_size)
    shown = cut_views(picture_of_waves(height, 2 * height), layout)
    error = np.abs(shown - waves(layout.rays(view_size, view_size)))
    assert error.max() < cutting_bound(layout, height, 2 * height)
    assert error.mean() < 0.75


@rarely
@given(st.integers(2, 9), st.integers(8, 28), st.integers(8, 40), numbers(30, 120))
def test_rotating_by_a_stride_shifts_a_ring_bit_for_bit(num_views, columns, view_size, fov_deg):
    width = 2 * num_views * columns
    layout = ViewLayout.ring(num_views, fov_deg, view_size)
    assume(width < 2 * required_width(layout))  # it is not reduced, where strides could break
    rng = np.random.default_rng(width)
    panorama = rng.integers(0, 256, (width // 2, width, 3), dtype=np.uint8)
    expected = np.roll(cut_views(panorama, layout), -1, axis=0)
    there = cut_views(np.roll(panorama, -2 * columns, axis=1), layout)
    np.testing.assert_array_equal(there, expected)


@rarely
@given(
    st.one_of(
        st.just(ViewLayout.cubemap(64)),
        st.builds(lambda n: ViewLayout.ring(n, 95.0, 64), st.integers(4, 9)),
        st.builds(lambda *some: ViewLayout(some, 64), views, views),
    ),
    st.integers(10, 90),
)
def test_a_panorama_cut_and_assembled_is_itself_where_views_look(layout, height):
    back, seen = assemble_panorama(cut_views(picture_of_waves(200, 400), layout), layout, height)
    error = np.abs(back - waves(panorama_rays(height, 2 * height)))[seen]
    pixel = 2 * np.tan(np.radians(max(view.fov_deg for view in layout.views)) / 2) / 64
    at_border = SLOPE * pixel / 2 * np.sqrt(2)  # half a pixel beyond the outermost centres
    between_pixels = (2 * SLOPE + BEND) * pixel**2 / 4
    assert error.max(initial=0) < cutting_bound(layout, 200, 400) + at_border + between_pixels
