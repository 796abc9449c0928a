"""Resamplers: patch tokens of a view become fewer, narrower latent tokens on a grid.

Shape letters: M = N·V views, S = rows_in·columns_in patch tokens, T = h·w latent tokens.
"""

import torch
from torch import Tensor, nn

from .configuration import PanoVLMConfig
from .vision import token_grid


class ResamplerLayer(nn.Module):
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


class MlpLayer(nn.Module):
    """A residual two-layer perceptron on each token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)

    def forward(self, grid: Tensor) -> Tensor:
        """Transform each token of a grid [M, h, w, D]."""
        return grid + self.narrow(nn.functional.gelu(self.widen(self.norm(grid))))


LAYERS = {"conv": ResamplerLayer, "mlp": MlpLayer}


class Resampler(nn.Module):
    """Maps patch tokens [M, S, D_vision] to latent tokens [M, T, D_latent] on an h x w grid.

    The grid is kept all the way, so that the columns of a view stay columns and the overlap of
    neighbouring views stays meaningful. The last step merges each block of neighbouring tokens.
    """

    def __init__(self, config: PanoVLMConfig) -> None:
        super().__init__()
        self.grid_in = token_grid(config.vision_config, config.view_size)
        block = (self.grid_in[0] // config.token_rows, self.grid_in[1] // config.token_columns)
        width = config.latent_size
        self.norm_in = nn.LayerNorm(config.vision_config.hidden_size)
        self.narrow_in = nn.Linear(config.vision_config.hidden_size, width)
        layer = LAYERS[config.resampler_type]
        self.layers = nn.ModuleList(layer(width) for _ in range(config.resampler_layers))
        self.merge = nn.Conv2d(width, width, kernel_size=block, stride=block)
        self.norm_out = nn.LayerNorm(width)

    def forward(self, patch_tokens: Tensor) -> Tensor:
        """Resample the patch tokens of M views."""
        grid = self._narrowed(patch_tokens).unflatten(1, self.grid_in)
        for layer in self.layers:
            grid = layer(grid)
        merged = self.merge(grid.permute(0, 3, 1, 2))
        latents: torch.Tensor = self.norm_out(merged.flatten(2).transpose(1, 2))
        return latents

    def _narrowed(self, patch_tokens: Tensor) -> Tensor:
        """Give narrow_in(norm_in(x)), with the norm's weights taken into the linear map.

        That is the same function, but no gradient goes back to tokens that are frozen: that of the
        norm's weights alone would cost as much again as the linear map does forwards.
        """
        norm, linear = self.norm_in, self.narrow_in
        tokens = nn.functional.layer_norm(patch_tokens, norm.normalized_shape, eps=norm.eps)
        weight, bias = linear.weight * norm.weight, linear.bias + linear.weight @ norm.bias
        return nn.functional.linear(tokens, weight, bias)
