"""View layouts: the sets of views that every panorama is cut into.

Shapes: V views, h x w grid of pixels or tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from panovlm.errors import PanoVLMError
from panovlm.geometry.sphere import Floats, Mask, panorama_rays, wrap_deg
from panovlm.geometry.views import AnyView, GlobalView, View

_ANGLE_TOLERANCE_DEG = 1e-6
_MAX_VIEWS_LISTED = 8
"""Views of a free list that its description lists one by one."""


@dataclass(frozen=True)
class ViewLayout:
    """The views cut from every panorama, in the order of the V axis.

    Layouts are compared and hashed by value, so that maps can be cached per layout.

    Attributes:
        views: The V views.
        view_size: Pixels along a side of each view.
    """

    views: tuple[AnyView, ...]
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
        """Return views all around by increasing yaw, view 0 to the front, one row for each pitch.

        In a level row the right columns of view v show what the left columns of view v+1 show, and
        the last view's right neighbour is view 0.

        Args:
            num_views: Views in a row, 2 or more.
            fov_deg: Field of view of each, in (0, 180) degrees.
            view_size: Pixels along a side of each view.
            pitches_deg: Pitch of each row, positive up, in [-90, 90] degrees; a second row adds a
                ceiling or the ground.

        Raises:
            PanoVLMError: If a value is out of its range.
        """
        if num_views < 2:
            raise PanoVLMError(
                f"found a ring of {num_views} views, expected 2 or more; change num_views"
            )
        yaws_deg = [wrap_deg(index * 360.0 / num_views) for index in range(num_views)]
        views = (View(yaw, pitch, fov_deg=fov_deg) for pitch in pitches_deg for yaw in yaws_deg)
        return cls(tuple(views), view_size)

    @classmethod
    def cubemap(cls, view_size: int = 224, fov_deg: float = 90.0) -> "ViewLayout":
        """Return the six faces of a cube, which see every direction once.

        In order: front, right, back, left, up, down; the last two have the front at their bottom
        and at their top, as one sees them bending the head. Beyond 90 degrees they overlap.
        """
        around = [(yaw_deg, 0.0) for yaw_deg in (0.0, 90.0, 180.0, -90.0)]
        faces = [*around, (0.0, 90.0), (0.0, -90.0)]
        return cls(tuple(View(*face, fov_deg=fov_deg) for face in faces), view_size)

    @classmethod
    def equirectangular(cls, view_size: int = 224) -> "ViewLayout":
        """Return the whole panorama scaled to one square picture, the front in its middle."""
        return cls((GlobalView(),), view_size)

    @classmethod
    def free(cls, angles_deg: Sequence[Sequence[float]], view_size: int = 224) -> "ViewLayout":
        """Return views of any directions, in the order given.

        Args:
            angles_deg: For each view (yaw, pitch, roll, field of view), as `View` takes them.
            view_size: Pixels along a side of each view.

        Raises:
            PanoVLMError: If a view does not have four angles or one of them is out of its range.
        """
        return cls(tuple(_free_view(*numbered) for numbered in enumerate(angles_deg)), view_size)

    @classmethod
    def of_settings(
        cls,
        num_views: int,
        fov_deg: float,
        view_size: int,
        *,
        pitches_deg: Sequence[float] | None = None,
        cubemap: bool = False,
        angles_deg: Sequence[Sequence[float]] | None = None,
        global_view: bool = False,
    ) -> "ViewLayout":
        """Return the views that the settings of recipes, models and image processors describe.

        Args:
            num_views: Views in a row.
            fov_deg: Field of view of each, in (0, 180) degrees.
            view_size: Pixels along a side of each view.
            pitches_deg: Pitch of each row; None for one level row.
            cubemap: Six faces of a cube, `fov_deg` wide, in place of rows.
            angles_deg: Free views (yaw, pitch, roll, field of view) in place of rows.
            global_view: Whether the whole panorama follows as one more view.

        Raises:
            PanoVLMError: If a value is out of its range, or more than one kind is described.
        """
        kinds = {"pitches_deg": pitches_deg, "cubemap": cubemap, "angles_deg": angles_deg}
        given = [name for name, value in kinds.items() if value]
        if len(given) > 1:
            raise PanoVLMError(f"found {' beside '.join(given)}, expected one of them; choose one")
        if angles_deg:
            layout = cls.free([tuple(angles) for angles in angles_deg], view_size)
        elif cubemap:
            layout = cls.cubemap(view_size, fov_deg)
        else:
            layout = cls.ring(num_views, fov_deg, view_size, pitches_deg or (0.0,))
        return layout.with_global() if global_view else layout

    def with_global(self) -> "ViewLayout":
        """Return these views and, after them, one global view with the front in its middle."""
        return replace(self, views=(*self.views, GlobalView()))

    def yaw_rotated(self, yaw_shift_deg: float) -> "ViewLayout":
        """Return the views that see what these see once the camera has turned right."""
        if yaw_shift_deg == 0.0:
            return self
        views = (replace(v, yaw_deg=wrap_deg(v.yaw_deg + yaw_shift_deg)) for v in self.views)
        return replace(self, views=tuple(views))

    @property
    def num_views(self) -> int:
        """How many views, V."""
        return len(self.views)

    @property
    def yaws_deg(self) -> tuple[float, ...]:
        """The V yaws of the views, in degrees."""
        return tuple(view.yaw_deg for view in self.views)

    @property
    def perspective(self) -> "ViewLayout | None":
        """The same layout without its global views; None if it has no others."""
        views = tuple(view for view in self.views if not view.is_global)
        return replace(self, views=views) if views else None

    @property
    def is_ring(self) -> bool:
        """Whether the views are level, alike, evenly spaced and ordered by yaw all around."""
        return self.views[0].pitch_deg == 0.0 and _is_even_row(self.views)

    @property
    def stride_deg(self) -> float:
        """Yaw from one view of a ring to the next, 360°/V; other layouts raise a PanoVLMError."""
        if not self.is_ring:
            raise PanoVLMError(
                f"found a view layout that is no even ring ({self.describe()}), expected level "
                "views equally spaced all around and no others; use ViewLayout.ring where "
                "neighbours must overlap"
            )
        return 360.0 / self.num_views

    @cached_property
    def num_strides(self) -> int:
        """How many yaw rotations, evenly around the circle, map the views to each other.

        V for a ring, the views of a row for even rows, 1 where only a whole turn does: faces at
        the poles look another way up after any other one, and global views begin elsewhere.
        """
        counts = range(self.num_views, 1, -1)
        return next((n for n in counts if self._order_after(360.0 / n) is not None), 1)

    def order_after(self, num_strides: int) -> tuple[int, ...]:
        """Return which view shows what each view sees once the camera has turned right.

        Args:
            num_strides: By how many times 360°/`num_strides` of the layout; any whole number.

        Returns:
            For each view v the place of the one that looks where v looks then; no pixel differs.
        """
        return self._orders[num_strides % self.num_strides]

    @cached_property
    def _orders(self) -> list[tuple[int, ...]]:
        yaw_shifts_deg = (step * 360.0 / self.num_strides for step in range(self.num_strides))
        as_they_are = tuple(range(self.num_views))
        return [self._order_after(yaw_deg) or as_they_are for yaw_deg in yaw_shifts_deg]

    def _order_after(self, yaw_shift_deg: float) -> tuple[int, ...] | None:
        """Return the places of the views that look where these do after a rotation, if all do."""
        places = []
        for rotated in self.yaw_rotated(yaw_shift_deg).views:
            alike = (i for i, view in enumerate(self.views) if _are_alike(rotated, view))
            places.append(next(alike, None))
        return None if None in places else tuple(place for place in places if place is not None)

    @property
    def overlap_ratio(self) -> float:
        """Share of a view's angle in a ring that its right neighbour sees too, at least 0."""
        fov_deg = self.views[0].fov_deg
        return max(0.0, (fov_deg - self.stride_deg) / fov_deg)

    def overlap_columns(self, columns: int) -> int:
        """Compute how many of a view's columns belong to the overlap with one neighbour.

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
        """Compute the unit rays of every view's grid of cell centres, [V, height, width, 3]."""
        return np.stack([view.rays(height, width) for view in self.views])

    def sees(self, rays: Floats) -> Mask:
        """Check whether at least one perspective view sees rays [..., 3], [...].

        A global view sees all of them, if not sharply: it counts only where it stands alone, and a
        layout of nothing else sees everything.
        """
        seen: Mask = np.any([view.sees(rays) for view in (self.perspective or self).views], axis=0)
        return seen

    def coverage(self, rows: int = 360) -> float:
        """Compute the share of the sphere that is seen, in [0, 1], on a grid of so many rows."""
        rays = panorama_rays(rows, 2 * rows)
        seen = self.sees(rays)
        solid_angle = np.hypot(rays[..., 0], rays[..., 2])  # cos of the row's pitch
        return float((seen * solid_angle).sum() / solid_angle.sum())

    def describe(self) -> str:
        """Describe the layout in one line of text."""
        perspective = self.perspective
        yaws = [f"{view.yaw_deg:g}°" for view in self.views if view.is_global]
        if not yaws:
            return self._describe_perspective()
        around = f"global view of {self.view_size} px around {' and '.join(yaws)}"
        return f"{perspective._describe_perspective()}, and a {around}" if perspective else around

    def _describe_perspective(self) -> str:
        """Describe a ring, rows, a cube map or any other layout without global views."""
        first, rows = self.views[0], self._even_rows()
        views = f"{self.num_views} views of {self.view_size} px"
        if self.is_ring:
            return (
                f"ring of {views}, {first.fov_deg:g}° wide, {self.stride_deg:g}° apart, "
                f"neighbours share {self.overlap_ratio:.0%}"
            )
        if _all_alike(self.views, self.cubemap(fov_deg=first.fov_deg).views):
            return f"cube map of {views}" + (f", {first.fov_deg:g}° wide" * (first.fov_deg != 90))
        if rows:
            pitches = " and ".join(f"{row[0].pitch_deg:g}°" for row in rows)
            return (
                f"{views} in rows of {len(rows[0])} at pitch {pitches}, {first.fov_deg:g}° wide, "
                f"{360.0 / len(rows[0]):g}° apart"
            )
        listed = ", ".join(
            f"({', '.join(f'{angle:g}°' for angle in _angles_deg(view))})"
            for view in self.views[:_MAX_VIEWS_LISTED]
        )
        more = self.num_views - _MAX_VIEWS_LISTED
        rest = f" and {more} more" if more > 0 else ""
        return f"{views} at (yaw, pitch, roll, width) {listed}{rest}"

    def _even_rows(self) -> list[tuple[AnyView, ...]]:
        """Split the views into even rows of one length and field of view; none if they are not."""
        first = self.views[0]
        length = sum(view.pitch_deg == first.pitch_deg for view in self.views)
        rows = [self.views[at : at + length] for at in range(0, self.num_views, length)]
        even = all(_is_even_row(row) and row[0].fov_deg == first.fov_deg for row in rows)
        return rows if even and len(rows[-1]) == length else []


def _free_view(index: int, angles_deg: Sequence[float]) -> View:
    """Make a view of four angles; an error names the view it is in."""
    if len(angles_deg) != 4:
        raise PanoVLMError(
            f"view {index}: found {len(angles_deg)} numbers, expected 4: yaw, pitch, roll and "
            "field of view in degrees; change angles_deg"
        )
    try:
        return View(*angles_deg)
    except PanoVLMError as error:
        raise PanoVLMError(f"view {index}: {error}") from error


def _is_even_row(views: Sequence[AnyView]) -> bool:
    """Check whether views are upright, alike, at one pitch, evenly spaced and ordered by yaw."""
    first, count = views[0], len(views)
    if count < 2 or any(view.is_global for view in views):
        return False
    yaws_deg = (first.yaw_deg + index * 360.0 / count for index in range(count))
    return _all_alike(views, [View(yaw, first.pitch_deg, 0.0, first.fov_deg) for yaw in yaws_deg])


def _all_alike(views: Sequence[AnyView], others: Sequence[AnyView]) -> bool:
    """Check whether two sets of views have the same directions and fields of view, one by one."""
    return len(views) == len(others) and all(map(_are_alike, views, others))


def _are_alike(view: AnyView, other: AnyView) -> bool:
    yaw, *others = np.subtract(_angles_deg(view), _angles_deg(other))
    return all(abs(angle) < _ANGLE_TOLERANCE_DEG for angle in (wrap_deg(yaw), *others))


def _angles_deg(view: AnyView) -> tuple[float, float, float, float]:
    """Return yaw, pitch, roll and field of view."""
    return view.yaw_deg, view.pitch_deg, view.roll_deg, view.fov_deg
