"""Train, evaluate and serve vision-language models that understand 360° panoramas.

Importing the package makes its models known to the Auto classes of transformers.
"""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
)

from panovlm.errors import PanoVLMError
from panovlm.geometry.cutting import cut_views
from panovlm.geometry.layouts import ViewLayout
from panovlm.model.configuration import PanoVLMConfig
from panovlm.model.image_processing import PanoVLMImageProcessor
from panovlm.model.modeling import PanoVLMForConditionalGeneration, PanoVLMModel
from panovlm.model.processing import PanoVLMProcessor
from panovlm.pictures.panorama import load_panorama
from panovlm.training.overlap.modeling import PanoVLMForOverlapPretraining

__version__ = "0.1.0"

__all__ = [
    "PanoVLMConfig",
    "PanoVLMError",
    "PanoVLMForConditionalGeneration",
    "PanoVLMForOverlapPretraining",
    "PanoVLMImageProcessor",
    "PanoVLMModel",
    "PanoVLMProcessor",
    "ViewLayout",
    "cut_views",
    "load_panorama",
]

AutoConfig.register(PanoVLMConfig.model_type, PanoVLMConfig, exist_ok=True)
AutoModel.register(PanoVLMConfig, PanoVLMModel, exist_ok=True)
AutoModelForImageTextToText.register(PanoVLMConfig, PanoVLMForConditionalGeneration, exist_ok=True)
# The same class for both backends: the image processor has no need of torchvision.
AutoImageProcessor.register(
    PanoVLMConfig,
    image_processor_classes={"pil": PanoVLMImageProcessor, "torchvision": PanoVLMImageProcessor},
    exist_ok=True,
)
AutoProcessor.register(PanoVLMConfig, PanoVLMProcessor, exist_ok=True)
