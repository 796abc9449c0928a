"""The sizes of NanoDet-g."""

from typing import ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class NanoDetConfig(PreTrainedConfig):
    """The sizes of NanoDet-g, whose weights are published for the defaults.

    Args:
        image_size: Height and width of the pictures the encoder is used with, pixels, > 0. The
            model itself takes any size.
        stem_channels: Channels behind the first convolution, > 0; each stage doubles them.
        neck_channels: Channels of the maps in which scales are mixed, > 0.
        num_classes: Kinds of things that it tells apart, > 0; `id2label` has their names.

    Source:
        RangiLyu, NanoDet (github.com/RangiLyu/nanodet), `config/Custom_CSP/nanodet-g.yml`.
    """

    model_type = "nanodet"

    patch_size: ClassVar[int] = 32
    depths: ClassVar[tuple[int, ...]] = (1, 2, 2, 3)

    image_size: int = 416
    stem_channels: int = 32
    neck_channels: int = 128
    num_classes: int = 80

    @property
    def hidden_size(self) -> int:
        """Width of a patch token: a probability for each class."""
        return self.num_classes

    def validate_sizes(self) -> None:
        """Check that all sizes are positive."""
        for name in ("image_size", "stem_channels", "neck_channels", "num_classes"):
            if getattr(self, name) <= 0:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, expected a positive number: set {name} > 0"
                )
