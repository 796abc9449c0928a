"""Train, evaluate and serve vision-language models that understand 360° panoramas.

Importing the package loads neither torch nor transformers; both come with the first name that needs
them. The Auto classes of transformers know the package's models whichever is imported first.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from wrapt import when_imported

if TYPE_CHECKING:
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

_MODULES = {
    "PanoVLMConfig": "model.configuration",
    "PanoVLMError": "errors",
    "PanoVLMForConditionalGeneration": "model.modeling",
    "PanoVLMForOverlapPretraining": "training.overlap.modeling",
    "PanoVLMImageProcessor": "model.image_processing",
    "PanoVLMModel": "model.modeling",
    "PanoVLMProcessor": "model.processing",
    "ViewLayout": "geometry.layouts",
    "cut_views": "geometry.cutting",
    "load_panorama": "pictures.panorama",
}
"""Where each public name is defined; its module is imported when the name is used."""

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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_AUTO_MODULES = {
    "configuration_auto": "configuration",
    "modeling_auto": "modeling",
    "image_processing_auto": "image_processing",
    "processing_auto": "processing",
}
"""Modules of the library's Auto classes, and ours whose classes they must know."""


_WHOLE_FIRST = ("transformers.modeling_layers", "panovlm.model.resampler")
"""Modules that load the Auto classes while they are not yet whole, and that our models need."""


def _load_with(auto_module: str) -> None:
    auto = f"transformers.models.auto.{auto_module}"
    whole: set[str] = set()

    def load(module: ModuleType) -> None:
        whole.add(module.__name__)
        begun = {name for name in (auto, *_WHOLE_FIRST) if name in sys.modules}
        if auto in begun <= whole:
            import_module(f"panovlm.model.{_AUTO_MODULES[auto_module]}")

    for name in (auto, *_WHOLE_FIRST):
        when_imported(name)(load)


for _auto_module in _AUTO_MODULES:
    _load_with(_auto_module)


# Registered once their module is whole: an import of it may itself have loaded the Auto classes.
@when_imported("panovlm.model.configuration")
def _register_configuration(ours: ModuleType) -> None:
    from transformers import AutoConfig

    AutoConfig.register(ours.PanoVLMConfig.model_type, ours.PanoVLMConfig, exist_ok=True)


@when_imported("panovlm.model.modeling")
def _register_models(ours: ModuleType) -> None:
    from transformers import AutoModel, AutoModelForImageTextToText

    config, generator = ours.PanoVLMConfig, ours.PanoVLMForConditionalGeneration
    AutoModel.register(config, ours.PanoVLMModel, exist_ok=True)
    AutoModelForImageTextToText.register(config, generator, exist_ok=True)


@when_imported("panovlm.model.image_processing")
def _register_image_processor(ours: ModuleType) -> None:
    from transformers import AutoImageProcessor

    # The same class for both backends: the image processor has no need of torchvision.
    classes = dict.fromkeys(("pil", "torchvision"), ours.PanoVLMImageProcessor)
    config = import_module("panovlm.model.configuration").PanoVLMConfig
    AutoImageProcessor.register(config, image_processor_classes=classes, exist_ok=True)


@when_imported("panovlm.model.processing")
def _register_processor(ours: ModuleType) -> None:
    from transformers import AutoProcessor

    config = import_module("panovlm.model.configuration").PanoVLMConfig
    AutoProcessor.register(config, ours.PanoVLMProcessor, exist_ok=True)
