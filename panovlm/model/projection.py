"""The projection: latent tokens get their direction and become image tokens of the LM.

Shape letters: N panoramas, V views, T = h·w latent tokens of a view, D_latent, D_lm.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import angles_from_rays
from panovlm.model.configuration import PanoVLMConfig


@lru_cache(maxsize=8)
def position_features(layout: ViewLayout, rows: int, columns: int, harmonics: int) -> Tensor:
    """Compute Fourier features of the true yaw and pitch of every token.

    Args:
        layout: The views.
        rows: h, token rows of a view.
        columns: w, token columns of a view.
        harmonics: K, number of harmonics of each angle.

    Returns:
        [V, h·w, 4·K] float32: sin and cos of k·yaw, then of k·pitch, for k = 1 ... K. A rotation
        by one stride of a ring maps those of each view to those of the next.

    Source:
        Fourier features: Tancik et al., arXiv:2006.10739; integer harmonics close on the circle.
    """
    yaw_rad, pitch_rad = angles_from_rays(layout.rays(rows, columns))
    angles = np.stack([yaw_rad, pitch_rad], axis=-1)[..., None] * np.arange(1, harmonics + 1)
    features = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)  # [V, h, w, 2, 2K]
    flat = features.reshape(layout.num_views, rows * columns, -1)
    with torch.inference_mode(False):  # a kept tensor must serve training after inference
        return torch.from_numpy(flat).float()


class Projection(nn.Module):
    """Maps latent tokens [N, V, T, D_latent] to image tokens [N, image tokens, D_lm].

    In order: add the sphere position, pool the views, project, and multiply by the length of the
    language model's own embeddings, so that a frozen LM can read a token from the first step. The
    type `linear` is one linear map, `mlp` normalises, has a hidden layer, and gives every token
    exactly that length. With slots, all latent tokens of a view together are projected to each of
    its image tokens, so that the first of them can hold what the language model would say first
    about the view.
    """

    scale: Tensor
    positions: Tensor  # `position_features` of the layout

    def __init__(self, config: PanoVLMConfig) -> None:
        super().__init__()
        self.config = config
        width, lm_width = config.latent_size, config.text_config.hidden_size
        self.position = nn.Linear(4 * config.position_harmonics, width, bias=False)
        self.has_slots = config.pooling == "slots"
        self.is_linear = config.projection_type == "linear"
        width_in = config.tokens_per_view * width if self.has_slots else width
        width_out = config.slots * lm_width if self.has_slots else lm_width
        if self.is_linear:
            self.project = nn.Linear(width_in, width_out)
        else:
            hidden = 2 * lm_width if self.has_slots else lm_width
            self.norm = nn.LayerNorm(width)
            self.widen = nn.Linear(width_in, hidden)
            self.project = nn.Linear(hidden, width_out)
        self.register_buffer("scale", torch.ones(()))
        table = self.position_table().to(torch.get_default_device())
        self.register_buffer("positions", table, persistent=False)

    def forward(self, latents: Tensor) -> Tensor:
        """Project the latent tokens of N panoramas."""
        position = self.position(self.positions.to(self.position.weight.dtype))
        placed = latents + position
        projected = self.project(self._grouped(placed) if self.is_linear else self._hidden(placed))
        tokens = projected.unflatten(-1, (-1, self.config.text_config.hidden_size)).flatten(1, -2)
        unit = tokens if self.is_linear else nn.functional.rms_norm(tokens, tokens.shape[-1:])
        return unit * self.scale.to(unit.dtype)

    def _grouped(self, tokens: Tensor) -> Tensor:
        """Return [N, V, T·D_latent] with slots, else [N, image tokens, D_latent]."""
        return tokens.flatten(2) if self.has_slots else self._pool(tokens)

    def _hidden(self, placed: Tensor) -> Tensor:
        normed = self.norm(placed).flatten(2) if self.has_slots else self.norm(self._pool(placed))
        hidden: Tensor = nn.functional.gelu(self.widen(normed))
        return hidden

    @torch.no_grad()
    def match_scale(self, embeddings: Tensor) -> None:
        """Set the length of image tokens to that of word embeddings [words, D_lm], for good.

        A linear map has no length of its own: it is that of fresh weights, over tokens of mean
        square 1 and positions of mean square 1/2.
        """
        length = embeddings.detach().float().pow(2).mean().sqrt()
        if self.is_linear:
            gains = [
                layer.weight.square().sum(dim=1).mean() for layer in (self.position, self.project)
            ]
            length = length / ((1 + gains[0] / 2) * gains[1]).sqrt()
        self.scale.copy_(length)

    def position_table(self) -> Tensor:
        """Return the features of every token's direction, [V, T, 4·K]."""
        config = self.config
        grid = (config.token_rows, config.token_columns)
        return position_features(config.layout, *grid, config.position_harmonics)

    def _pool(self, latents: Tensor) -> Tensor:
        """Reduce [N, V, T, D] to [N, image tokens, D] as `config.pooling` says.

        A global view keeps all its tokens, after those of the others.
        """
        num_views = self.config.perspective.num_views
        others, around = latents.split_with_sizes([num_views, latents.shape[1] - num_views], dim=1)
        return torch.cat([self._pool_perspective(others), around.flatten(1, 2)], dim=1)

    def _pool_perspective(self, latents: Tensor) -> Tensor:
        config = self.config
        if config.pooling == "mean":
            return latents.mean(dim=1)
        grid = latents.unflatten(2, (config.token_rows, config.token_columns))
        # A view's left columns show what its left neighbour's right columns show.
        kept = grid[:, :, :, config.token_columns - config.kept_columns :]
        return kept.flatten(1, 3)
