"""What a timm model makes of a view, found by running it without weights or numbers.

timm's configurations name an architecture and do not describe its tokens. So the model is built on
PyTorch's `meta` device, where tensors have a shape and no content, and run.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from panovlm.errors import PanoVLMError


@dataclass(frozen=True)
class TimmFacts:
    """How a timm model lays out its features.

    Attributes:
        grid: Rows and columns of patch tokens.
        width: D_vision.
        num_prefix_tokens: Class and register tokens before the patch tokens.
        is_channels_last: Whether feature maps are [M, h, w, D_vision], as of Swin.
    """

    grid: tuple[int, int]
    width: int
    num_prefix_tokens: int
    is_channels_last: bool

    def patch_tokens(self, features: Tensor) -> Tensor:
        """Convert the output of `forward_features` to patch tokens [M, S, D_vision], row by row."""
        if features.dim() == 3:
            return features[:, self.num_prefix_tokens :]
        if self.is_channels_last:
            return features.flatten(1, 2)
        return features.flatten(2).transpose(1, 2)


def timm_facts(vision_config: PreTrainedConfig, view_size: int) -> TimmFacts:
    """Find out what a timm model makes of a square view.

    Raises:
        PanoVLMError: If timm is missing, the model reads another size, or its tokens have no grid.
    """
    return _facts(timm_model(vision_config), vision_config.architecture, view_size)


def timm_model(vision_config: PreTrainedConfig) -> Any:
    """Build timm's model without weights, on the `meta` device, to read its sizes."""
    arguments = json.dumps(vision_config.model_args or {}, sort_keys=True)
    return _empty_model(vision_config.architecture, arguments)


@lru_cache(maxsize=8)
def _empty_model(architecture: str, arguments: str) -> Any:
    try:
        import timm
    except ImportError as error:
        raise PanoVLMError(
            f"the vision encoder {architecture!r} is one of timm's, which is not installed; run: "
            f"pip install 'panovlm[timm]'"
        ) from error
    with torch.device("meta"):
        return timm.create_model(
            architecture, pretrained=False, num_classes=0, **json.loads(arguments)
        ).eval()


@lru_cache(maxsize=32)
def _facts(model: Any, architecture: str, view_size: int) -> TimmFacts:
    try:
        with torch.no_grad():
            shape = model.forward_features(
                torch.zeros(1, 3, view_size, view_size, device="meta")
            ).shape
    except (AssertionError, RuntimeError) as error:
        raise PanoVLMError(
            f"the timm model {architecture!r} cannot read views of {view_size} pixels: {error}; "
            f"set views.view_size to the size it reads"
        ) from error
    is_channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
    num_prefix_tokens = int(getattr(model, "num_prefix_tokens", 0))
    if len(shape) == 4:
        grid = tuple(shape[1:3]) if is_channels_last else tuple(shape[2:])
    else:
        embedding = getattr(model, "patch_embed", None)
        grid = tuple(embedding.dynamic_feat_size((view_size, view_size))) if embedding else (0, 0)
    if len(shape) == 3 and shape[1] - num_prefix_tokens != grid[0] * grid[1]:
        raise PanoVLMError(
            f"the timm model {architecture!r} gives {shape[1]} tokens that lie on no known grid; "
            f"choose an encoder whose tokens are patches or a feature map"
        )
    return TimmFacts(grid, int(model.num_features), num_prefix_tokens, is_channels_last)
