"""Merging: what a teacher saw in overlapping views becomes one list of things on the sphere.

A thing that the edge of a view cuts off is whole in another view, and that one counts. Each label
is merged apart from the others.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from panovlm.annotating.teachers import Detection
from panovlm.data.annotations import Sighting
from panovlm.errors import PanoVLMError
from panovlm.geometry.boxes import ViewBox, view_box_to_region
from panovlm.geometry.regions import Region
from panovlm.geometry.sphere import angles_between, wrap_deg
from panovlm.geometry.views import View

SAME_IOU = 0.5
"""From this overlap on, two regions of one label are one thing."""
PART_SHARE = 0.7
"""So much of a region inside another of its label makes it a part of the same thing."""
CUT_SHARE = 0.2
"""The same for what the edge of a view cuts off: its region is a worse guess."""
JOINED_SHARE = 0.3
"""Cut pieces that share so much of the smaller one are joined."""
LEAST_SHARE = 1e-3
"""A box with a smaller side, in shares of the view's, shows nothing."""
EDGE_SHARE = 0.02
"""A box that comes so close to the edge of its view, in shares of its side, is cut off by it."""


@dataclass(frozen=True)
class Acceptance:
    """What a thing needs to be reported.

    Attributes:
        min_score: Its best score.
        min_views: Views in which it was found, cut off or whole; a single one often errs.
    """

    min_score: float = 0.5
    min_views: int = 2


DEFAULT_ACCEPTANCE = Acceptance()


@dataclass(frozen=True)
class _Found:
    """A detection on the sphere."""

    label: str
    region: Region
    score: float
    text: str | None
    view: int
    from_middle_rad: float

    @property
    def rank(self) -> tuple[float, int]:
        """The surest first; the further from the middle of its view, the looser is its region."""
        return -self.score * np.cos(self.from_middle_rad), self.view


@dataclass
class _Thing:
    """Detections of one thing, and the region that stands for them."""

    region: Region
    members: list[_Found]
    score: float

    @property
    def views(self) -> set[int]:
        """The views in which it was found."""
        return {member.view for member in self.members}


def merge(
    found: Iterable[tuple[View, Sequence[Detection]]],
    view_size: int,
    acceptance: Acceptance = DEFAULT_ACCEPTANCE,
) -> tuple[Sighting, ...]:
    """Merge the detections in the views of a panorama.

    Whole things are the same if their regions overlap by `SAME_IOU`, or if one lies in the other
    and no view shows both. The surest stands for all, and lends its score. What is cut off by an
    edge belongs to the whole thing that it lies in; cut pieces of what is whole nowhere are joined,
    unless they are text, which would read wrong.

    Args:
        found: Each view with what is in it.
        view_size: Pixels along a side of the views.
        acceptance: What is left out of the result.

    Returns:
        The things by increasing yaw.
    """
    least_px = LEAST_SHARE * view_size
    whole: dict[str, list[_Found]] = defaultdict(list)
    cut: dict[str, list[_Found]] = defaultdict(list)
    for index, (view, detections) in enumerate(found):
        for each in (d for d in detections if min(d.box.width, d.box.height) >= least_px):
            side = cut if _is_cut(each.box, view_size) else whole
            side[each.label].append(_on_sphere(each, view, index, view_size))
    merged = [
        sighting
        for label in sorted({*whole, *cut})
        for sighting in _merge_label(whole[label], cut[label])
        if sighting.score >= acceptance.min_score and sighting.num_views >= acceptance.min_views
    ]
    return tuple(sorted(merged, key=lambda each: (each.yaw_deg, each.pitch_deg, each.label)))


def _is_cut(box: ViewBox, view_size: int) -> bool:
    margin = EDGE_SHARE * view_size
    ends = box.left + box.width, box.top + box.height
    return min(box.left, box.top) < margin or max(ends) > view_size - margin


def _on_sphere(each: Detection, view: View, index: int, view_size: int) -> _Found:
    region = view_box_to_region(each.box, view, view_size)
    middle = View(region.yaw_deg, region.pitch_deg).rays(1, 1)[0, 0]
    from_middle = float(angles_between(middle, view.rays(1, 1)[0, 0]))
    return _Found(each.label, region, each.score, each.text, index, from_middle)


def _merge_label(whole: list[_Found], cut: list[_Found]) -> list[Sighting]:
    things: list[_Thing] = []
    for each in sorted(whole, key=lambda one: one.rank):
        _add(each, [thing for thing in things if _is_same(thing, each)], things)
    pieces: list[_Thing] = []
    for each in sorted(cut, key=lambda one: -one.region.solid_angle_sr):
        if owners := [thing for thing in things if _is_part(thing, each)]:
            _add(each, owners, things)
        elif each.text is None:
            _join(each, pieces)
    return [_sighting(thing) for thing in (*things, *pieces)]


def _add(each: _Found, owners: list[_Thing], things: list[_Thing]) -> None:
    """Add a detection to the owner it overlaps most, or as a new thing where there is none."""
    if owners:
        max(owners, key=lambda thing: each.region.iou(thing.region)).members.append(each)
    else:
        things.append(_Thing(each.region, [each], each.score))


def _is_same(thing: _Thing, each: _Found) -> bool:
    shared = _shared_sr(thing.region, each.region)
    areas = thing.region.solid_angle_sr, each.region.solid_angle_sr
    if shared >= SAME_IOU * (sum(areas) - shared):
        return True
    return shared >= PART_SHARE * min(areas) and each.view not in thing.views


def _is_part(thing: _Thing, piece: _Found) -> bool:
    """Whether a cut piece lies in a thing, or holds it, as a loose region in a corner does."""
    shared = _shared_sr(thing.region, piece.region)
    if shared >= CUT_SHARE * piece.region.solid_angle_sr:
        return True
    return shared >= CUT_SHARE * thing.region.solid_angle_sr and piece.view not in thing.views


def _join(each: _Found, pieces: list[_Thing]) -> None:
    """Join a cut piece to the first that it overlaps, unless no field of view holds both."""
    for piece in pieces:
        smaller_sr = min(each.region.solid_angle_sr, piece.region.solid_angle_sr)
        if _shared_sr(each.region, piece.region) >= JOINED_SHARE * smaller_sr:
            with suppress(PanoVLMError):  # too wide: the larger piece stands for both
                rays = np.concatenate([each.region.outline(), piece.region.outline()])
                piece.region = Region.around(rays)
            piece.members.append(each)
            piece.score = max(piece.score, each.score)
            return
    pieces.append(_Thing(each.region, [each], each.score))


def _shared_sr(first: Region, second: Region) -> float:
    """Compute the area that two regions share, in steradians."""
    middles = (View(one.yaw_deg, one.pitch_deg).rays(1, 1)[0, 0] for one in (first, second))
    if angles_between(*middles) >= _reach_rad(first) + _reach_rad(second):
        return 0.0
    iou = first.iou(second)
    return iou / (1 + iou) * (first.solid_angle_sr + second.solid_angle_sr)


def _reach_rad(region: Region) -> float:
    """Compute the angle from a region's middle to its corners."""
    sides = np.tan(np.radians([region.width_deg, region.height_deg]) / 2)
    return float(np.arctan(np.hypot(*sides)))


def _sighting(thing: _Thing) -> Sighting:
    best, region = thing.members[0], thing.region
    yaw_deg = round(wrap_deg(region.yaw_deg), 2)
    return Sighting(
        label=best.label,
        yaw_deg=180.0 if yaw_deg == -180.0 else yaw_deg,
        pitch_deg=round(region.pitch_deg, 2),
        width_deg=max(round(region.width_deg, 2), 0.01),
        height_deg=max(round(region.height_deg, 2), 0.01),
        score=round(thing.score, 3),
        num_views=len(thing.views),
        text=best.text,
    )
