"""Pixels of the panorama, pixels of views and angles."""

import numpy as np
import pytest

from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.places import (
    angles_to_panorama,
    border_places,
    nearest_view,
    panorama_to_angles,
    panorama_to_rays,
    panorama_to_view,
    view_to_panorama,
    views_that_see,
)
from panovlm.geometry.sphere import panorama_rays
from panovlm.geometry.views import View


@pytest.mark.parametrize(
    ("place", "angles_deg"),
    [
        ((100, 50), (0, 0)),
        ((150, 25), (90, 45)),
        ((0, 100), (180, -90)),
        ((200, 0), (180, 90)),
        ((220, 50), (-144, 0)),  # columns go around
        ((-50, 50), (90, 0)),
    ],
)
def test_places_of_the_panorama_show_their_angles(place, angles_deg):
    assert panorama_to_angles(*place, 100, 200) == pytest.approx(angles_deg)


@pytest.mark.parametrize(
    ("angles_deg", "place"),
    [((180, 0), (0, 50)), ((-180, 0), (0, 50)), ((540, 90), (0, 0)), ((-45, -45), (75, 75))],
)
def test_angles_lie_at_their_place_of_the_panorama(angles_deg, place):
    assert angles_to_panorama(*angles_deg, 100, 200) == pytest.approx(place)


def test_a_sliver_left_of_the_seam_is_still_inside_the_panorama():
    x, _ = angles_to_panorama(np.nextafter(-180, -181), 0, 100, 200)
    assert 0 <= x < 200


def test_pixel_centres_are_those_of_the_whole_panorama():
    x, y = np.arange(14)[None] + 0.5, np.arange(7)[:, None] + 0.5
    np.testing.assert_allclose(panorama_to_rays(x, y, 7, 14), panorama_rays(7, 14), atol=1e-14)


def test_the_middle_of_a_view_is_where_it_looks():
    assert view_to_panorama(View(90, 45), 64, 32, 32, 100, 200) == pytest.approx((150, 25))
    assert panorama_to_view(View(90, 45), 64, 150, 25, 100, 200) == pytest.approx((32, 32))


def test_the_sides_of_a_view_of_90_degrees_lie_45_degrees_away():
    x, y = view_to_panorama(View(0), 64, [0, 64, 32, 32], [32, 32, 0, 64], 100, 200)
    np.testing.assert_allclose(x, [75, 125, 100, 100])
    np.testing.assert_allclose(y, [50, 50, 25, 75])


def test_what_lies_behind_a_view_has_no_place_in_it():
    assert np.isnan(panorama_to_view(View(0), 64, 0, 50, 100, 200)).all()


def test_a_direction_is_seen_by_the_views_whose_picture_holds_it():
    views = ViewLayout.ring(8).views
    assert np.flatnonzero(views_that_see(views, 30, 0)).tolist() == [0, 1]
    assert np.flatnonzero(views_that_see(views, 170, 0)).tolist() == [3, 4]
    assert not views_that_see(views, 0, 80).any()
    assert views_that_see(views, np.zeros((2, 3)), 0).shape == (8, 2, 3)


def test_the_nearest_view_is_the_one_that_looks_there_most():
    views = ViewLayout.ring(8).views
    assert nearest_view(views, [0, 30, 170, -170, -22], 0).tolist() == [0, 1, 4, 4, 0]
    assert nearest_view(views, 22.5, 0) == 0  # the first of equals
    assert nearest_view(views, 0, [10, 80]).tolist() == [0, -1]


def test_a_nearer_view_that_does_not_see_a_direction_is_passed_over():
    narrow, wide = View(0, fov_deg=20), View(60, fov_deg=120)
    assert nearest_view((narrow, wide), [9, 15], 0).tolist() == [0, 1]


def test_the_border_begins_at_the_upper_left_and_goes_clockwise():
    across, down = border_places(2)
    assert across.tolist() == [0, 0.5, 1, 1, 1, 0.5, 0, 0]
    assert down.tolist() == [0, 0, 0, 0.5, 1, 1, 1, 0.5]
