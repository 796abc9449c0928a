"""The views sheet shows the panorama, every outline and every view in its place."""

from itertools import pairwise

import numpy as np
import pytest

from panovlm.figures.views_sheet import _label, _outline, draw_views_sheet
from panovlm.geometry.cutting import cut_views
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.views import GlobalView, View


@pytest.fixture
def grey():
    return np.full((64, 128, 3), 128, np.uint8)


@pytest.mark.parametrize("num_views", [4, 5, 8])
def test_the_sheet_has_a_row_for_every_four_views(grey, num_views):
    sheet = draw_views_sheet(grey, ViewLayout.ring(num_views, 100.0, 200))
    assert sheet.mode == "RGB"
    one_row = draw_views_sheet(grey, ViewLayout.ring(4, 100.0, 200))
    rows = -(-num_views // 4)
    assert sheet.width == one_row.width
    assert sheet.height == one_row.height + (rows - 1) * (200 + 16 + 30)


def test_views_without_overlap_are_drawn_unshaded():
    panorama = np.random.default_rng(0).integers(0, 256, (256, 512, 3), dtype=np.uint8)
    layout = ViewLayout.ring(4, 60.0, 200)
    sheet = np.asarray(draw_views_sheet(panorama, layout))
    drawn = sheet[-216:-16, 16:216]
    np.testing.assert_array_equal(drawn[3:-3, 3:-3], cut_views(panorama, layout)[0][3:-3, 3:-3])


def test_columns_shared_with_neighbours_are_shaded(grey):
    sheet = np.asarray(draw_views_sheet(grey, ViewLayout.ring(6, 75.0, 200))).astype(int)
    middle_row = sheet[-116, 16:216]
    changed = np.abs(middle_row - 128).max(axis=1) > 5
    shared = 200 // 5
    assert changed[:shared].all()
    assert changed[-shared:].all()
    assert not changed[shared + 1 : -shared - 1].any()


@pytest.mark.parametrize(
    "view",
    [View(0), View(180), View(-170, 40), View(10, 80), View(0, -90), GlobalView(), GlobalView(70)],
)
def test_outlines_never_cross_the_seam_in_one_line(view):
    lines = _outline(view, (400, 200))
    for line in lines:
        assert all(abs(a[0] - b[0]) < 200 for a, b in pairwise(line))
    points = np.concatenate([np.array(line) for line in lines])
    assert points.min() >= 0
    assert (points.max(axis=0) <= (400, 200)).all()


def test_an_outline_of_the_front_view_spans_its_field_of_view():
    (line,) = _outline(View(0), (360, 180))
    columns, rows = np.array(line).T
    assert (columns.min(), columns.max()) == pytest.approx((135, 225))
    assert (rows.min(), rows.max()) == pytest.approx((45, 135), abs=0.01)


def test_labels_name_the_direction_or_the_pitch():
    assert _label(3, View(135)) == "view 3 · 135° · back-right"
    assert _label(0, View(-180)) == "view 0 · 180° · back"
    assert _label(1, View(170, -30)) == "view 1 · 170° · 30° down"
    assert _label(8, GlobalView()) == "view 8 · 0° · global"


def test_other_layouts_are_drawn_too(grey):
    layout = ViewLayout((View(0, 60), View(170, -30, 20), View(0, 90)), 64)
    assert np.asarray(draw_views_sheet(grey, layout)).std() > 0


def test_the_outline_of_a_global_view_frames_the_panorama():
    lines = _outline(GlobalView(), (360, 180))
    columns, rows = np.concatenate([np.array(line) for line in lines]).T
    on_frame = (
        np.isclose(columns, 0) | np.isclose(columns, 360) | np.isclose(rows, 0) | (rows > 179.9)
    )
    assert on_frame.all()


def test_a_global_view_is_drawn_as_a_tile_of_its_own():
    layout = ViewLayout.ring(3, 60.0, 200).with_global()
    panorama = np.random.default_rng(0).integers(0, 256, (256, 512, 3), dtype=np.uint8)
    sheet = np.asarray(draw_views_sheet(panorama, layout))
    tile = sheet[-216:-16, -216:-16]
    np.testing.assert_array_equal(tile[3:-3, 3:-3], cut_views(panorama, layout)[3][3:-3, 3:-3])


def test_a_ring_shows_what_it_shares_beside_a_global_view_too(grey):
    ring = ViewLayout.ring(4, 120.0, 200)
    alone = np.asarray(draw_views_sheet(grey, ring))
    beside = np.asarray(draw_views_sheet(grey, ring.with_global()))
    top = alone.shape[0] - 216 + 3
    tiles = slice(top, top + 194), slice(19, 19 + 194)
    # The colours differ with the number of views, the shaded columns do not.
    shaded = [(sheet[tiles] != 128).any(axis=-1) for sheet in (alone, beside)]
    np.testing.assert_array_equal(*shaded)
    assert shaded[0].any()
    assert (beside[-213:-19, 19:213] == 128).all()
