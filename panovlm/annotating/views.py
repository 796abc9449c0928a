"""The views that teachers are shown: they overlap, so that each thing is whole in one of them."""

from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.views import View

NUM_VIEWS = 8
FOV_DEG = 100.0
VIEW_SIZE = 640
PITCHES_DEG = (0.0, 45.0, -45.0)
DETAIL_SHARE = 0.6
"""Field of view of the views that show small things larger, in shares of that of the others."""


def overlapping_views(
    num_views: int = NUM_VIEWS, fov_deg: float = FOV_DEG, view_size: int = VIEW_SIZE
) -> ViewLayout:
    """Return rows of views all around, so that things are whole in one of them.

    There are three rows, level and 45° up and down, and a view of each pole: as they stand, what
    is 45° wide and high is whole in one of them, wherever it is. Half as many narrower views again
    go around the horizon, where most small things are.

    Args:
        num_views: Views in each of the three rows.
        fov_deg: Field of view of each, in (0, 180) degrees.
        view_size: Pixels along a side of each.

    Raises:
        PanoVLMError: If a value is out of its range.
    """
    rows = ViewLayout.ring(num_views, fov_deg, view_size, PITCHES_DEG)
    poles = (View(0.0, 90.0, fov_deg=fov_deg), View(0.0, -90.0, fov_deg=fov_deg))
    detail = ViewLayout.ring(3 * num_views // 2, DETAIL_SHARE * fov_deg, view_size)
    return ViewLayout((*rows.views, *poles, *detail.views), view_size)


def describe_views(layout: ViewLayout) -> str:
    """Describe views in one line: how many there are at each pitch, and how wide."""
    rows: dict[tuple[float, float], int] = {}
    for view in layout.views:
        row = view.pitch_deg, view.fov_deg
        rows[row] = rows.get(row, 0) + 1
    listed = ", ".join(f"{n} of {fov:g}° at {pitch:g}°" for (pitch, fov), n in rows.items())
    return f"{layout.num_views} views of {layout.view_size} px: {listed}"
