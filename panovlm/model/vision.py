"""The adapter to any vision encoder: where its patch tokens lie, and how to run it on views.

Shape letters: N panoramas, V views, M = N·V, S patch tokens of a view, D_vision their width.
"""

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from .errors import PanoVLMError

# Encoders by `model_type`: whether a class token stands before the patch tokens.
HAS_CLASS_TOKEN = {
    "clip_vision_model": True,
    "dinov2": True,
    "dinov2_with_registers": True,
    "efficientnet_lite": False,
    "siglip_vision_model": False,
    "siglip2_vision_model": False,
}
CONVOLUTION_STRIDES = {"efficientnet_lite": 32}


def token_grid(vision_config: PreTrainedConfig, view_size: int) -> tuple[int, int]:
    """Give the rows and columns of patch tokens an encoder makes of one view.

    Args:
        vision_config: Configuration of the encoder.
        view_size: Height and width of a view in pixels.

    Raises:
        PanoVLMError: If the encoder is unknown, or reads another picture size.
    """
    kind = vision_config.model_type
    if kind not in HAS_CLASS_TOKEN:
        raise PanoVLMError(
            f"found a vision encoder of type {kind!r}, expected one of "
            f"{', '.join(sorted(HAS_CLASS_TOKEN))}"
        )
    if kind in CONVOLUTION_STRIDES:
        side = -(-view_size // CONVOLUTION_STRIDES[kind])
        return side, side
    if kind == "siglip2_vision_model":
        return view_size // vision_config.patch_size, view_size // vision_config.patch_size
    if vision_config.image_size != view_size:
        raise PanoVLMError(
            f"found view_size {view_size}, expected {vision_config.image_size}, the picture size "
            f"the vision encoder reads; set views.view_size"
        )
    side = view_size // vision_config.patch_size
    return side, side


def num_prefix_tokens(vision_config: PreTrainedConfig) -> int:
    """Give the number of class and register tokens, which look at no place on the sphere."""
    registers = 0
    if vision_config.model_type == "dinov2_with_registers":
        registers = vision_config.num_register_tokens
    return int(HAS_CLASS_TOKEN[vision_config.model_type]) + registers


def encode_views(vision_encoder: PreTrainedModel, views: Tensor) -> Tensor:
    """Run the vision encoder and keep the patch tokens.

    Args:
        vision_encoder: Any encoder of `HAS_CLASS_TOKEN`.
        views: Normalised pixels [M, 3, H, W].

    Returns:
        Patch tokens in row-major order of the token grid, [M, S, D_vision].
    """
    kind = vision_encoder.config.model_type
    if kind == "siglip2_vision_model":
        return _encode_patches(vision_encoder, views)
    tokens: Tensor = vision_encoder(pixel_values=views).last_hidden_state
    return tokens[:, num_prefix_tokens(vision_encoder.config) :]


def patch_tokens_of(
    vision_encoder: PreTrainedModel, pixel_values: Tensor | None, patch_tokens: Tensor | None
) -> Tensor:
    """Give the patch tokens of panoramas: those computed before, or what the encoder makes now.

    Args:
        vision_encoder: Any encoder of `HAS_CLASS_TOKEN`.
        pixel_values: Normalised views [N, V, 3, H, W].
        patch_tokens: Instead, [N, V, S, D_vision].

    Returns:
        [N, V, S, D_vision].

    Raises:
        ValueError: If neither is given.
    """
    if patch_tokens is not None:
        return patch_tokens
    if pixel_values is None:
        raise ValueError("give pixel_values or patch_tokens")
    views = pixel_values.flatten(0, 1).to(vision_encoder.dtype)
    return encode_views(vision_encoder, views).unflatten(0, pixel_values.shape[:2])


def _encode_patches(vision_encoder: PreTrainedModel, views: Tensor) -> Tensor:
    """Feed an encoder that takes flat patches of any aspect (SigLIP 2 NaFlex)."""
    size = vision_encoder.config.patch_size
    grid = torch.tensor([[views.shape[2] // size, views.shape[3] // size]], device=views.device)
    patches = views.unfold(2, size, size).unfold(3, size, size)  # [M, 3, h, w, size, size]
    patches = patches.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)  # [M, S, size·size·3]
    tokens: Tensor = vision_encoder(
        pixel_values=patches,
        pixel_attention_mask=torch.ones(patches.shape[:2], dtype=torch.long, device=views.device),
        spatial_shapes=grid.expand(len(views), 2),
    ).last_hidden_state
    return tokens
