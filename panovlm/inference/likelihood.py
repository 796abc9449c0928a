"""How likely an answer is while parts of a panorama's views are blank.

Up to their latent tokens views are independent: a change in one is encoded there alone.

Shapes: B panoramas, V views of S x S pixels, T latent tokens of a view, D_* the width of each part.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from panovlm.inference.prefixes import Prefix
from panovlm.inference.prompts import Prompt
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.vision import encode_views

NEGLIGIBLE = 0.05
"""Drops in nats below which an answer stays about as likely: at most 5 % less."""
_SCORED = 16
"""Tokens of an answer scored at once: each has a number for every word of the vocabulary."""


def latents_of(model: PanoVLMForConditionalGeneration, views: Tensor) -> Tensor:
    """Compute the latent tokens [M, T, D_latent] of normalised views [M, 3, S, S]."""
    parts = model.model
    patch_tokens = encode_views(parts.vision_encoder, views.to(model.device, model.dtype))
    latents: Tensor = parts.resampler(patch_tokens)
    return latents


class Likelihood:
    """Scores one answer (at least one token) to a question about a panorama that is changed."""

    @torch.inference_mode()
    def __init__(
        self,
        model: PanoVLMForConditionalGeneration,
        prompt: Prompt,
        prefix: Prefix,
        answer: Sequence[int],
    ) -> None:
        self.model, self._prefix = model, prefix
        self._answer = torch.tensor(answer, device=model.device)
        # The last token of the answer is left out: nothing follows it.
        words = torch.tensor([*prompt.ids[prompt.num_prefix :], *answer[:-1]], device=model.device)
        self._words: Tensor = model.get_input_embeddings()(words)
        prefix_ids = torch.tensor(prompt.ids[: prompt.num_prefix], device=model.device)
        self._is_image = prefix_ids == model.config.image_token_id

    def unchanged(self) -> float:
        """Score with the unchanged panorama, whose prefix is not read again: in nats, at most 0."""
        return float(self._score(self._words[None], DynamicCache(self._prefix.states)))

    def with_latents(self, latents: Tensor) -> Tensor:
        """Score with other latent tokens [B, V, T, D_latent], read whole: [B], in nats."""
        read = self._prefix.embeddings.repeat(len(latents), 1, 1)
        read[:, self._is_image] = self.model.model.projection(latents).to(read.dtype)
        return self._score(torch.cat([read, self._words.expand(len(latents), -1, -1)], dim=1))

    def _score(self, embeddings: Tensor, cache: DynamicCache | None = None) -> Tensor:
        """Sum the log-probabilities of the answer that embeddings [B, tokens, D_lm] end in, [B]."""
        outputs = self.model.model(
            inputs_embeds=embeddings, past_key_values=cache, use_cache=cache is not None
        )
        hidden = outputs.last_hidden_state[:, -len(self._answer) :]
        total = hidden.new_zeros(len(hidden), dtype=torch.float32)
        parts = zip(hidden.split(_SCORED, dim=1), self._answer.split(_SCORED), strict=True)
        for part, tokens in parts:
            scores = self.model.lm_head(part).float().log_softmax(-1)
            total += scores[:, torch.arange(len(tokens)), tokens].sum(-1)
        return total
