"""The adapter to any vision encoder: where its patch tokens lie, and how to run it on views.

Shape letters: N panoramas, V views, M = N·V, S patch tokens of a view, D_vision their width.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from panovlm.errors import PanoVLMError
from panovlm.model.efficientnet_lite_configuration import EfficientNetLiteConfig
from panovlm.model.nanodet_configuration import NanoDetConfig
from panovlm.model.timm_encoders import timm_facts, timm_model

if TYPE_CHECKING:  # configurations are read where models are not loaded yet
    from transformers import PreTrainedModel

# Encoders by `model_type`: whether a class token stands before the patch tokens.
HAS_CLASS_TOKEN = {
    "clip_vision_model": True,
    "dinov2": True,
    "dinov2_with_registers": True,
    "dinov3_convnext": True,  # the mean of its tokens
    "dinov3_vit": True,
    EfficientNetLiteConfig.model_type: False,
    NanoDetConfig.model_type: False,
    "siglip_vision_model": False,
    "siglip2_vision_model": False,
}
HAS_REGISTERS = ("dinov2_with_registers", "dinov3_vit")
INTERPOLATING_ON_REQUEST = ("clip_vision_model", "siglip_vision_model")
"""Encoders that stretch their position embeddings to another picture size only on request."""
INTERPOLATING = (*INTERPOLATING_ON_REQUEST, "dinov2", "dinov2_with_registers")
"""Encoders with position embeddings of one picture size, stretched to others."""
PADDING_AT_THE_BORDER = (EfficientNetLiteConfig.model_type, NanoDetConfig.model_type)
"""Convolutional encoders in whose tokens every pixel counts, whatever the size."""
CONVOLUTION_STRIDES = {"dinov3_convnext": 32} | dict.fromkeys(PADDING_AT_THE_BORDER, 32)
TIMM = "timm_wrapper"


def token_grid(vision_config: PreTrainedConfig, view_size: int) -> tuple[int, int]:
    """Compute the rows and columns of patch tokens an encoder makes of one square view.

    Raises:
        PanoVLMError: If the encoder is unknown, or cannot read such views.
    """
    kind = vision_config.model_type
    if kind == TIMM:
        return timm_facts(vision_config, view_size).grid
    if kind not in HAS_CLASS_TOKEN:
        raise PanoVLMError(
            f"found a vision encoder of type {kind!r}, expected one of "
            f"{', '.join(sorted([*HAS_CLASS_TOKEN, TIMM]))}"
        )
    if kind in PADDING_AT_THE_BORDER:
        side = -(-view_size // CONVOLUTION_STRIDES[kind])
        return side, side
    stride = CONVOLUTION_STRIDES.get(kind) or vision_config.patch_size
    if view_size % stride and view_size != getattr(vision_config, "image_size", None):
        raise PanoVLMError(
            f"found view_size {view_size}, expected a multiple of {stride}, the pixels along a "
            f"token of {kind}, or the encoder's own picture size; set views.view_size"
        )
    return view_size // stride, view_size // stride


def patch_token_width(vision_config: PreTrainedConfig) -> int:
    """Return D_vision, the width of an encoder's patch tokens."""
    if vision_config.model_type == TIMM:
        return int(timm_model(vision_config).num_features)
    if vision_config.model_type == "dinov3_convnext":
        return int(vision_config.hidden_sizes[-1])
    return int(vision_config.hidden_size)


def num_prefix_tokens(vision_config: PreTrainedConfig) -> int:
    """Return the number of class and register tokens, which have no place on the sphere."""
    kind = vision_config.model_type
    if kind == TIMM:
        return int(getattr(timm_model(vision_config), "num_prefix_tokens", 0))
    registers = vision_config.num_register_tokens if kind in HAS_REGISTERS else 0
    return int(HAS_CLASS_TOKEN[kind]) + registers


def encode_views(vision_encoder: "PreTrainedModel", views: Tensor) -> Tensor:
    """Run the vision encoder and keep the patch tokens.

    Args:
        vision_encoder: Any encoder that `token_grid` knows.
        views: Normalised pixels [M, 3, H, W].

    Returns:
        Patch tokens in row-major order of the token grid, [M, S, D_vision].
    """
    config = vision_encoder.config
    if config.model_type == "siglip2_vision_model":
        return _encode_patches(vision_encoder, views)
    if config.model_type == TIMM:
        features = vision_encoder(pixel_values=views, do_pooling=False).last_hidden_state
        return timm_facts(config, views.shape[-1]).patch_tokens(features)
    stretch = {}
    if config.model_type in INTERPOLATING_ON_REQUEST and views.shape[-1] != config.image_size:
        stretch = {"interpolate_pos_encoding": True}
    tokens: Tensor = vision_encoder(pixel_values=views, **stretch).last_hidden_state
    return tokens[:, num_prefix_tokens(config) :]


def patch_tokens_of(
    vision_encoder: "PreTrainedModel", pixel_values: Tensor | None, patch_tokens: Tensor | None
) -> Tensor:
    """Return the patch tokens of panoramas: those computed before, or what the encoder makes now.

    Args:
        vision_encoder: Any encoder that `token_grid` knows.
        pixel_values: Normalised views [N, V, 3, H, W].
        patch_tokens: Instead, [N, V, S, D_vision].

    Returns:
        [N, V, S, D_vision].
    """
    if patch_tokens is not None:
        return patch_tokens
    if pixel_values is None:
        raise ValueError("give pixel_values or patch_tokens")
    views = pixel_values.flatten(0, 1).to(vision_encoder.dtype)
    return encode_views(vision_encoder, views).unflatten(0, pixel_values.shape[:2])


def _encode_patches(vision_encoder: "PreTrainedModel", views: Tensor) -> Tensor:
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
