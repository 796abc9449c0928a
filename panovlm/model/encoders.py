"""The vision encoders that transformers does not have, and how any is built."""

from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from panovlm.model.efficientnet_lite import EfficientNetLiteModel
from panovlm.model.efficientnet_lite_configuration import EfficientNetLiteConfig
from panovlm.model.nanodet import NanoDetModel
from panovlm.model.nanodet_configuration import NanoDetConfig

OWN_ENCODERS: dict[str, type[PreTrainedModel]] = {
    EfficientNetLiteConfig.model_type: EfficientNetLiteModel,
    NanoDetConfig.model_type: NanoDetModel,
}
"""By `model_type`; `AutoModel` loads them too."""
AutoModel.register(EfficientNetLiteConfig, EfficientNetLiteModel, exist_ok=True)
AutoModel.register(NanoDetConfig, NanoDetModel, exist_ok=True)


def build_encoder(vision_config: PreTrainedConfig) -> PreTrainedModel:
    """Build a vision encoder without its weights.

    `AutoModel` knows our own encoders by the class of their configuration, of which an exported
    checkpoint loads two: one beside the configuration, one beside the model.
    """
    if vision_config.model_type in OWN_ENCODERS:
        return OWN_ENCODERS[vision_config.model_type]._from_config(vision_config)
    return AutoModel.from_config(vision_config)
