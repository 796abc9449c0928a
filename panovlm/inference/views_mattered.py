"""Which views mattered to an answer: each is blanked in turn; does the answer get less likely?

A drop says that a view mattered to this answer, not why, nor that the answer is right. Views
overlap: what one loses its neighbour may see, and an answer that rests on two may drop with
neither. So any two neighbours of a ring are blanked together too.

Shapes: V views, T latent tokens of a view, D_* the width of each part.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from panovlm.geometry.layouts import ViewLayout
from panovlm.inference.likelihood import NEGLIGIBLE, Likelihood, latents_of


def view_shares(weights: Sequence[float]) -> list[float] | None:
    """Compute each view's share of what an answer loses; None if it loses nothing.

    Args:
        weights: For each view how much is lost without it, or whether anything is; below 0 counts
            as nothing.
    """
    lost = [max(0.0, float(weight)) for weight in weights]
    total = sum(lost)
    return [each / total for each in lost] if total else None


@dataclass(frozen=True)
class PairDrop:
    """How much two neighbouring views mattered together.

    Attributes:
        views: Their places among the views, from 0.
        drop: How far the log-probability falls where both are blank, in nats.
    """

    views: tuple[int, int]
    drop: float


@dataclass(frozen=True)
class ViewsMattered:
    """How much each view mattered to an answer.

    Attributes:
        log_probability: Of the answer's text with all views, in nats, at most 0.
        drops: For each view, how far that falls where the view is blank; negative where it rises.
            The answer is exp(drop) times less likely without the view.
        pair_drops: The same for each two neighbours.
    """

    log_probability: float
    drops: tuple[float, ...]
    pair_drops: tuple[PairDrop, ...] = ()

    @property
    def shares(self) -> list[float] | None:
        """Each view's share of all drops; None where each of them is negligible."""
        return view_shares(self.drops) if max(self.drops) >= NEGLIGIBLE else None

    @property
    def together(self) -> PairDrop | None:
        """The pair with the largest drop, where no view has one alone; None where none has."""
        largest = max(self.pair_drops, key=lambda pair: pair.drop, default=None)
        if self.shares is not None or largest is None or largest.drop < NEGLIGIBLE:
            return None
        return largest


def neighbours(layout: ViewLayout) -> list[tuple[int, int]]:
    """Return each two neighbours of a layout's ring, also the last and the first; none without one.

    Global views beside the ring see all that any two lose, and are in no pair.
    """
    ring = layout.perspective
    if ring is None or not ring.is_ring:
        return []
    places = [place for place, view in enumerate(layout.views) if not view.is_global]
    pairs = list(zip(places, [*places[1:], places[0]], strict=True))
    return pairs[:1] if len(pairs) == 2 else pairs  # of two, each is on both sides of the other


@torch.inference_mode()
def views_mattered(
    likelihood: Likelihood, views: Tensor, batch_size: int, pairs: Sequence[tuple[int, int]]
) -> Iterator[ViewsMattered | None]:
    """Compare how likely an answer is with all views, with each of them blank, and with two.

    The views are those of the panorama [1, V, 3, H, W], normalised: blank is 0. With all views the
    prefix is not read again; the others are read whole, `batch_size` at a time. It yields None
    after each of these batches, where it may be left, and at last what was found.
    """
    whole = likelihood.unchanged()
    num_views = views.shape[1]
    # The latent tokens of each view, and those of a blank one last.
    pixels = torch.cat([views[0], torch.zeros_like(views[0, :1])])
    latents = latents_of(likelihood.model, pixels)
    blanked = torch.tensor([*((view, view) for view in range(num_views)), *pairs])
    drops: list[float] = []
    for some in blanked.split(batch_size):
        panoramas = latents[:-1].repeat(len(some), 1, 1, 1)  # [B, V, T, D_latent]
        panoramas[torch.arange(len(some))[:, None], some] = latents[-1]
        drops += (whole - likelihood.with_latents(panoramas)).tolist()
        yield None
    pair_drops = map(PairDrop, pairs, drops[num_views:])
    yield ViewsMattered(whole, tuple(drops[:num_views]), tuple(pair_drops))
