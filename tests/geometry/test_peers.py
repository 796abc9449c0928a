"""Our views against those of other libraries, each on its own grid of pixels.

They agree with ours once their grids are known: py360convert spreads its pixel centres from edge to
edge of the field of view, pyequilib puts them on the upper left corners of the pixels and reads
the panorama one column and one row further on.
"""

import numpy as np
import pytest

from panovlm.geometry.cutting import cut_views
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.places import panorama_to_rays, rays_to_panorama
from panovlm.geometry.sphere import panorama_rays
from panovlm.geometry.views import View

SIZE, HEIGHT, WIDTH = 96, 512, 1024
SEAM_AND_POLE = [View(0), View(30, 20), View(-170, -40, fov_deg=70), View(100, 85)]


def waves(rays):
    """A smooth grey level for every direction, in three channels of 0..255."""
    ways = np.array([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0], [-0.8, 0.6, 0.0]])
    return 127.5 + 80 * np.sin(3 * rays @ ways.T + [0.3, 1.0, 2.0])


@pytest.fixture(scope="module")
def panorama():
    return waves(panorama_rays(HEIGHT, WIDTH))


@pytest.mark.parametrize("view", [*SEAM_AND_POLE, View(40, 30, 25)])
def test_py360convert_shows_a_view_that_is_wider_by_a_pixel(view, panorama):
    py360convert = pytest.importorskip("py360convert")
    angles = (view.fov_deg, view.yaw_deg, view.pitch_deg)
    theirs = py360convert.e2p(panorama, *angles, (SIZE, SIZE), view.roll_deg)
    half = np.tan(np.radians(view.fov_deg) / 2) * SIZE / (SIZE - 1)
    wider = View(view.yaw_deg, view.pitch_deg, view.roll_deg, 2 * np.degrees(np.arctan(half)))
    exact = np.abs(theirs - waves(wider.rays(SIZE, SIZE))).max()
    assert exact < 0.1
    assert np.abs(theirs - waves(view.rays(SIZE, SIZE))).max() > 5 * exact
    (ours,) = cut_views(np.rint(panorama).astype(np.uint8), ViewLayout((wider,), SIZE))
    assert np.abs(theirs - ours).max() < 2.5  # ours is rounded, of a rounded panorama


@pytest.mark.parametrize("view", SEAM_AND_POLE[:3])  # it repeats the last row beyond a pole
def test_pyequilib_shows_the_corners_of_pixels_of_a_shifted_panorama(view, panorama):
    equilib = pytest.importorskip("equilib")
    look = {"roll": 0.0, "pitch": -np.radians(view.pitch_deg), "yaw": -np.radians(view.yaw_deg)}
    theirs = equilib.equi2pers(
        panorama.transpose(2, 0, 1),
        rots=look,
        height=SIZE,
        width=SIZE,
        fov_x=view.fov_deg,
        mode="bilinear",
    ).transpose(1, 2, 0)
    corners = np.arange(SIZE) / SIZE
    x, y = rays_to_panorama(view.rays_at(corners[None], corners[:, None]), HEIGHT, WIDTH)
    exact = np.abs(theirs - waves(panorama_to_rays(x + 1, y + 1, HEIGHT, WIDTH))).max()
    assert exact < 0.1
    assert np.abs(theirs - waves(view.rays(SIZE, SIZE))).max() > 5 * exact
