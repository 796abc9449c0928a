"""From partners to tensors: which tokens to take, and which to mix their partners from.

Both pairings of `partners.py` become the same tensors, so that stage 1 has one path.

Shape letters: B panoramas, V views, T = h·w tokens of a view, D width, M pairs of tokens, K tokens
that a partner is mixed of, G pairs of views, L tokens of the largest of them.
"""

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.training.overlap.partners import TokenPairs, column_pairs, ray_pairs
from panovlm.training.sections import Pairing


@dataclass(frozen=True)
class PairIndex:
    """The pairs of a layout as indices into the V·T tokens of a panorama."""

    tokens: Tensor  # places of the tokens, [M]
    partners: Tensor  # places of the tokens that make up each partner, [M, K]
    shares: Tensor  # what each of those contributes; a row sums to 1, [M, K]
    weights: Tensor  # how much of the partner lies within its view's grid, in [1/4, 1], [M]
    view_pair_ids: Tensor  # which pair of views each pair of tokens belongs to, in [0, G), [M]
    slots: Tensor  # for each pair of views its pairs of tokens, as places in [0, M), [G, L]
    present: Tensor  # which of those are there; the others are padding, [G, L]
    views: Tensor  # the views of each pair of tokens, [M, 2]
    wrap_share: float  # of the pairs of tokens that lead from the ring's last view to its first

    def pair(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens and their partners.

        Args:
            tokens: All tokens of B panoramas, [B, V·T, D].

        Returns:
            (current, following), both [B, M, D].
        """
        mixed = self.shares[:, :1] * tokens.index_select(1, self.partners[:, 0])
        for place in range(1, self.partners.shape[1]):
            partner = tokens.index_select(1, self.partners[:, place])
            mixed = mixed + self.shares[:, place : place + 1] * partner
        return tokens.index_select(1, self.tokens), mixed

    def by_view_pair(self, paired: Tensor) -> Tensor:
        """Group what `pair` gave by pairs of views: [B, M, ...] -> [P = B·G, L, ...]."""
        return paired[:, self.slots].flatten(0, 1)


@lru_cache(maxsize=8)
def pair_index(
    layout: ViewLayout, rows: int, columns: int, pairing: Pairing, device: torch.device
) -> PairIndex:
    """Return the pairs of a layout, computed once; `columns` takes a ring, `rays` any layout.

    Raises:
        PanoVLMError: If no token has a partner, or the views do not suit the pairing.
    """
    find_pairs = column_pairs if pairing == "columns" else ray_pairs
    found = find_pairs(layout, rows, columns)
    if not len(found.tokens):
        raise PanoVLMError(
            f"found no token that two views see ({layout.describe()}), expected views that "
            f"overlap; raise num_views or fov_deg"
        )
    with torch.inference_mode(False):  # a kept tensor must serve training after inference
        return _as_index(found, layout, rows * columns, device)


def _as_index(
    pairs: TokenPairs, layout: ViewLayout, tokens_per_view: int, device: torch.device
) -> PairIndex:
    tensor = partial(torch.as_tensor, device=device)
    views, ids = np.unique(pairs.views, axis=0, return_inverse=True)
    view_pair_ids = tensor(ids.reshape(-1))
    members = [torch.nonzero(view_pair_ids == number)[:, 0] for number in range(len(views))]
    ring = [place for place, view in enumerate(layout.views) if not view.is_global]
    wraps = (pairs.views == [ring[-1], ring[0]]).all(axis=1) if ring else np.zeros(1)
    first, second = pairs.views[:, 0], pairs.views[:, 1]
    return PairIndex(
        tokens=tensor(first * tokens_per_view + pairs.tokens),
        partners=tensor(second[:, None] * tokens_per_view + pairs.partners),
        shares=tensor(pairs.shares, dtype=torch.float32),
        weights=tensor(pairs.weights, dtype=torch.float32),
        view_pair_ids=view_pair_ids,
        slots=pad_sequence(members, batch_first=True),
        present=pad_sequence([torch.ones_like(each).bool() for each in members], batch_first=True),
        views=tensor(pairs.views, dtype=torch.int64),
        wrap_share=float(wraps.mean()),
    )
