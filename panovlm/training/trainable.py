"""Applies a stage's row to a model: the only place that touches `requires_grad`."""

from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from panovlm.errors import PanoVLMError
from panovlm.model.vision_layers import encoder_layers
from panovlm.runtime.arithmetic import cast_parameters
from panovlm.stages import MODULES, TRAINED, Role, Stage
from panovlm.training.adapters import add_adapters, is_adapter
from panovlm.training.sections import LoraSection


@dataclass(frozen=True)
class ModuleReport:
    """What a stage does with one of `MODULES`."""

    module: str
    role: Role
    num_parameters: int
    num_trained: int

    @property
    def role_text(self) -> str:
        """The role, and whether a frozen module trains in part."""
        in_part = self.role is Role.FROZEN and self.num_trained > 0
        return "frozen, last layers trained" if in_part else self.role.value


def apply_stage(model: PreTrainedModel, stage: Stage, lora: LoraSection | None) -> PeftModel | None:
    """Freeze and unfreeze the modules of a model by the stage's roles, and add adapters.

    Returns:
        PEFT's wrapper of the language model if there are adapters; the model itself holds the same
        layers, so the wrapper is only needed to merge them.
    """
    adapters = None
    if stage.role("lora") is TRAINED and lora is not None:
        adapters = add_adapters(model.model.language_model, lora)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(stage.role(module_of(name)) is TRAINED)
    for layer in _last_vision_layers(model, stage.num_vision_layers):
        layer.requires_grad_(True)
    return adapters


def hold_frozen(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Keep the frozen weights of the language model in the type in which they are multiplied.

    Autocast casts a weight of another type anew at each use, and a frozen one is always the same.
    """
    frozen = (
        parameter
        for name, parameter in model.named_parameters()
        if module_of(name) == "language_model" and not parameter.requires_grad
    )
    cast_parameters(frozen, dtype)


def module_of(parameter_name: str) -> str:
    """Return the column of the stage table that a parameter belongs to."""
    if is_adapter(parameter_name):
        return "lora"
    parts = parameter_name.split(".")
    if parts[0] == "lm_head":
        return "language_model"
    return parts[1] if parts[0] == "model" else parts[0]


def report(model: PreTrainedModel, stage: Stage) -> list[ModuleReport]:
    """Count the parameters of every column of the table."""
    sizes = {module: [0, 0] for module in MODULES}
    for name, parameter in model.named_parameters():
        size = sizes[module_of(name)]
        size[0] += parameter.numel()
        size[1] += parameter.numel() if parameter.requires_grad else 0
    return [ModuleReport(m, stage.role(m), *sizes[m]) for m in MODULES]


def _last_vision_layers(model: PreTrainedModel, count: int) -> list[nn.Module]:
    if count == 0:
        return []
    layers = encoder_layers(model.model.vision_encoder)
    if count > len(layers):
        raise PanoVLMError(
            f"found vision_layers = {count}, expected at most {len(layers)}, the layers of the "
            f"vision encoder"
        )
    return layers[-count:]
