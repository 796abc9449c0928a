"""NanoDet-g, a small detector, as a transformers vision encoder: pictures in, patch tokens out.

An encoder trained on boxes knows small things apart that one trained on whole pictures overlooks.
Nothing is detected here: a token holds what the detector has about its place, the features of its
three scales and the scores of its classes. Batch normalisation is folded into the convolutions.

Shapes: N pictures, H x W pixels, h x w token grid with h = ceil(H / 32), w = ceil(W / 32).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput

from panovlm.model.nanodet_configuration import NanoDetConfig

SLOPE = 0.1
"""Of the leaky ReLU below zero."""


class LeakyConv2d(nn.Conv2d):
    """A convolution of three pixels that keeps the size, or halves it, and a leaky ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, 3, stride, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        """Map [N, C_in, H, W] to [N, C_out, ceil(H / stride), ceil(W / stride)]."""
        return F.leaky_relu(super().forward(input), SLOPE)


class HalvingBlock(nn.Module):
    """Two convolutions of half the channels, side by side: as many come out as went in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow = LeakyConv2d(channels, channels // 2)
        self.mix = LeakyConv2d(channels // 2, channels // 2)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        narrow = self.narrow(features)
        return torch.cat([self.mix(narrow), narrow], dim=1)


class CrossStage(nn.Module):
    """Blocks around which half of the features go, as they are.

    Source:
        Wang et al. 2019, "CSPNet", figure 2, in NanoDet's form.
    """

    def __init__(self, channels: int, num_blocks: int, stride: int) -> None:
        super().__init__()
        self.enter = LeakyConv2d(channels, channels, stride)
        self.blocks = nn.ModuleList(HalvingBlock(channels) for _ in range(num_blocks))
        self.leave = LeakyConv2d(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, 2 C, ceil(H / stride), ceil(W / stride)]."""
        entered = mixed = self.enter(features)
        for block in self.blocks:
            mixed = block(mixed)
        return torch.cat([self.leave(mixed), entered], dim=1)


class NanoDetModel(PreTrainedModel):
    """NanoDet-g without its boxes, as an encoder of patch tokens."""

    config: NanoDetConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _no_split_modules = ("CrossStage",)

    def __init__(self, config: NanoDetConfig) -> None:
        super().__init__(config)
        widths = [config.stem_channels << stage for stage in range(len(config.depths))]
        neck = config.neck_channels
        self.stem = LeakyConv2d(3, config.stem_channels, stride=2)
        self.stages = nn.ModuleList(
            CrossStage(width, depth, stride=1 if stage == 0 else 2)
            for stage, (width, depth) in enumerate(zip(widths, config.depths, strict=True))
        )
        self.laterals = nn.ModuleList(nn.Conv2d(2 * width, neck, 1) for width in widths[1:])
        self.towers = nn.ModuleList(LeakyConv2d(neck, neck) for _ in self.laterals)
        self.classes = nn.ModuleList(nn.Conv2d(neck, config.num_classes, 1) for _ in self.laterals)
        self.post_init()

    def forward(self, pixel_values: Tensor) -> BaseModelOutput:
        """Encode pictures into patch tokens.

        Args:
            pixel_values: [N, 3, H, W], red, green, blue, normalised as the weights expect.

        Returns:
            `last_hidden_state` [N, h * w, hidden_size], row by row from the top left: of each
            feature of the three scales and of each class's score (before the sigmoid) the largest
            value in the token's square of 32 pixels.
        """
        maps = self._mixed_scales(pixel_values.contiguous(memory_format=torch.channels_last))
        scores = [
            classes(tower(each))
            for classes, tower, each in zip(self.classes, self.towers, maps, strict=True)
        ]
        grid = maps[-1].shape[-2:]
        best = torch.stack([F.adaptive_max_pool2d(each, grid) for each in scores]).amax(dim=0)
        features = torch.cat([*(F.adaptive_max_pool2d(each, grid) for each in maps), best], dim=1)
        return BaseModelOutput(last_hidden_state=features.flatten(2).transpose(1, 2))

    def _mixed_scales(self, pixels: Tensor) -> list[Tensor]:
        """Compute maps [N, neck_channels, ., .] at strides 8, 16 and 32, each with the others'."""
        features = F.max_pool2d(self.stem(pixels), 3, stride=2, padding=1)
        stages = []
        for stage in self.stages:
            features = stage(features)
            stages.append(features)
        pairs = zip(self.laterals, stages[1:], strict=True)
        maps: list[Tensor] = [lateral(each) for lateral, each in pairs]
        order = range(len(maps))
        _add_neighbours(maps, order[-2::-1], step=1)
        _add_neighbours(maps, order[1:], step=-1)
        return maps

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise so that the size of the features stays about the same through the depth."""
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, a=SLOPE, nonlinearity="leaky_relu")
            if module.bias is not None:
                init.zeros_(module.bias)


def _add_neighbours(maps: list[Tensor], places: Sequence[int], step: int) -> None:
    """Add to each map, in this order, the one `step` further, resized to it."""
    for place in places:
        size = maps[place].shape[-2:]
        other = F.interpolate(maps[place + step], size, mode="bilinear", align_corners=False)
        maps[place] = maps[place] + other
