"""Which places of a panorama an answer rests on: caps are covered in turn, anywhere on the sphere.

Views are covered, not the panorama: a cap covers the pixels of each view whose rays it holds, so
nothing is cut again, and a cap over the seam or a pole is like any other. Covered pixels are the
encoder's mean colour, 0 once normalised, as in a blank view: a blur would leave colours behind,
which many questions are about.

A drop says that the answer rests on a place, not why, nor that it is right.

Shapes: C caps, B of them at a time, V views of S x S pixels, T latent tokens of a view.

Source:
    Covering parts in turn: Zeiler and Fergus, arXiv:1311.2901. The mean over all that cover a
    place: Petsiuk et al., "RISE", arXiv:1806.07421.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from panovlm.geometry.caps import Caps
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import Floats, angles_from_rays, panorama_rays
from panovlm.inference.likelihood import NEGLIGIBLE, Likelihood, latents_of
from panovlm.model.modeling import PanoVLMForConditionalGeneration

_PEAK_ROWS = 180
"""Rows of the grid on which the peak is looked for: one degree."""


@dataclass(frozen=True, eq=False)
class Occlusion:
    """How much less likely an answer gets where caps cover the panorama.

    Attributes:
        answer: Its text.
        log_probability: Of this text with nothing covered, in nats, at most 0.
        caps: What was covered, C caps.
        drops: By how much that falls under each cap, [C]; negative where it rises.
            The answer is exp(drop) times less likely with the cap than without.
        layout: The model's views.
    """

    answer: str
    log_probability: float
    caps: Caps
    drops: Floats
    layout: ViewLayout

    def mean_drop(self, rays: Floats) -> Floats:
        """Compute the weighted mean drop of the caps over unit rays [..., 3], [...].

        The weights are those of `Caps.weights`. NaN where no view looks, or no cap lies.
        """
        flat = rays.reshape(-1, 3)
        means = np.full(len(flat), np.nan)
        seen = np.flatnonzero(self.layout.sees(flat))
        for some in np.array_split(seen, 1 + len(seen) // 4096):
            weights = self.caps.weights(flat[some])
            total = weights.sum(axis=0)
            means[some] = self.drops @ weights / np.where(total > 0, total, np.nan)
        return means.reshape(rays.shape[:-1])

    @cached_property
    def peak_deg(self) -> tuple[float, float] | None:
        """(yaw, pitch) where the mean drop is largest; None if it is negligible everywhere."""
        rays = panorama_rays(_PEAK_ROWS, 2 * _PEAK_ROWS).reshape(-1, 3)
        drops = np.nan_to_num(self.mean_drop(rays), nan=-np.inf)
        highest = int(np.argmax(drops))
        if drops[highest] < NEGLIGIBLE:
            return None
        yaw_rad, pitch_rad = angles_from_rays(rays[highest])
        return float(np.degrees(yaw_rad)), float(np.degrees(pitch_rad))


@torch.inference_mode()
def log_probabilities_under(
    caps: Caps,
    likelihood: Likelihood,
    views: Tensor,
    batch_size: int,
    progress: Callable[[int], None],
) -> tuple[float, Floats]:
    """Score an answer with nothing covered, and under each cap [C], in nats.

    Views are those of the panorama [1, V, 3, S, S], normalised: covered is 0. Only views that a
    cap touches are encoded again; a global view is touched by every cap. At most `batch_size`
    panoramas are read, and views encoded, at the same time.
    """
    model = likelihood.model
    pixels = views[0].to(model.device, model.dtype)
    latents = latents_of(model, pixels)
    rays = model.config.layout.rays(*pixels.shape[-2:])
    under: list[float] = []
    for start in range(0, len(caps), batch_size):
        some = caps[start : start + batch_size]
        covered = torch.from_numpy(some.cover(rays)).to(model.device)
        panoramas = _covered_latents(model, pixels, latents, covered, batch_size)
        under += likelihood.with_latents(panoramas).tolist()
        progress(len(some))
    return likelihood.unchanged(), np.array(under)


def _covered_latents(
    model: PanoVLMForConditionalGeneration,
    pixels: Tensor,
    latents: Tensor,
    covered: Tensor,
    batch_size: int,
) -> Tensor:
    """Compute the latent tokens [B, V, T, D_latent] of panoramas that are covered in part.

    Args:
        model: Encodes the views in which anything is covered.
        pixels: Of all views, uncovered [V, 3, S, S].
        latents: Of these [V, T, D_latent].
        covered: What is covered in each panorama, bool [B, V, S, S].
        batch_size: Views encoded at the same time.
    """
    panoramas = latents.repeat(len(covered), 1, 1, 1)
    touched = covered.flatten(2).any(-1).nonzero()
    for start in range(0, len(touched), batch_size):
        panorama, view = touched[start : start + batch_size].T
        hidden = pixels[view].masked_fill(covered[panorama, view][:, None], 0)
        panoramas[panorama, view] = latents_of(model, hidden)
    return panoramas
