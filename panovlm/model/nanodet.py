"""NanoDet-g, a small detector, and what is below its boxes as a transformers vision encoder.

An encoder trained on boxes knows small things apart that one trained on whole pictures overlooks. A
patch token holds how probable each of the detector's classes is at its place; what it has besides
tells pictures apart more than things. Batch normalisation is folded into the convolutions.

Shapes: N pictures, H x W pixels, h x w token grid with h = ceil(H / 32), w = ceil(W / 32); Q places
of all three scales together, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput, ModelOutput

from panovlm.model.nanodet_configuration import NanoDetConfig

SLOPE = 0.1
"""Of the leaky ReLU below zero."""
STRIDES = (8, 16, 32)
"""Pixels between the places of each scale."""
NUM_BINS = 11
"""Distances from a place to a side of its box that are told apart: 0 to 10 strides."""


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


class NanoDetPreTrainedModel(PreTrainedModel):
    """What both models have in common."""

    config: NanoDetConfig
    base_model_prefix = "nanodet"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _no_split_modules = ("CrossStage",)
    # The encoder reads the weights of the detector.
    _keys_to_ignore_on_load_unexpected = (r"^distances\.",)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise so that the size of the features stays about the same through the depth."""
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, a=SLOPE, nonlinearity="leaky_relu")
            if module.bias is not None:
                init.zeros_(module.bias)


class NanoDetModel(NanoDetPreTrainedModel):
    """NanoDet-g without its boxes, as an encoder of patch tokens."""

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
            `last_hidden_state` [N, h * w, K], row by row from the top left: the largest probability
            of each class in the token's square of 32 pixels, over all scales, in (0, 1).
        """
        maps = self.mixed_scales(pixel_values)
        grid = maps[-1].shape[-2:]
        scores = self.scores(self.through_towers(maps))
        best = torch.stack([F.adaptive_max_pool2d(each, grid) for each in scores]).amax(dim=0)
        return BaseModelOutput(last_hidden_state=best.sigmoid().flatten(2).transpose(1, 2))

    def mixed_scales(self, pixel_values: Tensor) -> list[Tensor]:
        """Compute maps [N, neck_channels, ., .] at each of `STRIDES`, with the others' in it."""
        pixels = pixel_values.contiguous(memory_format=torch.channels_last)
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

    def through_towers(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Compute from each scale what classes and boxes are read from, in the same shapes."""
        return [tower(each) for tower, each in zip(self.towers, maps, strict=True)]

    def scores(self, towers: Sequence[Tensor]) -> list[Tensor]:
        """Compute the score of each class before the sigmoid, [N, K, ., .] of each scale."""
        return [classes(each) for classes, each in zip(self.classes, towers, strict=True)]


@dataclass
class NanoDetOutput(ModelOutput):
    """What is detected at every place.

    Attributes:
        scores: Of each class, in (0, 1), [N, Q, K].
        boxes: Left, top, right and bottom in pixels, [N, Q, 4].
    """

    scores: Tensor | None = None
    boxes: Tensor | None = None


class NanoDetForObjectDetection(NanoDetPreTrainedModel):
    """NanoDet-g with its boxes."""

    def __init__(self, config: NanoDetConfig) -> None:
        super().__init__(config)
        self.nanodet = NanoDetModel(config)
        self.distances = nn.ModuleList(
            nn.Conv2d(config.neck_channels, 4 * NUM_BINS, 1) for _ in STRIDES
        )
        self.post_init()

    def forward(self, pixel_values: Tensor) -> NanoDetOutput:
        """Score every class and draw a box at every place of pictures [N, 3, H, W].

        Source:
            Li et al. 2020, "Generalized Focal Loss", section 3.2: a side is as far away as the mean
            of a distribution over distances.
        """
        towers = self.nanodet.through_towers(self.nanodet.mixed_scales(pixel_values))
        scores = [each.flatten(2) for each in self.nanodet.scores(towers)]
        parts = zip(self.distances, towers, STRIDES, strict=True)
        boxes = [_boxes(distances(tower), stride) for distances, tower, stride in parts]
        return NanoDetOutput(
            scores=torch.cat(scores, dim=2).transpose(1, 2).sigmoid(), boxes=torch.cat(boxes, dim=1)
        )


def _boxes(distances: Tensor, stride: int) -> Tensor:
    """Turn distributions of distances [N, 4 * NUM_BINS, h, w] into boxes [N, h * w, 4]."""
    height, width = distances.shape[-2:]
    shares = distances.unflatten(1, (4, NUM_BINS)).softmax(dim=2)
    bins = torch.arange(NUM_BINS, dtype=shares.dtype, device=shares.device)
    left, top, right, bottom = stride * torch.einsum("nsbhw,b->snhw", shares, bins)
    y = stride * (torch.arange(height, device=shares.device) + 0.5)[:, None]
    x = stride * (torch.arange(width, device=shares.device) + 0.5)
    return torch.stack([x - left, y - top, x + right, y + bottom], dim=-1).flatten(1, 2)


def _add_neighbours(maps: list[Tensor], places: Sequence[int], step: int) -> None:
    """Add to each map, in this order, the one `step` further, resized to it."""
    for place in places:
        size = maps[place].shape[-2:]
        other = F.interpolate(maps[place + step], size, mode="bilinear", align_corners=False)
        maps[place] = maps[place] + other
