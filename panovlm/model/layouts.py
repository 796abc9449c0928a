"""View layouts: the sets of views that every panorama is cut into.

Shapes: V views, h x w grid of pixels or tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import PanoVLMError
from .sphere import Floats, panorama_rays, wrap_deg
from .views import View

_ANGLE_TOLERANCE_DEG = 1e-6


@dataclass(frozen=True)
class ViewLayout:
    """The views cut from every panorama, in the order of the V axis.

    Layouts are compared and hashed by value, so that maps can be cached per layout.

    Attributes:
        views: The V views.
        view_size: Pixels along a side of each view.
    """

    views: tuple[View, ...]
    view_size: int

    def __post_init__(self) -> None:
        if not self.views:
            raise PanoVLMError("found a view layout without views, expected one or more; add views")
        if self.view_size < 1:
            raise PanoVLMError(
                f"found a view size of {self.view_size} px, expected 1 or more; change view_size"
            )

    @classmethod
    def ring(
        cls,
        num_views: int = 8,
        fov_deg: float = 90.0,
        view_size: int = 224,
        pitches_deg: Sequence[float] = (0.0,),
    ) -> "ViewLayout":
        """Give views all around by increasing yaw, view 0 to the front, one row for each pitch.

        In a level row the right columns of view v look at the left columns of view v+1, and the
        last view's right neighbour is view 0.

        Args:
            num_views: Views in a row, 2 or more.
            fov_deg: Field of view of each, in (0, 180) degrees.
            view_size: Pixels along a side of each view.
            pitches_deg: Where the rows look, positive up, each in [-90, 90] degrees; a second row
                adds a ceiling or the ground.

        Raises:
            PanoVLMError: If a value is out of its range.
        """
        if num_views < 2:
            raise PanoVLMError(
                f"found a ring of {num_views} views, expected 2 or more; change num_views"
            )
        yaws_deg = [wrap_deg(index * 360.0 / num_views) for index in range(num_views)]
        looks = [(yaw_deg, pitch_deg) for pitch_deg in pitches_deg for yaw_deg in yaws_deg]
        return cls(tuple(View(yaw, pitch, fov_deg=fov_deg) for yaw, pitch in looks), view_size)

    @classmethod
    def cubemap(cls, view_size: int = 224) -> "ViewLayout":
        """Give the six faces of a cube, which see every direction once.

        In order: front, right, back, left, up, down; the last two have the front at their bottom
        and at their top, as one sees them bending the head.

        Args:
            view_size: Pixels along a side of each face.
        """
        around = [View(yaw_deg) for yaw_deg in (0.0, 90.0, 180.0, -90.0)]
        return cls((*around, View(0.0, 90.0), View(0.0, -90.0)), view_size)

    @property
    def num_views(self) -> int:
        """How many views, V."""
        return len(self.views)

    @property
    def yaws_deg(self) -> tuple[float, ...]:
        """Where the views look, V yaws in degrees."""
        return tuple(view.yaw_deg for view in self.views)

    @property
    def is_ring(self) -> bool:
        """Whether the views are level, alike, evenly spaced and ordered by yaw all around."""
        first, stride_deg = self.views[0], 360.0 / self.num_views
        level = first.pitch_deg == first.roll_deg == 0.0
        expected = (
            View(first.yaw_deg + i * stride_deg, fov_deg=first.fov_deg)
            for i in range(self.num_views)
        )
        return self.num_views > 1 and level and all(map(_look_alike, self.views, expected))

    @property
    def stride_deg(self) -> float:
        """Yaw from one view of a ring to the next, 360°/V.

        Raises:
            PanoVLMError: If the views are no even ring.
        """
        self._require_ring()
        return 360.0 / self.num_views

    @property
    def overlap_ratio(self) -> float:
        """Share of a view's angle its right neighbour sees too, (fov - stride)/fov, at least 0.

        Raises:
            PanoVLMError: If the views are no even ring.
        """
        fov_deg = self.views[0].fov_deg
        return max(0.0, (fov_deg - self.stride_deg) / fov_deg)

    def overlap_columns(self, columns: int) -> int:
        """Give how many of a view's columns belong to the overlap with one neighbour.

        Args:
            columns: Columns of the token or pixel grid, w.

        Returns:
            k = int(w * overlap_ratio).

        Raises:
            PanoVLMError: If no whole column is left, or the views are no even ring.
        """
        # The sliver keeps 15 * (1/3) from becoming 4 through rounding.
        overlap = int(columns * self.overlap_ratio + 1e-9)
        if overlap < 1:
            raise PanoVLMError(
                f"found an overlap of {self.overlap_ratio:.3g} of a view, which is no whole column "
                f"of {columns}, expected 1 or more; raise num_views ({self.num_views}) or fov_deg "
                f"({self.views[0].fov_deg:g})"
            )
        return overlap

    def rays(self, height: int, width: int) -> Floats:
        """Give the unit rays of every view's grid of cell centres, [V, height, width, 3]."""
        return np.stack([view.rays(height, width) for view in self.views])

    def coverage(self, rows: int = 360) -> float:
        """Give the share of the sphere that at least one view sees.

        Args:
            rows: Rows of the grid of directions it is counted on; each counts by its solid angle.
        """
        rays = panorama_rays(rows, 2 * rows)
        seen = np.any([view.sees(rays) for view in self.views], axis=0)
        solid_angle = np.hypot(rays[:, :1, 0], rays[:, :1, 2])  # cos of the row's pitch
        return float((seen * solid_angle).mean() / solid_angle.mean())

    def describe(self) -> str:
        """Give the layout in one line of text."""
        if self.is_ring:
            return (
                f"ring of {self.num_views} views of {self.view_size} px, "
                f"{self.views[0].fov_deg:g}° wide, {self.stride_deg:g}° apart, "
                f"neighbours share {self.overlap_ratio:.0%}"
            )
        places = ", ".join(f"({view.yaw_deg:g}°, {view.pitch_deg:g}°)" for view in self.views)
        return f"{self.num_views} views of {self.view_size} px at (yaw, pitch) {places}"

    def _require_ring(self) -> None:
        if not self.is_ring:
            raise PanoVLMError(
                f"found a view layout that is no even ring ({self.describe()}), expected level "
                "views equally spaced all around; use ViewLayout.ring where neighbours must overlap"
            )


def _look_alike(view: View, other: View) -> bool:
    """Whether two views look the same way through the same angle."""
    angles = (
        wrap_deg(view.yaw_deg - other.yaw_deg),
        view.pitch_deg - other.pitch_deg,
        view.roll_deg - other.roll_deg,
        view.fov_deg - other.fov_deg,
    )
    return all(abs(angle) < _ANGLE_TOLERANCE_DEG for angle in angles)
