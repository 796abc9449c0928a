"""EfficientNet-Lite as a transformers vision encoder: pictures in, patch tokens out.

A small convolutional encoder for machines without an accelerator. Batch normalisation is folded
into the convolutions, so the model has no state that depends on training mode; the published
weights are folded by `panovlm.backbones.download`.

Shapes: N pictures, H x W pixels, h x w token grid with h = ceil(H / 32), w = ceil(W / 32).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput

from panovlm.model.efficientnet_lite_configuration import BlockKernel, EfficientNetLiteConfig


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding: output size = ceil(input size / stride).

    With stride 2 and an even input the padding is one larger at the right and the bottom, which
    `nn.Conv2d` cannot do; the published weights were trained with it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        # With stride 1 the padding is symmetric and the convolution does it itself, without a copy.
        padding = kernel_size // 2 if stride == 1 else 0
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, groups=groups)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve [N, C_in, H, W] into [N, C_out, ceil(H / stride), ceil(W / stride)]."""
        if self.kernel_size == (1, 1):
            return self._mix(input)
        if self.stride[0] == 1:
            return super().forward(input)
        top, bottom = self._padding(input.shape[-2])
        left, right = self._padding(input.shape[-1])
        # Zeros before the kernel do what an uneven padding would, without a copy of the input.
        weight = F.pad(self.weight, (right - left, 0, bottom - top, 0))
        return F.conv2d(input, weight, self.bias, self.stride, (bottom, right), 1, self.groups)

    def _mix(self, input: Tensor) -> Tensor:
        """Convolve with a kernel of one pixel: a linear map, where channels lie side by side."""
        mixed = F.linear(input.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return mixed.permute(0, 3, 1, 2)

    def _padding(self, size: int) -> tuple[int, int]:
        """Compute the zeros before and after an axis of `size` pixels, never fewer after it."""
        kernel_size, stride = self.kernel_size[0], self.stride[0]
        num_outputs = -(-size // stride)
        total = max((num_outputs - 1) * stride + kernel_size - size, 0)
        return total // 2, total - total // 2


class InvertedResidual(nn.Module):
    """Widen, convolve each channel on its own, narrow; add the input where the shapes allow it.

    Source:
        Sandler et al. 2018, "MobileNetV2", section 3.3.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: BlockKernel, stride: int
    ) -> None:
        super().__init__()
        inner = in_channels * kernel.expansion
        self.expand = SameConv2d(in_channels, inner, 1) if kernel.expansion > 1 else None
        self.depthwise = SameConv2d(inner, inner, kernel.size, stride, groups=inner)
        self.project = SameConv2d(inner, out_channels, 1)
        self.is_residual = stride == 1 and in_channels == out_channels

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, C_in, H, W] to [N, C_out, ceil(H / stride), ceil(W / stride)]."""
        inner = features
        if self.expand is not None:
            inner = F.relu6(self.expand(inner), inplace=True)
        inner = F.relu6(self.depthwise(inner), inplace=True)
        projected: Tensor = self.project(inner)
        return projected + features if self.is_residual else projected


class EfficientNetLiteModel(PreTrainedModel):
    """An EfficientNet-Lite without its classifier, as an encoder of patch tokens."""

    config: EfficientNetLiteConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _no_split_modules = ("InvertedResidual",)

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        self.stem = SameConv2d(3, config.stem_channels, 3, stride=2)
        self.blocks = nn.ModuleList(_blocks(config))
        self.head = SameConv2d(config.widths[-1], config.hidden_size, 1)
        self.post_init()

    def forward(self, pixel_values: Tensor) -> BaseModelOutput:
        """Encode pictures into patch tokens.

        Args:
            pixel_values: [N, 3, H, W], red, green, blue, normalised as the weights expect.

        Returns:
            `last_hidden_state` [N, h * w, hidden_size], in [0, 6], row by row from the top left.
        """
        features = pixel_values.contiguous(memory_format=torch.channels_last)
        features = F.relu6(self.stem(features), inplace=True)
        for block in self.blocks:
            features = block(features)
        features = F.relu6(self.head(features), inplace=True)
        return BaseModelOutput(last_hidden_state=features.flatten(2).transpose(1, 2))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise so that the size of the features stays about the same through the depth."""
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)


def _blocks(config: EfficientNetLiteConfig) -> list[InvertedResidual]:
    """Build the blocks of all runs, in order."""
    blocks = []
    in_channels = config.stem_channels
    for kernel, depth, width in zip(config.kernels, config.depths, config.widths, strict=True):
        for index in range(depth):
            stride = kernel.stride if index == 0 else 1
            blocks.append(InvertedResidual(in_channels, width, kernel, stride))
            in_channels = width
    return blocks
