"""Which views carried an answer: each is blanked in turn, and the answer gets less likely or not.

A drop says that a view mattered to these words, not why, nor that they are right. Views overlap, so
what one loses its neighbour may see: an answer that rests on two may drop with neither. So any two
neighbours of a ring are blanked together too.

Shapes: V views, T latent tokens of a view, D_* the width of each part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from panovlm.geometry.layouts import ViewLayout
from panovlm.inference.likelihood import NEGLIGIBLE, Likelihood, latents_of


def view_shares(weights: Sequence[float]) -> list[float] | None:
    """Share an answer out among the views that it loses by; None if it loses by none.

    Args:
        weights: For each view how much is lost without it, or whether anything is; below 0 counts
            as nothing.
    """
    lost = [max(0.0, float(weight)) for weight in weights]
    total = sum(lost)
    return [each / total for each in lost] if total else None


@dataclass(frozen=True)
class ViewsMattered:
    """How much each view carried an answer.

    Attributes:
        log_probability: Of the answer's words with all views, in nats, at most 0.
        drops: For each view, by how much that falls where the view is blank; negative where the
            words get likelier. The answer is exp(drop) times less likely without the view.
        pairs: Two neighbours each, by their places among the views.
        pair_drops: For each pair, by how much that falls where both are blank.
    """

    log_probability: float
    drops: tuple[float, ...]
    pairs: tuple[tuple[int, int], ...] = ()
    pair_drops: tuple[float, ...] = ()

    @property
    def shares(self) -> list[float] | None:
        """Each view's share of all drops; None where each of them is negligible."""
        return view_shares(self.drops) if max(self.drops) >= NEGLIGIBLE else None

    @property
    def together(self) -> int | None:
        """Which pair carried the answer most, where no view did alone; None where none did."""
        if self.shares is not None or max(self.pair_drops, default=0.0) < NEGLIGIBLE:
            return None
        return self.pair_drops.index(max(self.pair_drops))


def neighbours(layout: ViewLayout) -> list[tuple[int, int]]:
    """Give each two neighbours of a layout's ring, the last and the first too; none without one.

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
    likelihood: Likelihood,
    views: Tensor,
    batch_size: int,
    pairs: Sequence[tuple[int, int]] = (),
) -> ViewsMattered:
    """Compare how likely an answer is with all views, with each of them blank, and with two.

    With all views the prefix is not read again. The others are read whole, several at a time.

    Args:
        likelihood: Of the answer.
        views: Of the panorama [1, V, 3, H, W], normalised: blank is 0.
        batch_size: Blanked panoramas that are read at the same time.
        pairs: Views to blank together, by their places.
    """
    whole = likelihood.unchanged()
    # The latent tokens of each view, and those of a blank one last.
    pixels = torch.cat([views[0], torch.zeros_like(views[0, :1])])
    latents = latents_of(likelihood.model, pixels)
    alone = [(view, view) for view in range(views.shape[1])]
    without: list[float] = []
    for blanked in torch.tensor([*alone, *pairs]).split(batch_size):
        without += likelihood.with_latents(_panoramas_without(latents, blanked)).tolist()
    drops = tuple(whole - each for each in without)
    return ViewsMattered(whole, drops[: len(alone)], tuple(pairs), drops[len(alone) :])


def _panoramas_without(latents: Tensor, blanked: Tensor) -> Tensor:
    """Give the latent tokens of panoramas that each lack one view, or two.

    Args:
        latents: Of the views and of a blank one [V + 1, T, D_latent].
        blanked: Which two views each panorama lacks [B, 2], the same twice for one.

    Returns:
        [B, V, T, D_latent].
    """
    panoramas = latents[:-1].repeat(len(blanked), 1, 1, 1)
    panoramas[torch.arange(len(blanked))[:, None], blanked] = latents[-1]
    return panoramas
