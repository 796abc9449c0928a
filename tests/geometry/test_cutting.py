"""Cutting views: exact at every pixel, without a seam, and equivariant to rotating the camera."""

import tracemalloc

import cv2
import numpy as np
import pytest
from made_panoramas import colours, noise, smooth_panorama

from panovlm.errors import PanoVLMError
from panovlm.geometry.cutting import cut_mask, cut_views, required_width
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import panorama_rays
from panovlm.geometry.views import GlobalView, View

RING = ViewLayout.ring(8, 90.0, 64)
SEAM_AND_POLES = ViewLayout(
    (View(0, 60), View(180, -60, 30), View(-179), View(30, 90), View(77, -90), View(12.3, 45)), 64
)


def offsets_px(view, errors):
    """Estimate how far a view is shifted to the right and down, in pixels."""
    size = len(errors)
    centres = (np.arange(size) + 0.5) / size
    across, down = np.meshgrid(centres, centres)
    for right, below in ((1 / size, 0), (0, 1 / size)):
        ahead = colours(view.rays_at(across + right, down + below))
        behind = colours(view.rays_at(across - right, down - below))
        slope = (ahead - behind) / 2
        yield -(errors * slope).sum() / (slope**2).sum()


@pytest.mark.parametrize(
    "layout", [RING, SEAM_AND_POLES, ViewLayout.ring(7, 100.0, 48)], ids=["ring", "poles", "seven"]
)
@pytest.mark.parametrize("width", [360, 1024, 1998, 2048])
def test_views_show_what_lies_in_their_directions(layout, width):
    views = cut_views(smooth_panorama(width // 2, width), layout)
    size = layout.view_size
    assert views.shape == (layout.num_views, size, size, 3)
    assert views.dtype == np.uint8
    difference = views - colours(layout.rays(size, size))
    assert np.abs(difference).max() < 2.0


@pytest.mark.parametrize("width", [1000, 2048])
def test_views_are_not_shifted_by_a_fraction_of_a_pixel(width):
    panorama = smooth_panorama(width // 2, width)
    # The negative rounds the other way, so that only a shift is left.
    negative = 255.0 - cut_views(255 - panorama, SEAM_AND_POLES)
    views = (cut_views(panorama, SEAM_AND_POLES) + negative) / 2
    for view, errors in zip(
        SEAM_AND_POLES.views, views - colours(SEAM_AND_POLES.rays(64, 64)), strict=True
    ):
        assert max(map(abs, offsets_px(view, errors))) < 0.01


def test_a_stretched_picture_is_still_the_whole_sphere():
    square = smooth_panorama(600, 600)
    assert np.abs(cut_views(square, RING) - colours(RING.rays(64, 64))).max() < 2.0


@pytest.mark.parametrize("num_views", [4, 6, 8])
@pytest.mark.parametrize("width", [240, 720, 1680, 4800])
def test_rotating_by_a_stride_shifts_the_views_bit_for_bit(num_views, width):
    layout = ViewLayout.ring(num_views, 90.0, 32)
    panorama = noise(width // 2, width)
    rotated = np.roll(panorama, -width // num_views, axis=1)
    expected = np.roll(cut_views(panorama, layout), -1, axis=0)
    np.testing.assert_array_equal(cut_views(rotated, layout), expected)


def test_rotating_by_half_shifts_views_over_the_poles_too():
    panorama = noise(128, 256)
    layout = ViewLayout((View(0, 70), View(180, 70), View(0, -80), View(180, -80)), 32)
    views = cut_views(panorama, layout)
    rotated = cut_views(np.roll(panorama, 128, axis=1), layout)
    np.testing.assert_array_equal(rotated, views[[1, 0, 3, 2]])


def test_views_do_not_alias_detail_they_cannot_show():
    checkers = np.indices((1024, 2048)).sum(axis=0) % 2 * 255
    views = cut_views(np.repeat(checkers[..., None], 3, axis=2).astype(np.uint8), RING)
    assert np.abs(views.astype(int) - 128).max() <= 2


@pytest.mark.parametrize("width", [4094, 4096, 4098])  # 2047 and 2049 do not halve evenly
def test_widths_that_no_factor_divides_do_not_alias_either(width):
    stripes = np.arange(width) // 2 % 2 * 255
    panorama = np.broadcast_to(stripes[None, :, None], (width // 2, width, 3)).astype(np.uint8)
    assert cut_views(panorama, RING).std() < 16


@pytest.mark.parametrize(
    ("layout", "columns_per_pixel"),
    [(ViewLayout.ring(8, 90.0, 1000), 8.24), (ViewLayout.ring(8, 40.0, 1000), 10.65)],
)
def test_required_width_is_set_by_the_corners(layout, columns_per_pixel):
    assert required_width(layout) == pytest.approx(columns_per_pixel * 1000, rel=0.01)


def test_more_columns_than_required_add_nothing():
    rng = np.random.default_rng(1)
    waves = rng.normal(size=(6, 3)) * 6
    need = required_width(RING)

    def wavy(width):
        rays = panorama_rays(width // 2, width)
        return (127 + 18 * np.sin(rays @ waves.T).sum(axis=-1, keepdims=True)).clip(0, 255)

    enough, plenty = (
        np.repeat(wavy(width).astype(np.uint8), 3, axis=2) for width in (need + need % 2, 4 * need)
    )
    difference = cut_views(enough, RING).astype(int) - cut_views(plenty, RING)
    assert np.abs(difference).max() <= 3


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 2, 3), (3, 5, 3), (10, 7, 3)])
def test_tiny_pictures_are_cut_too(shape):
    for layout in (RING, SEAM_AND_POLES, ViewLayout.equirectangular(16)):
        views = cut_views(np.full(shape, 77, np.uint8), layout)
        np.testing.assert_array_equal(views, 77)


@pytest.mark.parametrize(
    "panorama",
    [np.zeros((4, 8), np.uint8), np.zeros((4, 8, 4), np.uint8), np.zeros((4, 8, 3), np.float32)],
)
def test_other_arrays_are_refused(panorama):
    with pytest.raises(PanoVLMError, match=r"expected uint8 \[H, W, 3\].*as_panorama"):
        cut_views(panorama, RING)


def test_each_view_is_cut_from_the_panorama_reduced_to_its_own_need():
    wide, zoom = View(0, fov_deg=120), View(40, fov_deg=10)
    panorama = noise(1024, 2048)
    together = cut_views(panorama, ViewLayout((wide, zoom), 64))
    for view, pixels in zip((wide, zoom), together, strict=True):
        np.testing.assert_array_equal(pixels, cut_views(panorama, ViewLayout((view,), 64))[0])


def test_a_wide_view_beside_a_zoom_does_not_alias():
    checkers = np.indices((1024, 2048)).sum(axis=0) % 2 * 255
    panorama = np.repeat(checkers[..., None], 3, axis=2).astype(np.uint8)
    wide, _ = cut_views(panorama, ViewLayout((View(0, fov_deg=120), View(0, fov_deg=10)), 64))
    assert np.abs(wide.astype(int) - 128).max() <= 2


def test_rotating_by_a_stride_shifts_several_rows_and_the_global_view_bit_for_bit():
    layout = ViewLayout.ring(4, 70.0, 32, pitches_deg=(0.0, 60.0)).with_global()
    panorama = noise(512, 1024)
    views, rotated = cut_views(panorama, layout), cut_views(np.roll(panorama, -256, axis=1), layout)
    np.testing.assert_array_equal(rotated[:4], np.roll(views[:4], -1, axis=0))
    np.testing.assert_array_equal(rotated[4:8], np.roll(views[4:8], -1, axis=0))
    np.testing.assert_array_equal(rotated[8], np.roll(views[8], -8, axis=1))


@pytest.mark.parametrize("shape", [(256, 512), (300, 611), (48, 96), (20, 40), (40, 80)])
def test_a_global_view_is_the_average_of_areas(shape):
    panorama = noise(*shape)
    (view,) = cut_views(panorama, ViewLayout.equirectangular(48))
    exact = panorama.astype(float)
    for axis, length in enumerate(shape):
        edges = np.linspace(0, length, 49)
        pixel = np.arange(length)
        cover = np.clip(
            np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel), 0, 1
        )
        exact = np.moveaxis(np.tensordot(cover * 48 / length, exact, (1, axis)), 0, axis)
    assert np.abs(view - exact).max() <= 1.01  # two roundings, where one side grows


@pytest.mark.parametrize(("shape", "size"), [((256, 512), 64), ((300, 600), 48), ((301, 602), 64)])
def test_a_global_view_is_rotated_exactly_by_whole_columns(shape, size):
    panorama = noise(*shape)
    columns = 37
    yaw_deg = columns * 360 / shape[1]
    (rotated,) = cut_views(panorama, ViewLayout((GlobalView(yaw_deg),), size))
    expected = np.roll(panorama, -columns, axis=1)
    expected = cv2.resize(expected, (size, size), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(rotated, expected)


def test_a_global_view_shows_what_lies_in_its_directions():
    layout = ViewLayout.ring(4, 90, 64).with_global()
    panorama = smooth_panorama(512, 1024)
    views = cut_views(panorama, layout)
    # An area's average is not its middle's colour: a column is 5.6° wide.
    assert np.abs(views[4] - colours(layout.views[4].rays(64, 64))).max() < 3
    np.testing.assert_array_equal(views[:4], cut_views(panorama, ViewLayout.ring(4, 90, 64)))


def test_a_global_view_needs_two_columns_a_pixel():
    assert required_width(ViewLayout.equirectangular(100)) == 200
    ring = ViewLayout.ring(8, 90.0, 100)
    assert required_width(ring.with_global()) == required_width(ring)


MEMORY_LAYOUTS = {
    "seam and poles, not reduced": ViewLayout.free([(180, 0, 0, 60), (0, 90, 0, 60)], 256),
    "two reductions": ViewLayout.free([(180, 0, 0, 20), (180, 0, 0, 100), (0, -90, 0, 90)], 64),
    "global": ViewLayout.equirectangular(128),
    "global, rotated": ViewLayout((GlobalView(90),), 128),
}


@pytest.mark.parametrize("layout", MEMORY_LAYOUTS.values(), ids=MEMORY_LAYOUTS.keys())
def test_beside_the_panorama_only_the_views_one_reduction_and_the_samples_of_a_view_are_held(
    layout,
):
    panorama = noise(2048, 4096)
    cut_views(panorama, layout)  # makes the maps, which the cache holds
    tracemalloc.start()
    views = cut_views(panorama, layout)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    reduced = panorama.nbytes // 4  # a reduction halves both sides at least
    one_view = 12 * layout.view_size**2
    samples, moved_map = one_view, 3 * 4 * one_view // 3
    rotated_band = 2 * panorama.nbytes // layout.view_size
    assert peak < views.nbytes + reduced + samples + moved_map + rotated_band + 100_000
    assert peak < panorama.nbytes / 2


CAP = ViewLayout.free([(0, 0, 0, 90), (180, -60, 20, 70), (30, 90, 0, 80)], 48).with_global()


@pytest.mark.parametrize("width", [300, 1024, 1501])
def test_a_mask_is_true_where_the_views_see_only_what_is_there(width):
    """Only directions within 70° of (20° right, 10° up) are there."""
    middle = np.array([0.3368, 0.1736, 0.9254])
    distance_deg = np.degrees(np.arccos(panorama_rays(width // 2, width) @ middle))
    seen = cut_mask(distance_deg < 70, CAP)
    assert seen.shape == (4, 48, 48)
    assert seen.dtype == np.bool_
    grain_deg = 360 / width + 360 / required_width(CAP)
    for view, found in zip(CAP.views, seen, strict=True):
        sides = np.arange(49) / 48
        angles = np.degrees(np.arccos(view.rays_at(sides, sides[:, None]) @ middle))
        corners = np.stack([angles[:-1, :-1], angles[1:, :-1], angles[:-1, 1:], angles[1:, 1:]])
        assert found[corners.max(axis=0) < 70 - 2 * grain_deg].all()
        assert not found[corners.max(axis=0) > 70 + 2 * grain_deg].any() or view.is_global
        assert not found[corners.min(axis=0) > 70].any()


@pytest.mark.parametrize("layout", [RING, SEAM_AND_POLES, CAP], ids=["ring", "poles", "global"])
@pytest.mark.parametrize("width", [200, 1024])
def test_what_is_missing_changes_no_pixel_that_the_mask_calls_seen(layout, width):
    panorama = noise(width // 2, width)
    there = np.random.default_rng(1).random((width // 2, width)) < 0.97
    there = cv2.erode(there.astype(np.uint8), np.ones((2, 2), np.uint8)).astype(bool)
    seen = cut_mask(there, layout)
    black, white = (cut_views(np.where(there[..., None], panorama, c), layout) for c in (0, 255))
    np.testing.assert_array_equal(black[seen], white[seen])
    changed = (black != white).any(axis=-1)
    assert changed.any()
    assert (seen | changed).mean() > 0.9  # little is called missing that changes nothing


def test_a_mask_without_holes_is_seen_everywhere_and_an_empty_one_nowhere():
    full = np.ones((100, 200), np.bool_)
    assert cut_mask(full, CAP).all()
    assert not cut_mask(~full, CAP).any()


def test_one_missing_pixel_is_missed_however_far_the_panorama_is_reduced():
    mask = np.ones((2048, 4096), np.bool_)
    mask[1024, 2048] = False
    layout = ViewLayout.ring(4, 90, 16).with_global()
    assert cut_mask(mask, layout).reshape(5, -1).all(axis=1).tolist() == [False, *3 * [True], False]


@pytest.mark.parametrize("mask", [np.ones((4, 8)), np.ones((4, 8, 1), bool), np.ones((0, 8), bool)])
def test_other_masks_are_refused(mask):
    with pytest.raises(PanoVLMError, match=r"expected bool \[H, W\].*compare it with a number"):
        cut_mask(mask, RING)
