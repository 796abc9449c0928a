"""The kinds of encoders and language models that run end to end, as their fixtures name them."""

ENCODERS = (
    "clip",
    "siglip2",
    "dinov2",
    "dinov2_with_registers",
    "dinov3_vit",
    "dinov3_convnext",
    "efficientnet_lite",
    "nanodet",
    "timm_wrapper",
)
LANGUAGE_MODELS = (
    "llama",
    "qwen2",
    "qwen3",
    "qwen3_sliding",
    "smollm3",
    "gemma3_text",
    "phi3",
    "mistral",
)
