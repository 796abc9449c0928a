"""Cube maps: faces survive every arrangement, and no edge shows on the sphere."""

import numpy as np
import pytest

from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import panorama_rays
from panovlm.pictures.cubemaps import FACES, join_cubemap, sphere_from_cubemap, split_cubemap


def colours(rays):
    """A smooth colour for every direction."""
    x, y, z = np.moveaxis(rays, -1, 0)
    waves = [x + 0.3 * y * z, y - 0.4 * x * z, z + 0.2 * x * y]
    return np.rint(127.5 + 90 * np.stack(waves, axis=-1)).astype(np.uint8)


def smooth_faces(side=64):
    return np.stack([colours(face.rays(side, side)) for face in FACES])


def noisy_faces(side=12):
    return np.random.default_rng(0).integers(0, 256, (6, side, side, 3), np.uint8)


def test_the_faces_are_those_of_the_cubemap_layout():
    assert ViewLayout.cubemap(8).views == FACES


@pytest.mark.parametrize("arrangement", ["strip", "dice"])
def test_joined_faces_come_apart_unchanged(arrangement):
    faces = noisy_faces()
    joined = join_cubemap(faces, arrangement)
    assert joined.shape == {"strip": (12, 72, 3), "dice": (36, 48, 3)}[arrangement]
    np.testing.assert_array_equal(split_cubemap(joined), faces)


def test_columns_are_read_row_by_row_and_grids_only_when_declared():
    faces = noisy_faces()
    np.testing.assert_array_equal(split_cubemap(faces.reshape(72, 12, 3)), faces)
    for rows in ([faces[:3], faces[3:]], [faces[:2], faces[2:4], faces[4:]]):
        grid = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
        np.testing.assert_array_equal(split_cubemap(grid, grids=True), faces)
        assert split_cubemap(grid) is None


@pytest.mark.parametrize("shape", [(30, 40), (32, 64), (7, 43), (50, 50), (20, 30)])
def test_ordinary_pictures_are_no_cube_maps(shape):
    noise = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    assert split_cubemap(noise) is None


def test_the_sphere_shows_every_direction_as_the_faces_do():
    sphere = sphere_from_cubemap(smooth_faces())
    assert sphere.shape == (128, 256, 3)
    expected = colours(panorama_rays(128, 256)).astype(int)
    assert np.abs(sphere - expected).max() <= 2


def test_the_sphere_is_made_at_the_height_asked_for():
    sphere = sphere_from_cubemap(smooth_faces(), height=40)
    expected = colours(panorama_rays(40, 80)).astype(int)
    assert np.abs(sphere - expected).max() <= 2


def test_no_line_shows_along_the_edges_of_the_cube():
    assert sphere_from_cubemap(np.full((6, 16, 16, 3), 200, np.uint8)).min() == 200


def test_the_dice_cross_holds_the_front_between_up_and_down():
    faces = smooth_faces(16)
    cross = join_cubemap(faces, "dice")
    column = cross[:, 16:32].astype(int)  # up, front, down: one strip without a jump
    assert np.abs(np.diff(column, axis=0)).max() < 30
    assert np.abs(np.diff(cross[16:32].astype(int), axis=1)).max() < 30


def test_arrays_that_are_no_six_faces_are_refused():
    with pytest.raises(PanoVLMError, match=r"faces of shape \(5, 8, 8, 3\), expected \[6, S, S, 3"):
        join_cubemap(np.zeros((5, 8, 8, 3), np.uint8), "strip")
