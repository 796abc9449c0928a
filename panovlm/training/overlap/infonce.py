"""InfoNCE on pairs of tokens: a token must find its partner among others.

Shape letters: B panoramas, M pairs of tokens of one, D width.

Source:
    van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding",
    arXiv:1807.03748, equation 4; on dense features, Wang et al., "Dense Contrastive Learning for
    Self-Supervised Visual Pre-Training", arXiv:2011.09157, equation 2.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def infonce_loss(
    current: Tensor, following: Tensor, view_pair_ids: Tensor, weights: Tensor, temperature: float
) -> Tensor:
    """Compute InfoNCE both ways: tokens among partners, and partners among tokens.

    A token's negatives are the other partners of its own pair of views, and all partners in the
    other panoramas of this process (with several, each has its own: the loss depends on how many
    share a batch). Those of other pairs of views in its own panorama are left out:
    views that overlap twice show the same place again, and would be pushed apart from it.

    One panorama's tokens are scored at a time and again in the backward pass, so that memory grows
    with B·M and not with its square.

    Args:
        current: Tokens [B, M, D]; they are brought to length 1.
        following: Their partners, the same shape.
        view_pair_ids: Which pair of views each pair of tokens belongs to, [M].
        weights: What each pair counts in the mean, [M].
        temperature: τ, more than 0.
    """
    a, b = (nn.functional.normalize(side.float(), dim=-1) for side in (current, following))
    with torch.autocast(a.device.type, enabled=False):
        means = [
            checkpoint(
                _panorama_loss,
                queries[panorama] / temperature,
                keys.flatten(0, 1),
                panorama,
                view_pair_ids,
                weights,
                use_reentrant=False,
                preserve_rng_state=False,
            )
            for queries, keys in ((a, b), (b, a))
            for panorama in range(len(a))
        ]
    return torch.stack(means).mean()


def _panorama_loss(
    tokens: Tensor, candidates: Tensor, panorama: int, view_pair_ids: Tensor, weights: Tensor
) -> Tensor:
    """Compute the weighted mean over one panorama's tokens [M, D] among candidates [B·M, D]."""
    logits = tokens @ candidates.T
    start = panorama * len(tokens)
    elsewhere = view_pair_ids[:, None] != view_pair_ids[None, :]
    own = logits[:, start : start + len(tokens)].masked_fill(elsewhere, -torch.inf)
    logits = torch.cat([logits[:, :start], own, logits[:, start + len(tokens) :]], dim=1)
    places = torch.arange(start, start + len(tokens), device=logits.device)
    losses = nn.functional.cross_entropy(logits, places, reduction="none")
    return (losses * weights).sum() / weights.sum()
