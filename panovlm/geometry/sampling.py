"""Where the views sample a panorama: how far it is reduced for them, and at which pixels they read.

`cutting.py` follows these maps. Level views of a ring share one map: a yaw is a shift of columns.

Shapes: V views, S x S pixels each, H x W panorama.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock

import cv2
import numpy as np
from numpy.typing import NDArray

from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import angles_from_rays, angles_to_pixels, wrap_deg
from panovlm.geometry.views import AnyView

SAMPLES = 2
"""Samples per view pixel along each axis."""
STEPS = cv2.INTER_TAB_SIZE
"""Steps that a panorama pixel is divided into along each axis: samples lie on this grid."""
MAX_CACHE_BYTES = 128 * 2**20
"""What the cache of maps may hold: five maps of views of 1024 pixels, a hundred of 224."""


@dataclass(frozen=True)
class SampleMap:
    """Where one view reads a panorama of a given size, before its shift by whole columns.

    Attributes:
        top: First row read; -1 is the row beyond the upper pole.
        bottom: Row after the last one read.
        left: First column read; columns wrap around.
        right: Column after the last one read.
        coarse: Pixel before each sample, (column - left, row - top), int16 [2S, 2S, 2].
        fine: Steps from there, row steps times `STEPS` plus column steps, uint16 [2S, 2S].
        polar: Which samples lie between the outermost row and a pole, flat, [M].
    """

    top: int
    bottom: int
    left: int
    right: int
    coarse: NDArray[np.int16]
    fine: NDArray[np.uint16]
    polar: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Memory the arrays take."""
        return self.coarse.nbytes + self.fine.nbytes + self.polar.nbytes


class MapCache:
    """Keeps the maps used last, as long as they fit a number of bytes; loader threads share it.

    A map that is too large for the whole cache is made anew each time.
    """

    def __init__(self, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._maps: OrderedDict[Hashable, SampleMap] = OrderedDict()
        self._lock = Lock()

    @property
    def held_bytes(self) -> int:
        """Bytes of the maps held now."""
        return sum(kept.nbytes for kept in self._maps.values())

    def get(self, key: Hashable, make: Callable[[], SampleMap]) -> SampleMap:
        """Return the map of a key, making it if it is not held."""
        with self._lock:
            if key in self._maps:
                self._maps.move_to_end(key)
                return self._maps[key]
        made = make()
        if made.nbytes > self._max_bytes:
            return made
        with self._lock:
            self._maps[key] = made
            while self.held_bytes > self._max_bytes:
                self._maps.popitem(last=False)
        return made


@dataclass(frozen=True)
class Reduction:
    """One size a panorama is reduced to, and the views that are cut from it.

    Attributes:
        height: Rows of the reduced panorama.
        width: Columns of the reduced panorama.
        views: Indices of the views in their layout.
    """

    height: int
    width: int
    views: tuple[int, ...]


_MAPS = MapCache()


@lru_cache(maxsize=1024)
def needed_width(view: AnyView, view_size: int) -> int:
    """Compute the columns a panorama needs to carry all detail that a view of S pixels can show."""
    return math.ceil(2 * math.pi / view.finest_step_rad(view_size))


def reductions(layout: ViewLayout, height: int, width: int) -> list[Reduction]:
    """Compute the sizes a panorama H x W is reduced to: no view aliases, none loses detail.

    Perspective views are grouped by the whole factor they need; global views are averages of the
    panorama itself and in no group.
    """
    alike: dict[int, list[int]] = {}
    for index, view in enumerate(layout.views):
        if not view.is_global:
            largest = max(width // needed_width(view, layout.view_size), 1)
            alike.setdefault(largest, []).append(index)
    groups: dict[int, list[int]] = {}
    for largest, indices in alike.items():
        views = [layout.views[index] for index in indices]
        groups.setdefault(_factor(largest, views, height, width), []).extend(indices)
    return [
        Reduction(max(1, round(height / factor)), max(1, round(width / factor)), tuple(indices))
        for factor, indices in groups.items()
    ]


def whole_columns(view: AnyView, width: int) -> int:
    """Return the whole number of panorama columns nearest to a view's yaw."""
    return round(wrap_deg(view.yaw_deg) * width / 360.0)


def sample_map(view: AnyView, view_size: int, height: int, width: int) -> tuple[SampleMap, int]:
    """Compute where a view of S pixels samples a panorama H x W, and by how many columns to shift.

    Maps are kept, up to `MAX_CACHE_BYTES` of them; views that a whole shift brings together share
    one.
    """
    shift = whole_columns(view, width)
    unshifted = replace(view, yaw_deg=_part_of_column(view, width) * 360.0 / width)
    key = (unshifted, view_size, height, width)
    return _MAPS.get(key, lambda: _make_map(*key)), shift


def _make_map(view: AnyView, view_size: int, height: int, width: int) -> SampleMap:
    rays = view.rays(SAMPLES * view_size, SAMPLES * view_size)
    columns, rows = angles_to_pixels(*angles_from_rays(rays), height, width)
    left, top = math.floor(columns.min()), math.floor(rows.min())
    right, bottom = math.floor(columns.max()) + 2, math.floor(rows.max()) + 2
    coarse, fine = cv2.convertMaps(
        (columns - left).astype(np.float32), (rows - top).astype(np.float32), cv2.CV_16SC2
    )
    row_before = coarse[..., 1].astype(np.int64) + top
    polar = np.flatnonzero((row_before < 0) | (row_before >= height - 1))
    return SampleMap(
        top, bottom, left, right, coarse.astype(np.int16), fine.astype(np.uint16), polar
    )


def _part_of_column(view: AnyView, width: int) -> float:
    """Return the part of a column that a view's yaw lies beyond the whole ones."""
    return round(wrap_deg(view.yaw_deg) * width / 360.0 - whole_columns(view, width), 6)


def _factor(largest: int, views: list[AnyView], height: int, width: int) -> int:
    """Choose the whole factor to reduce a panorama by for views that bear the same largest one.

    A factor that divides the picture and the views' shifts keeps those shifts whole; it is taken
    unless it falls short of the largest factor by more than half.
    """
    whole = [whole_columns(view, width) for view in views if _part_of_column(view, width) == 0.0]
    common = math.gcd(height, width, *whole)
    exact = max(factor for factor in range(1, largest + 1) if common % factor == 0)
    return exact if 2 * exact >= largest else largest
