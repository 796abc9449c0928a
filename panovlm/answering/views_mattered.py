"""Which views carried an answer: each is blanked in turn, and the answer gets less likely or not.

A drop says that a view mattered to these words, not why, nor that they are right. Views overlap, so
what one loses its neighbour may see: an answer that rests on two may drop with neither.

Shapes: V views, T latent tokens of a view, D_* the width of each part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from panovlm.answering.likelihood import NEGLIGIBLE, Likelihood, latents_of
from panovlm.answering.prefixes import Prefix
from panovlm.answering.prompts import Prompt
from panovlm.model.modeling import PanoVLMForConditionalGeneration


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
    """

    log_probability: float
    drops: tuple[float, ...]

    @property
    def shares(self) -> list[float] | None:
        """Each view's share of all drops; None where each of them is negligible."""
        return view_shares(self.drops) if max(self.drops) >= NEGLIGIBLE else None


@torch.inference_mode()
def views_mattered(
    model: PanoVLMForConditionalGeneration,
    prompt: Prompt,
    prefix: Prefix,
    answer: Sequence[int],
    views: Tensor,
    batch_size: int,
) -> ViewsMattered:
    """Compare how likely an answer is with all views, and with each of them blank.

    With all views the prefix is not read again. The others are read whole, several at a time.

    Args:
        model: In eval mode.
        prompt: What was asked.
        prefix: Its beginning, read before.
        answer: Tokens of the answer, at least one.
        views: Of the panorama [1, V, 3, H, W], normalised: blank is 0.
        batch_size: Blanked panoramas that are read at the same time.
    """
    likelihood = Likelihood(model, prompt, prefix, answer)
    whole = likelihood.unchanged()
    # The latent tokens of each view, and those of a blank one last.
    latents = latents_of(model, torch.cat([views[0], torch.zeros_like(views[0, :1])]))
    without: list[float] = []
    for blanked in torch.arange(views.shape[1]).split(batch_size):
        without += likelihood.with_latents(_panoramas_without(latents, blanked)).tolist()
    return ViewsMattered(whole, tuple(whole - each for each in without))


def _panoramas_without(latents: Tensor, blanked: Tensor) -> Tensor:
    """Give the latent tokens of panoramas that each lack one view.

    Args:
        latents: Of the views and of a blank one [V + 1, T, D_latent].
        blanked: Which view each panorama lacks [B].

    Returns:
        [B, V, T, D_latent].
    """
    panoramas = latents[:-1].repeat(len(blanked), 1, 1, 1)
    panoramas[torch.arange(len(blanked)), blanked] = latents[-1]
    return panoramas
