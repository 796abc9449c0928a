"""Resamplers: patch tokens of a view become fewer, narrower latent tokens on a grid.

Shape letters: M = N·V views, S = rows_in·columns_in patch tokens, T = h·w latent tokens.
"""

from abc import ABC, abstractmethod
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from panovlm.model.configuration import PanoVLMConfig
from panovlm.model.vision import patch_token_width, token_grid


class ConvLayer(GradientCheckpointingLayer):
    """A depthwise-separable convolution block on the token grid, with a residual.

    Source:
        Depthwise-separable convolutions: Chollet, arXiv:1610.02357; the block's order (depthwise,
        normalise, widen, narrow) follows ConvNeXt, Liu et al., arXiv:2201.03545, section 2.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, kernel_size=3, padding=1, groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)

    def forward(self, grid: Tensor) -> Tensor:
        """Mix a token grid [M, h, w, D] in space, then in channels."""
        mixed = self.depthwise(grid.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return grid + self.narrow(nn.functional.gelu(self.widen(self.norm(mixed))))


class MlpLayer(GradientCheckpointingLayer):
    """A residual two-layer perceptron on each token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)

    def forward(self, grid: Tensor) -> Tensor:
        """Transform each token [..., D]."""
        return grid + self.narrow(nn.functional.gelu(self.widen(self.norm(grid))))


class PerceiverLayer(GradientCheckpointingLayer):
    """Latent tokens attend to the patch tokens of their view, most to those near their own place.

    Each head's scores fall by slope·d², d the distance in cells of the latent grid; the slopes
    start at 1 and train. So a latent token starts as a soft window around its cell, and columns of
    latent tokens represent columns of the view.

    Source:
        Cross-attention of few queries: Jaegle et al., arXiv:2103.03206; layers of it between an
        encoder and a language model: Alayrac et al., arXiv:2204.14198, section 3.1. Scores that
        fall with distance: Press et al., arXiv:2108.12409, there linear and in one dimension.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head_width = next(size for size in HEAD_WIDTHS if width % size == 0)
        self.norm_latents = nn.LayerNorm(width)
        self.norm_tokens = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.log_slope = nn.Parameter(torch.zeros(width // self.head_width))
        self.mlp = MlpLayer(width)

    def forward(self, latents: Tensor, tokens: Tensor, distances: Tensor) -> Tensor:
        """Update latent tokens [M, T, D] from patch tokens [M, S, D], d² between them [T, S]."""
        normed = self.norm_tokens(tokens)
        attended = nn.functional.scaled_dot_product_attention(
            self._heads(self.query(self.norm_latents(latents))),
            self._heads(self.key(normed)),
            self._heads(self.value(normed)),
            attn_mask=-self.log_slope.exp()[:, None, None] * distances,
        )
        updated: Tensor = self.mlp(latents + self.out(attended.transpose(1, 2).flatten(2)))
        return updated

    def _heads(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(2, (-1, self.head_width)).transpose(1, 2)


HEAD_WIDTHS = (64, 32, 16, 8)
"""Widths of a head, from the one tried first; the narrowest divides every `latent_size`."""


@lru_cache(maxsize=8)
def squared_distances(grid_in: tuple[int, int], grid_out: tuple[int, int]) -> Tensor:
    """Compute d² between the tokens of two grids on one view, in cells of the second.

    Args:
        grid_in: Rows and columns of patch tokens.
        grid_out: h, w of latent tokens.

    Returns:
        [T, S] float32.
    """
    apart, half = [], np.float32(0.5)
    for num_in, num_out in zip(grid_in, grid_out, strict=True):
        centres_in = (np.arange(num_in, dtype=np.float32) + half) * np.float32(num_out / num_in)
        centres_out = np.arange(num_out, dtype=np.float32)[:, None] + half
        apart.append(np.square(centres_out - centres_in))  # [out, in]
    rows, columns = apart
    squared = rows[:, None, :, None] + columns[None, :, None, :]  # [h, w, rows_in, columns_in]
    with torch.inference_mode(False):  # a kept tensor must serve training after inference
        return torch.from_numpy(squared.reshape(grid_out[0] * grid_out[1], -1))


class Resampler(nn.Module, ABC):
    """Maps patch tokens [M, S, D_vision] to latent tokens [M, T, D_latent] on an h x w grid.

    The grid is kept all the way, so that the columns of a view stay columns and the overlap of
    neighbouring views stays meaningful.
    """

    layer: type[nn.Module] = MlpLayer

    def __init__(self, config: PanoVLMConfig) -> None:
        super().__init__()
        self.grid_in = token_grid(config.vision_config, config.view_size)
        self.grid_out = (config.token_rows, config.token_columns)
        self.block = (self.grid_in[0] // config.token_rows, self.grid_in[1] // config.token_columns)
        width = config.latent_size
        self.narrow_in = nn.Linear(patch_token_width(config.vision_config), width)
        self.layers = nn.ModuleList(self.layer(width) for _ in range(config.resampler_layers))
        self.norm_out = nn.LayerNorm(width)

    def forward(self, patch_tokens: Tensor) -> Tensor:
        """Resample the patch tokens of M views, whatever precision they are kept in."""
        latents = self.latents(patch_tokens.to(self.narrow_in.weight.dtype))
        normed: Tensor = self.norm_out(latents)
        return normed

    @abstractmethod
    def latents(self, patch_tokens: Tensor) -> Tensor:
        """Compute latent tokens [M, T, D_latent] before the last norm."""


class NormedResampler(Resampler):
    """A resampler that normalises patch tokens first, as features of any size need it."""

    def __init__(self, config: PanoVLMConfig) -> None:
        super().__init__(config)
        self.norm_in = nn.LayerNorm(self.narrow_in.in_features)

    def narrowed(self, patch_tokens: Tensor) -> Tensor:
        """Compute narrow_in(norm_in(x)), with the norm's weights taken into the linear map.

        That is the same function, but no gradient goes back to tokens that are frozen: that of the
        norm's weights alone would cost as much again as the linear map does forwards.
        """
        norm, linear = self.norm_in, self.narrow_in
        if not self.training:  # servers pack or quantise weights: the layer knows how
            plain: Tensor = linear(norm(patch_tokens))
            return plain
        tokens = nn.functional.layer_norm(patch_tokens, norm.normalized_shape, eps=norm.eps)
        weight, bias = linear.weight * norm.weight, linear.bias + linear.weight @ norm.bias
        return nn.functional.linear(tokens, weight, bias)


class MlpResampler(NormedResampler):
    """Layers on each token, then each block of neighbouring tokens is merged into one."""

    def __init__(self, config: PanoVLMConfig) -> None:
        super().__init__(config)
        width = config.latent_size
        self.merge = nn.Conv2d(width, width, kernel_size=self.block, stride=self.block)

    def latents(self, patch_tokens: Tensor) -> Tensor:
        """Compute latent tokens."""
        grid = self.narrowed(patch_tokens).unflatten(1, self.grid_in)
        for layer in self.layers:
            grid = layer(grid)
        merged: Tensor = self.merge(grid.permute(0, 3, 1, 2))
        return merged.flatten(2).transpose(1, 2)


class ConvResampler(MlpResampler):
    """The same with layers that also mix neighbouring tokens."""

    layer = ConvLayer


class PerceiverResampler(NormedResampler):
    """Attends to the patch tokens from a learned query for each place of the latent grid."""

    layer = PerceiverLayer
    distances: Tensor  # `squared_distances` of its grids

    def __init__(self, config: PanoVLMConfig) -> None:
        super().__init__(config)
        self.queries = nn.Parameter(torch.zeros(config.tokens_per_view, config.latent_size))
        table = self.distance_table().to(torch.get_default_device())
        self.register_buffer("distances", table, persistent=False)

    def distance_table(self) -> Tensor:
        """Return d² between latent and patch tokens, [T, S]."""
        return squared_distances(self.grid_in, self.grid_out)

    def latents(self, patch_tokens: Tensor) -> Tensor:
        """Compute latent tokens."""
        tokens = self.narrowed(patch_tokens)
        distances = self.distances.to(tokens.dtype)
        latents = self.queries.expand(len(tokens), -1, -1)
        for layer in self.layers:
            latents = layer(latents, tokens, distances)
        return latents


class PoolResampler(Resampler):
    """Takes the largest value of each feature in a block, as it is, then layers on each token.

    That is how sure an encoder of class probabilities is, and the same wherever in the block a
    thing stands.
    """

    def latents(self, patch_tokens: Tensor) -> Tensor:
        """Compute latent tokens."""
        grid = patch_tokens.unflatten(1, self.grid_in).permute(0, 3, 1, 2)
        largest = nn.functional.max_pool2d(grid, self.block)
        latents: Tensor = self.narrow_in(largest.flatten(2).transpose(1, 2))
        for layer in self.layers:
            latents = layer(latents)
        return latents


RESAMPLERS: dict[str, type[Resampler]] = {
    "conv": ConvResampler,
    "mlp": MlpResampler,
    "perceiver": PerceiverResampler,
    "pool": PoolResampler,
}


def build_resampler(config: PanoVLMConfig) -> Resampler:
    """Build the resampler of a model, of random weights."""
    return RESAMPLERS[config.resampler_type](config)
