"""Boxes: rectangles of pixels in a view or in the panorama, and what of the sphere they show.

Sides are measured in pixels from the upper left edge of the picture, so that a box around pixel k
alone goes from k to k + 1. A box of another kind just holds what the first one shows: it is as
tight as its kind allows, and never smaller. A view has S x S pixels, a panorama H x W.
"""

from dataclasses import dataclass, replace

import numpy as np

from panovlm.errors import PanoVLMError
from panovlm.geometry.places import angles_to_panorama, border_places, panorama_to_angles
from panovlm.geometry.polygons import clip_polygon, pitch_range_rad, side_normals, yaw_range_rad
from panovlm.geometry.regions import Region
from panovlm.geometry.sphere import Floats, rays_from_angles
from panovlm.geometry.views import View

_SLIVER = 1e-9
"""Share of a picture's side that counts as nothing."""


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    width: float
    height: float

    def __post_init__(self) -> None:
        if not (self.width > 0.0 and self.height > 0.0):  # true for NaN too
            raise PanoVLMError(
                f"found a box of {self.width:g}x{self.height:g} px, expected more than 0 on both "
                "sides; change width or height, or leave the box out"
            )


class ViewBox(_Box):
    """A rectangle of a view's pixels.

    Attributes:
        left: Pixels from the view's left edge.
        top: Pixels from its top edge.
        width: Pixels, more than 0.
        height: Pixels, more than 0.
    """


class PanoramaBox(_Box):
    """A rectangle of the panorama's pixels, which may go on around its seam.

    Attributes:
        left: Pixels from the panorama's left edge, in [0, W).
        top: Pixels from its top edge.
        width: Pixels, more than 0, at most W; with left + width > W it crosses the seam.
        height: Pixels, more than 0.
    """

    @classmethod
    def from_sides(
        cls, left: float, top: float, right: float, bottom: float, panorama_width: int
    ) -> "PanoramaBox":
        """Read a box written as its four sides in pixels; with right < left it crosses the seam.

        Raises:
            PanoVLMError: If the box is empty.
        """
        around = panorama_width if right < left else 0
        return cls(left, top, right + around - left, bottom - top)

    def split(self, panorama_width: int) -> tuple["PanoramaBox", ...]:
        """Return the one or two boxes, none across the seam, that this box consists of."""
        beyond = self.left + self.width - panorama_width
        if beyond <= 0:
            return (self,)
        return (
            PanoramaBox(self.left, self.top, self.width - beyond, self.height),
            PanoramaBox(0.0, self.top, beyond, self.height),
        )


def view_box_to_region(box: ViewBox, view: View, view_size: int) -> Region:
    """Return the field of view that just holds what a box in a view of S pixels shows."""
    return Region.around(_corners(box, view, view_size))


def region_to_view_box(region: Region, view: View, view_size: int) -> ViewBox | None:
    """Return the box inside a view of S pixels that just holds what it sees of a region.

    Returns:
        The box; None if the view sees nothing of the region.
    """
    seen = region.outline()
    for side in side_normals(view.rays_at(*border_places(1))):
        seen = clip_polygon(seen, side)
    if not len(seen):
        return None
    places = np.clip(view.places_of(seen), 0.0, 1.0)
    left, top = (float(side) for side in places.min(axis=1) * view_size)
    width, height = (float(side) for side in np.ptp(places, axis=1) * view_size)
    if min(width, height) <= _SLIVER * view_size:  # they touch
        return None
    return ViewBox(left, top, width, height)


def view_box_to_panorama_box(
    box: ViewBox, view: View, view_size: int, height: int, width: int
) -> PanoramaBox:
    """Return the box of a panorama H x W that just holds what a box in a view of S pixels shows.

    It is as wide as the panorama if a pole is in it.
    """
    return _panorama_box(_corners(box, view, view_size), height, width)


def region_to_panorama_box(region: Region, height: int, width: int) -> PanoramaBox:
    """Return the box of the panorama that just holds a region, as wide as it if a pole is in it."""
    return _panorama_box(region.outline(), height, width)


def panorama_box_to_region(box: PanoramaBox, height: int, width: int) -> Region:
    """Return the field of view that just holds what a box of a panorama H x W shows.

    Raises:
        PanoVLMError: If the box lies outside the panorama, or reaches further around the sphere
            than a field of view can.
    """
    _check_fits(box, height, width)
    middle_deg, _ = panorama_to_angles(box.left + box.width / 2, box.top, height, width)
    half_rad = np.pi * box.width / width
    pitches_rad = np.pi * (0.5 - np.array([box.top, box.top + box.height]) / height)
    # Rows bend away from the horizon: they lie highest and lowest at their middle and their ends.
    rows = rays_from_angles(half_rad * np.array([[-1], [0], [1]]), pitches_rad).reshape(-1, 3)
    # A view of yaw 0 and pitch p sees a ray at this angle less p above its middle.
    upwards_rad = np.arctan2(rows[:, 1], rows[:, 2])
    pitch_rad = np.clip((upwards_rad.min() + upwards_rad.max()) / 2, -np.pi / 2, np.pi / 2)
    ends = _ends_sideways(pitches_rad, half_rad, pitch_rad)
    try:
        region = Region.holding(np.concatenate([rows, ends]), 0.0, float(np.degrees(pitch_rad)))
    except PanoVLMError as error:
        raise PanoVLMError(
            f"found {box} in a panorama of {width}x{height} px, which reaches too far around the "
            "sphere, expected a box that a field of view under 180° can hold; split it"
        ) from error
    return replace(region, yaw_deg=float(middle_deg))


def _ends_sideways(pitches_rad: Floats, half_rad: float, pitch_rad: float) -> Floats:
    """Return the rays where rows around a pole reach furthest to the side, [M, 3].

    A row of pitch θ seen from a pitch p does so where the derivative of its tangent to the side by
    yaw is 0, cos(yaw) = -cos θ·cos p / (sin θ·sin p): only for boxes wider than 180°. Rows end at
    the yaw `half_rad` on both sides.
    """
    towards = np.sin(pitches_rad) * np.sin(pitch_rad)
    level = np.cos(pitches_rad) * np.cos(pitch_rad)
    around = towards > level
    yaws_rad = np.arccos(-level[around] / towards[around])
    reached = yaws_rad <= half_rad
    yaws_rad, pitches_rad = yaws_rad[reached], pitches_rad[around][reached]
    return np.concatenate([rays_from_angles(sign * yaws_rad, pitches_rad) for sign in (-1, 1)])


def _corners(box: ViewBox, view: View, view_size: int) -> Floats:
    """Return the unit rays of a box's corners, clockwise from the upper left, [4, 3]."""
    across, down = border_places(1)
    return view.rays_at(
        (box.left + across * box.width) / view_size, (box.top + down * box.height) / view_size
    )


def _panorama_box(corners: Floats, height: int, width: int) -> PanoramaBox:
    """Return the box that just holds a convex polygon of the sphere, corners [M, 3]."""
    left_rad, across_rad = yaw_range_rad(corners)
    lowest_rad, highest_rad = pitch_range_rad(corners)
    left, top = angles_to_panorama(np.degrees(left_rad), np.degrees(highest_rad), height, width)
    across, down = across_rad / (2 * np.pi), (highest_rad - lowest_rad) / np.pi
    return PanoramaBox(float(left), float(top), across * width, down * height)


def _check_fits(box: PanoramaBox, height: int, width: int) -> None:
    across = 0.0 <= box.left < width and box.width <= width * (1 + _SLIVER)
    down = -_SLIVER * height <= box.top and box.top + box.height <= height * (1 + _SLIVER)
    if not (across and down):
        raise PanoVLMError(
            f"found {box} outside a panorama of {width}x{height} px, expected left in "
            f"[0, {width}), width up to {width} and rows 0 to {height}; change the box or the size "
            "of the panorama"
        )
