"""Random changes of the pixels that a stage trains on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in the grey of a pixel (ITU-R BT.601)."""


@dataclass(frozen=True)
class ColourJitter:
    """Changes brightness, contrast and saturation, alike in all views of a panorama.

    Attributes:
        strength: s, in [0, 1): each of the three factors is sampled evenly from [1 - s, 1 + s].
        mean: Of each channel, which normalised views have lost.
        std: Of each channel, which they were divided by.

    Source:
        The colour jitter of torchvision, its changes in a fixed order, without that of the hue.
    """

    strength: float
    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, views: Tensor, rng: np.random.Generator) -> Tensor:
        """Return normalised views [V, 3, S, S] with other colours, of pixels within [0, 1]."""
        low, high = 1 - self.strength, 1 + self.strength
        brightness, contrast, saturation = rng.uniform(low, high, 3).tolist()
        mean, std, luma = (
            torch.tensor(each)[:, None, None] for each in (self.mean, self.std, LUMA)
        )
        pixels = (views * std + mean) * brightness
        middle = (pixels * luma).sum(dim=1).mean()
        pixels = torch.lerp(middle, pixels, contrast)
        grey = (pixels * luma).sum(dim=1, keepdim=True)
        return (torch.lerp(grey, pixels, saturation).clamp(0, 1) - mean) / std
