"""Figures of stage 1 on held-out panoramas, whatever it minimises; training stops on a collapse.

Partners are always the exact ones, by rays, so that runs with different pairings compare.

Shape letters: N panoramas, V views, T = h·w tokens of a view, D width, M pairs of tokens.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState

from panovlm.data.cache import FeatureSource
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import PictureFile
from panovlm.training import ranks
from panovlm.training.overlap.modeling import PanoVLMForOverlapPretraining
from panovlm.training.overlap.pairs import PairIndex
from panovlm.training.overlap.vicreg import effective_rank

LEAST_STD = 1e-2
"""A mean deviation of features below it is collapse: VICReg asks for 1, and the resampler ends in a
normalisation that gives every token a mean square of 1."""
LEAST_RANK = 1.5
"""An effective rank below it is collapse: nearly all tokens lie on one line."""
MAX_PICTURES = 64
"""That are diagnosed; more would hardly change the figures."""
BATCH = 8
_COLLAPSED_BELOW = {
    "latent_std": LEAST_STD,
    "projected_std": LEAST_STD,
    "latent_rank": LEAST_RANK,
    "projected_rank": LEAST_RANK,
}


@torch.no_grad()
def diagnose(latents: Tensor, projected: Tensor, pairs: PairIndex) -> dict[str, float]:
    """Measure agreement and spread of tokens.

    Args:
        latents: The resampler's tokens, [N, V·T, D_latent]; the figures of agreement are theirs,
            since they are what the next stage receives.
        projected: The projector's, [N, V·T, D_vicreg].
        pairs: By rays.

    Returns:
        `overlap_cosine` and `overlap_mse` of partners, each pair weighted by how much of the
        partner lies within its view; `retrieval`, the share of tokens whose nearest token by cosine
        in the other view is the one with the largest share in their partner, beside
        `retrieval_chance`; `latent_std`, `projected_std` (mean over dimensions), `latent_rank` and
        `projected_rank` (effective ranks); `wrap_share`, the share of pairs across the seam.
    """
    current, following = pairs.pair(latents.float())
    cosine = nn.functional.cosine_similarity(current, following, dim=-1)
    found = {
        "overlap_cosine": _weighted(cosine, pairs),
        "overlap_mse": _weighted((current - following).square().mean(dim=-1), pairs),
        **_retrieval(latents.float(), pairs),
        "wrap_share": pairs.wrap_share,
    }
    for name, tokens in (("latent", latents), ("projected", projected)):
        flat = tokens.float().flatten(0, 1)
        found[f"{name}_std"] = float(flat.std(dim=0).mean())
        found[f"{name}_rank"] = effective_rank(flat)
    return found


def collapse(figures: Mapping[str, float]) -> str | None:
    """Return what in `diagnose`'s figures is no number or shows a collapse; None if healthy."""
    for name, figure in figures.items():
        if not math.isfinite(figure):
            return f"{name} is {figure}"
        least = _COLLAPSED_BELOW.get(name, -math.inf)
        if figure < least:
            return f"{name} is {figure:.3g}, less than {least:g}: all tokens become alike"
    return None


def _weighted(figures: Tensor, pairs: PairIndex) -> float:
    """Compute the mean of figures [N, M], weighted as the pairs are."""
    return float((figures * pairs.weights).sum() / (pairs.weights.sum() * len(figures)))


def _retrieval(latents: Tensor, pairs: PairIndex) -> dict[str, float]:
    """Compute how often a token's partner is the nearest of all tokens of the other view."""
    num_tokens = latents.shape[1] // (int(pairs.views.max()) + 1)
    grid = nn.functional.normalize(latents, dim=-1).unflatten(1, (-1, num_tokens))
    places = pairs.partners.gather(1, pairs.shares.argmax(dim=1, keepdim=True))[:, 0]
    hits = 0
    for slots, present in zip(pairs.slots, pairs.present, strict=True):
        chosen = slots[present]
        view, other = pairs.views[chosen[0]].tolist()
        query = grid[:, view, pairs.tokens[chosen] % num_tokens]
        nearest = (query @ grid[:, other].mT).argmax(dim=-1)
        hits += int((nearest == places[chosen] % num_tokens).sum())
    num_queries = len(latents) * len(pairs.tokens)
    return {"retrieval": hits / num_queries, "retrieval_chance": 1 / num_tokens}


@dataclass(eq=False)
class Diagnosis(TrainerCallback):
    """Adds the figures of `diagnose` to the log at the first, each n-th and the last step."""

    scalars: dict[str, list[float]]  # in which the trainer collects what it logs next
    pictures: Sequence[PictureFile]  # held-out panoramas
    source: FeatureSource
    every: int  # n, in steps

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Diagnose, log the figures, and stop on a collapse; every rank finds the same."""
        step = state.global_step
        if step != 1 and step % self.every and step != state.max_steps:
            return
        control.should_log = True
        with ranks.synchronized():
            figures = self._figures(kwargs["model"])
            for name, figure in figures.items():
                self.scalars[name].append(figure)
            if cause := collapse(figures):
                raise PanoVLMError(
                    f"the features collapsed at step {step}: on {len(self.pictures)} held-out "
                    f"panorama(s) {cause}; lower learning_rate.resampler and "
                    f"learning_rate.vicreg_projector, raise batch_size or warmup, or check that "
                    f"the panoramas differ"
                )

    @torch.no_grad()
    def _figures(self, model: PanoVLMForOverlapPretraining) -> dict[str, float]:
        was_training = model.training
        model.eval()
        starts = range(0, len(self.pictures), BATCH)
        latents = torch.cat([self._latents(model, start) for start in starts])
        figures = diagnose(latents, model.vicreg_projector(latents), model.pairs("rays"))
        model.train(was_training)
        return figures

    def _latents(self, model: PanoVLMForOverlapPretraining, start: int) -> Tensor:
        pictures = self.pictures[start : start + BATCH]
        views = torch.stack([self.source.load(picture) for picture in pictures])
        return model.latents(**{self.source.key: views.to(model.device)})
