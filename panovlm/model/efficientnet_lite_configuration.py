"""The sizes of an EfficientNet-Lite."""

from typing import ClassVar, NamedTuple

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


class BlockKernel(NamedTuple):
    """The convolutions of a run of blocks of one width; only the first of them strides."""

    size: int
    stride: int
    expansion: int


@strict
class EfficientNetLiteConfig(PreTrainedConfig):
    """The sizes of an EfficientNet-Lite, of Lite0 unless others are given.

    Args:
        image_size: Height and width of the pictures the encoder is used with, pixels, > 0. The
            model itself takes any size; this one fixes how many tokens others expect.
        hidden_size: Width of the patch tokens, > 0. The published weights have 1280.
        depths: Blocks in each of the seven runs, > 0.
        widths: Channels of each run, > 0.

    Source:
        Tan and Le 2019, "EfficientNet", table 1, without squeeze-and-excitation and with ReLU6
        (EfficientNet-Lite, 2020).
    """

    model_type = "efficientnet_lite"

    stem_channels: ClassVar[int] = 32
    patch_size: ClassVar[int] = 32
    kernels: ClassVar[tuple[BlockKernel, ...]] = (
        BlockKernel(size=3, stride=1, expansion=1),
        BlockKernel(size=3, stride=2, expansion=6),
        BlockKernel(size=5, stride=2, expansion=6),
        BlockKernel(size=3, stride=2, expansion=6),
        BlockKernel(size=5, stride=1, expansion=6),
        BlockKernel(size=5, stride=2, expansion=6),
        BlockKernel(size=3, stride=1, expansion=6),
    )

    image_size: int = 192
    hidden_size: int = 1280
    depths: list[int] | tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    widths: list[int] | tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)

    def validate_sizes(self) -> None:
        """Check that all sizes are positive, and that each run of blocks has its own."""
        for name, size in (("image_size", self.image_size), ("hidden_size", self.hidden_size)):
            if size <= 0:
                raise ValueError(f"{name} is {size}, expected a positive number: set {name} > 0")
        for name, sizes in (("depths", self.depths), ("widths", self.widths)):
            if len(sizes) != len(self.kernels) or min(sizes) <= 0:
                raise ValueError(
                    f"{name} is {list(sizes)}, expected {len(self.kernels)} positive numbers"
                )
