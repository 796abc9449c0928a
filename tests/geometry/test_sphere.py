"""Distances on the sphere."""

import numpy as np
import pytest

from panovlm.geometry.sphere import angles_between, rays_from_angles


@pytest.mark.parametrize("apart_deg", [0.0, 1e-7, 30.0, 90.0, 179.9999999, 180.0])
def test_the_great_circle_distance_is_exact_at_any_angle(apart_deg):
    rays = rays_from_angles(np.radians([170.0, 170.0 + apart_deg]), np.zeros(2))
    found_deg = np.degrees(angles_between(2.0 * rays[0], 5.0 * rays[1]))
    assert found_deg == pytest.approx(apart_deg, abs=1e-10)


def test_distance_over_the_pole_is_the_short_way():
    rays = rays_from_angles(np.radians([0.0, 180.0]), np.radians([80.0, 80.0]))
    assert np.degrees(angles_between(*rays)) == pytest.approx(20.0)
