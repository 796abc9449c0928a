"""Which token of a view looks where a token of a neighbouring view looks, and how exactly.

There are two pairings. `columns`, the plain one, takes the rightmost columns of a view and the
leftmost of the next one by one; under perspective those look up to a token or two past each other.
`rays`, the exact one, follows each token's ray into the other view and mixes the four tokens there.

Shape letters: V views, h x w token grid, M pairs of tokens, K tokens that a partner is mixed from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray

from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import Floats, angles_between
from panovlm.geometry.views import AnyView

Places = NDArray[np.int64]


@dataclass(frozen=True)
class TokenPairs:
    """Partners among the tokens of a layout."""

    views: Places  # the view of each token and that of its partner, [M, 2]
    tokens: Places  # places of the tokens in their views' grids, row by row, in [0, h·w), [M]
    partners: Places  # places of the tokens that make up the partner, [M, K]
    shares: Floats  # what each of those contributes; a row sums to 1, [M, K]
    weights: Floats  # how much of the partner lies within its view's grid, in [1/4, 1], [M]
    angles_deg: Floats  # between where a token looks and where its partner does, [M]

    @property
    def num_view_pairs(self) -> int:
        """How many pairs of views have tokens in common."""
        return len(np.unique(self.views, axis=0))


def column_pairs(layout: ViewLayout, rows: int, columns: int) -> TokenPairs:
    """Pair the token columns that neighbours in a ring of h x w tokens share, one by one.

    Raises:
        PanoVLMError: If the views are no even ring or share no whole column.
    """
    shared = layout.overlap_columns(columns)
    grid = np.arange(rows * columns).reshape(rows, columns)
    tokens, partners = grid[:, columns - shared :].ravel(), grid[:, :shared].ravel()
    rays = layout.rays(rows, columns).reshape(layout.num_views, -1, 3)
    found = []
    for view, following in _ring_neighbours(layout.num_views):
        angles = angles_between(rays[view, tokens], rays[following, partners])
        one = np.ones(len(tokens))
        views = np.tile([view, following], (len(tokens), 1))
        found.append(
            TokenPairs(views, tokens, partners[:, None], one[:, None], one, np.degrees(angles))
        )
    return _concatenate(found)


def ray_pairs(layout: ViewLayout, rows: int, columns: int) -> TokenPairs:
    """Pair each token with what the other view's tokens show at exactly its ray.

    Neighbours in a ring are paired, in other layouts all views that overlap; each view is paired
    with a global view both ways. A ray that meets the other view between its outermost token
    centres and its border has no four tokens around it: the nearest ones stand in, and the weight
    says for how much. The side borders of a global view are none: it goes on around. The grids of
    tokens have h = `rows` and w = `columns`.
    """
    found = []
    for view, following in _view_pairs(layout):
        rays = layout.views[view].rays(rows, columns).reshape(-1, 3)
        tokens = np.flatnonzero(layout.views[following].sees(rays))
        met = _partners_along(rays[tokens], layout.views[following], rows, columns)
        views = np.tile([view, following], (len(tokens), 1))
        found.append(TokenPairs(views, tokens, *met))
    return _concatenate(found)


def _partners_along(
    rays: Floats, view: AnyView, rows: int, columns: int
) -> tuple[Places, Floats, Floats, Floats]:
    """Return (partners, shares, weights, angles_deg) of rays that a view sees."""
    across, down = view.places_of(rays)
    along = _interpolate_wrapped if view.is_global else _interpolate
    left, beside, right_share, column_weight = along(across, columns)
    top, below, low_share, row_weight = _interpolate(down, rows)
    corners = [(top, left), (top, beside), (below, left), (below, beside)]
    partners = np.stack([row * columns + column for row, column in corners], axis=-1)
    level, upright = (1 - right_share, right_share), (1 - low_share, low_share)
    shares = np.stack([y * x for y in upright for x in level], axis=-1)
    shown = view.rays_at((left + right_share + 0.5) / columns, (top + low_share + 0.5) / rows)
    return partners, shares, column_weight * row_weight, np.degrees(angles_between(rays, shown))


def _interpolate(position: Floats, cells: int) -> tuple[Places, Places, Floats, Floats]:
    """Return the cells before and after positions in [0, 1], the share of the latter, weights."""
    place = position * cells - 0.5  # in cells, from the first centre
    inside = np.clip(place, 0, cells - 1)
    before = np.floor(inside).astype(np.int64)
    after = np.minimum(before + 1, cells - 1)
    return before, after, inside - before, 1 - np.abs(place - inside)


def _interpolate_wrapped(position: Floats, cells: int) -> tuple[Places, Places, Floats, Floats]:
    """Return the same where the last cell lies before the first one."""
    place = position * cells - 0.5
    before = np.floor(place).astype(np.int64)
    return before % cells, (before + 1) % cells, place - before, np.ones_like(place)


def _view_pairs(layout: ViewLayout) -> Iterator[tuple[int, int]]:
    """Return the pairs of views to look for partners in."""
    views, perspective = layout.views, layout.perspective
    if perspective:
        places = [place for place, view in enumerate(views) if not view.is_global]
        count = len(places)
        pairs = _ring_neighbours(count) if perspective.is_ring else combinations(range(count), 2)
        yield from ((places[a], places[b]) for a, b in pairs)
    for a, b in permutations(range(len(views)), 2):
        if views[a].is_global or views[b].is_global:
            yield a, b


def _ring_neighbours(num_views: int) -> Iterator[tuple[int, int]]:
    return ((view, (view + 1) % num_views) for view in range(num_views))


def _concatenate(parts: Sequence[TokenPairs]) -> TokenPairs:
    names = TokenPairs.__dataclass_fields__
    return TokenPairs(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})
