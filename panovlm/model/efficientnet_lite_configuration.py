"""The sizes of EfficientNet-Lite0."""

from typing import ClassVar, NamedTuple

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


class BlockStage(NamedTuple):
    """A run of blocks with one width; only its first block strides."""

    num_blocks: int
    kernel_size: int
    stride: int
    expansion: int
    out_channels: int


@strict
class EfficientNetLiteConfig(PreTrainedConfig):
    """The sizes of EfficientNet-Lite0.

    Args:
        image_size: Height and width of the pictures the encoder is used with, pixels, > 0. The
            model itself takes any size; this one fixes how many tokens others expect.
        hidden_size: Width of the patch tokens, > 0. The published weights have 1280.

    Source:
        Tan and Le 2019, "EfficientNet", table 1, without squeeze-and-excitation and with ReLU6
        (EfficientNet-Lite, 2020).
    """

    model_type = "efficientnet_lite"

    stem_channels: ClassVar[int] = 32
    patch_size: ClassVar[int] = 32
    stages: ClassVar[tuple[BlockStage, ...]] = (
        BlockStage(num_blocks=1, kernel_size=3, stride=1, expansion=1, out_channels=16),
        BlockStage(num_blocks=2, kernel_size=3, stride=2, expansion=6, out_channels=24),
        BlockStage(num_blocks=2, kernel_size=5, stride=2, expansion=6, out_channels=40),
        BlockStage(num_blocks=3, kernel_size=3, stride=2, expansion=6, out_channels=80),
        BlockStage(num_blocks=3, kernel_size=5, stride=1, expansion=6, out_channels=112),
        BlockStage(num_blocks=4, kernel_size=5, stride=2, expansion=6, out_channels=192),
        BlockStage(num_blocks=1, kernel_size=3, stride=1, expansion=6, out_channels=320),
    )

    image_size: int = 192
    hidden_size: int = 1280

    def validate_sizes(self) -> None:
        """Check that both sizes are positive."""
        for name, size in (("image_size", self.image_size), ("hidden_size", self.hidden_size)):
            if size <= 0:
                raise ValueError(f"{name} is {size}, expected a positive number: set {name} > 0")
