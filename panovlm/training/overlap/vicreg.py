"""VICReg: the loss of stage 1, its three terms, and the projector in front of it.

Shape letters: P pairs of views, L tokens of the largest pair, D width.

Source:
    Bardes, Ponce and LeCun, "VICReg: Variance-Invariance-Covariance Regularization for
    Self-Supervised Learning", ICLR 2022, arXiv:2105.04906, section 4.1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from panovlm.training.sections import VICRegSection

EPSILON = 1e-4  # keeps the square root's gradient finite, as in the paper
PAIRS_AT_ONCE = 32  # pairs of views whose own statistics are in memory at a time


class VICRegProjector(nn.Module):
    """A two-layer perceptron on each token, [.., D_latent] -> [.., D_vicreg]."""

    def __init__(self, latent_size: int, vicreg_size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(latent_size, vicreg_size),
            nn.LayerNorm(vicreg_size),
            nn.GELU(),
            nn.Linear(vicreg_size, vicreg_size),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Project latent tokens."""
        projected: Tensor = self.layers(latents)
        return projected


@dataclass(frozen=True)
class VICRegTerms:
    """The three terms of the loss, before their weights."""

    invariance: Tensor
    variance: Tensor
    covariance: Tensor

    def loss(self, vicreg: VICRegSection) -> Tensor:
        """Return the weighted sum of the terms."""
        loss = vicreg.invariance * self.invariance + vicreg.variance * self.variance
        return loss + vicreg.covariance * self.covariance


def vicreg_loss(
    current: Tensor, following: Tensor, weights: Tensor | None = None, gamma: float = 1.0
) -> VICRegTerms:
    """Compute VICReg over all tokens of a batch.

    The invariance is Σ wᵢ·|aᵢ − bᵢ|² / (D · Σ wᵢ): a pair partly beyond a border counts
    for less. Variance and covariance are over all tokens alike.

    Args:
        current: Tokens [..., D]; every leading position counts as one example.
        following: Their partners, the same shape.
        weights: wᵢ of each pair, [...]; all alike if left out.
        gamma: γ, the standard deviation that each dimension is to reach.

    Raises:
        ValueError: If the shapes differ or there are fewer than two tokens.
    """
    if current.shape != following.shape:
        raise ValueError(f"found partners of shape {current.shape} and {following.shape}")
    a, b = current.flatten(0, -2).float(), following.flatten(0, -2).float()
    if len(a) < 2:
        raise ValueError(f"found {len(a)} pair of tokens, expected at least 2 for a variance")
    with torch.autocast(a.device.type, enabled=False):  # differences of sums need float32
        invariance = (
            nn.functional.mse_loss(a, b) if weights is None else _weighted_mse(a, b, weights)
        )
        variance = variance_term(a, gamma) + variance_term(b, gamma)
        covariance = covariance_term(a) + covariance_term(b)
    return VICRegTerms(invariance, variance, covariance)


def _weighted_mse(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """Compute the weighted mean squared distance of partners [n, D]."""
    flat = weights.flatten()
    return ((a - b).square().mean(dim=1) * flat).sum() / flat.sum()


def vicreg_loss_by_pair(
    current: Tensor, following: Tensor, weights: Tensor, present: Tensor, gamma: float = 1.0
) -> VICRegTerms:
    """Compute VICReg of each pair of views from its own tokens alone, and average over P.

    What one pair has in common (the same wall in all its tokens) then counts as collapse, which it
    does not in the statistics of a batch. A pair of one token has no variance and adds none. Some
    pairs are worked on at a time and again in the backward pass: beyond the tokens themselves, the
    memory does not grow with P.

    Args:
        current: Tokens [P, L, D].
        following: Their partners, the same shape.
        weights: Of each pair of tokens in the invariance, [P, L].
        present: False where a row is filled up, bool [P, L].
        gamma: γ, as for `vicreg_loss`.
    """
    everything = (current.float(), following.float(), weights * present, present)
    chunks = zip(*(tensor.split(PAIRS_AT_ONCE) for tensor in everything), strict=True)
    with torch.autocast(current.device.type, enabled=False):
        sums = [
            checkpoint(_sums_of_pairs, *chunk, gamma, use_reentrant=False, preserve_rng_state=False)
            for chunk in chunks
        ]
        return VICRegTerms(*(torch.stack(sums).sum(dim=0) / len(current)))


def _sums_of_pairs(a: Tensor, b: Tensor, weights: Tensor, present: Tensor, gamma: float) -> Tensor:
    """Compute the sums over a few pairs of views of the three terms, [3]."""
    apart = (a - b).square().mean(dim=2) * weights
    invariance = (apart.sum(dim=1) / weights.sum(dim=1)).sum()
    statistics = torch.stack([_pair_statistics(side, present, gamma) for side in (a, b)])
    variance, covariance = statistics.sum(0)
    return torch.stack([invariance, variance, covariance])


def _pair_statistics(tokens: Tensor, present: Tensor, gamma: float) -> Tensor:
    """Compute the sums of variance and covariance terms, each from one pair's own tokens, [2]."""
    count, there = present.sum(dim=1)[:, None], present[..., None]
    centred = (tokens - (tokens * there).sum(dim=1, keepdim=True) / count[..., None]) * there
    freedom = (count - 1).clamp_min(1)
    spread = centred.square().sum(dim=1) / freedom  # [P, D]
    hinge = torch.relu(gamma - torch.sqrt(spread + EPSILON)).mean(dim=1)
    # The squares of CᵀC and of CCᵀ sum to the same; the smaller of the two is computed.
    is_long = tokens.shape[1] > tokens.shape[2]
    products = centred.mT @ centred if is_long else centred @ centred.mT
    whole = products.square().sum(dim=(1, 2)) / freedom[:, 0].square()
    off_diagonal = (whole - spread.square().sum(dim=1)) / tokens.shape[2]
    has_variance = count[:, 0] > 1
    return torch.stack([hinge, off_diagonal]).mul(has_variance).sum(dim=1)


def variance_term(tokens: Tensor, gamma: float = 1.0) -> Tensor:
    """Compute the mean hinge of each dimension's std below γ.

    Args:
        tokens: [n, D].
        gamma: γ.

    Source:
        Equation 1 of the paper.
    """
    std = torch.sqrt(tokens.var(dim=0) + EPSILON)
    return torch.relu(gamma - std).mean()


def covariance_term(tokens: Tensor) -> Tensor:
    """Compute the sum of squared off-diagonal covariances, divided by D.

    Args:
        tokens: [n, D].

    Source:
        Equations 3 and 4 of the paper.
    """
    centred = tokens - tokens.mean(dim=0)
    covariance = centred.T @ centred / (len(tokens) - 1)
    off_diagonal = covariance.pow(2).sum() - covariance.diagonal().pow(2).sum()
    return off_diagonal / tokens.shape[1]


def effective_rank(tokens: Tensor) -> float:
    """Compute the effective rank of tokens [n, D]: e to the entropy of their singular values.

    1 means that all tokens lie on one line (collapse); D means that all directions are used.

    Source:
        Roy and Vetterli, "The effective rank", EUSIPCO 2007.
    """
    centred = tokens.float() - tokens.float().mean(dim=0)
    with torch.autocast(tokens.device.type, enabled=False):
        squared = centred.T @ centred  # its eigenvalues are the squared singular values
        if not torch.isfinite(squared).all():
            return float("nan")
        spectrum = torch.linalg.eigvalsh(squared).clamp_min(0).sqrt()
    share = spectrum / spectrum.sum().clamp_min(torch.finfo(torch.float32).tiny)
    return float(torch.special.entr(share).sum().exp())
