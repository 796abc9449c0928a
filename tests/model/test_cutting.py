"""Cutting views: exact at every pixel, without a seam, and equivariant to turning the camera."""

import numpy as np
import pytest

from panovlm.model.cutting import cut_views, required_width
from panovlm.model.errors import PanoVLMError
from panovlm.model.layouts import ViewLayout
from panovlm.model.sphere import panorama_rays
from panovlm.model.views import View

RING = ViewLayout.ring(8, 90.0, 64)
SEAM_AND_POLES = ViewLayout(
    (View(0, 60), View(180, -60, 30), View(-179), View(30, 90), View(77, -90), View(12.3, 45)), 64
)


def colours(rays):
    """A smooth colour for every direction, 0..255."""
    x, y, z = np.moveaxis(rays, -1, 0)
    return 127.5 + np.stack([100 * x, 60 * y + 50 * z * x, 70 * np.sin(3 * z) + 30 * y], axis=-1)


def smooth_panorama(height, width):
    return np.rint(colours(panorama_rays(height, width))).astype(np.uint8)


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


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
def test_turning_by_a_stride_shifts_the_views_bit_for_bit(num_views, width):
    layout = ViewLayout.ring(num_views, 90.0, 32)
    panorama = noise(width // 2, width)
    turned = np.roll(panorama, -width // num_views, axis=1)
    expected = np.roll(cut_views(panorama, layout), -1, axis=0)
    np.testing.assert_array_equal(cut_views(turned, layout), expected)


def test_turning_by_half_shifts_views_over_the_poles_too():
    panorama = noise(128, 256)
    layout = ViewLayout((View(0, 70), View(180, 70), View(0, -80), View(180, -80)), 32)
    views = cut_views(panorama, layout)
    turned = cut_views(np.roll(panorama, 128, axis=1), layout)
    np.testing.assert_array_equal(turned, views[[1, 0, 3, 2]])


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
    for layout in (RING, SEAM_AND_POLES):
        views = cut_views(np.full(shape, 77, np.uint8), layout)
        np.testing.assert_array_equal(views, 77)


@pytest.mark.parametrize(
    "panorama",
    [np.zeros((4, 8), np.uint8), np.zeros((4, 8, 4), np.uint8), np.zeros((4, 8, 3), np.float32)],
)
def test_other_arrays_are_refused(panorama):
    with pytest.raises(PanoVLMError, match=r"expected uint8 \[H, W, 3\].*as_panorama"):
        cut_views(panorama, RING)
