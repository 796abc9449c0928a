"""VICReg: the loss of stage 1, its three terms, and the projector in front of it.

Source:
    Bardes, Ponce and LeCun, "VICReg: Variance-Invariance-Covariance Regularization for
    Self-Supervised Learning", ICLR 2022, arXiv:2105.04906, section 4.1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

TARGET_STD = 1.0  # γ of the paper
EPSILON = 1e-4  # keeps the square root's gradient finite, as in the paper


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
    """The three terms of the loss before their weights, and their weighted sum `loss`."""

    invariance: Tensor
    variance: Tensor
    covariance: Tensor
    loss: Tensor


def vicreg_loss(
    current: Tensor,
    following: Tensor,
    invariance_weight: float = 25.0,
    variance_weight: float = 25.0,
    covariance_weight: float = 1.0,
) -> VICRegTerms:
    """Compute VICReg over all tokens of a batch.

    Args:
        current: Tokens [..., D]; every leading position counts as one example.
        following: Their partners, the same shape.
        invariance_weight: λ of the paper.
        variance_weight: μ of the paper.
        covariance_weight: ν of the paper.

    Raises:
        ValueError: If the shapes differ or there are fewer than two tokens.
    """
    if current.shape != following.shape:
        raise ValueError(f"found partners of shape {current.shape} and {following.shape}")
    a, b = current.flatten(0, -2).float(), following.flatten(0, -2).float()
    if len(a) < 2:
        raise ValueError(f"found {len(a)} pair of tokens, expected at least 2 for a variance")
    with torch.autocast(a.device.type, enabled=False):  # differences of sums need float32
        invariance = nn.functional.mse_loss(a, b)
        variance = variance_term(a) + variance_term(b)
        covariance = covariance_term(a) + covariance_term(b)
    loss = (
        invariance_weight * invariance + variance_weight * variance + covariance_weight * covariance
    )
    return VICRegTerms(invariance, variance, covariance, loss)


def variance_term(tokens: Tensor) -> Tensor:
    """Give the mean hinge of each dimension's std below γ = 1.

    Args:
        tokens: [n, D].

    Source:
        Equation 1 of the paper.
    """
    std = torch.sqrt(tokens.var(dim=0) + EPSILON)
    return torch.relu(TARGET_STD - std).mean()


def covariance_term(tokens: Tensor) -> Tensor:
    """Give the sum of squared off-diagonal covariances, divided by D.

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
    """Give the effective rank of tokens [n, D]: e to the entropy of their singular values.

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
