"""Low-rank adapters of the language model: adding, writing and reading them.

A folder of adapters holds what the stage with adapters trained and nothing else:

adapter_model.safetensors, adapter_config.json   PEFT's own format, for the language model alone
modules.safetensors                              the modules trained as a whole, as in the model
"""

from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.helpers import disable_input_dtype_casting
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from panovlm.errors import PanoVLMError
from panovlm.runtime.progress import quiet_transformers
from panovlm.training.sections import LoraSection

LORA_MARKS = ("lora_", ".modules_to_save.")
"""In the names of parameters that come with the adapters."""
ADAPTER = "adapter"
"""Folder of the adapters inside the folder of their stage."""
ADAPTER_CONFIG, MODULES_FILE = "adapter_config.json", "modules.safetensors"


def check_installed(lora: LoraSection | None) -> None:
    """Check that what the adapters need is installed, before hours of earlier stages.

    Raises:
        PanoVLMError: If bitsandbytes is needed and missing.
    """
    if lora is not None and lora.quantization is not None and find_spec("bitsandbytes") is None:
        raise PanoVLMError(
            "found lora.quantization: 4bit, but bitsandbytes is not installed; run: "
            "pip install 'panovlm[quantized]', or leave lora.quantization out"
        )


def add_adapters(language_model: PreTrainedModel, lora: LoraSection) -> PeftModel:
    """Add fresh adapters to linear layers of a language model, in place.

    Raises:
        PanoVLMError: If it has no layer of the names asked for.

    Source:
        LoRA: Hu et al., arXiv:2106.09685; DoRA: Liu et al., arXiv:2402.09353; rsLoRA:
        Kalajdzievski, arXiv:2312.03732; on a base held in 4 bits: Dettmers et al.,
        arXiv:2305.14314.
    """
    check_installed(lora)
    if lora.quantization is not None:
        _quantize_to_4_bits(language_model)
    _check_names(language_model, lora)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_dora=lora.variant == "dora",
        use_rslora=lora.variant == "rslora",
        modules_to_save=[*lora.modules_to_save] or None,
        target_modules=lora.target_modules,  # of the language model: PEFT gets no other module
    )
    with quiet_transformers():  # PEFT reads what transformers has renamed
        return get_peft_model(language_model, config)


def without_input_copies(
    model: PreTrainedModel, lora: LoraSection | None
) -> AbstractContextManager[None]:
    """Return a context in which adapters read their inputs in bf16, as autocast computes with them.

    PEFT would convert them to float32 first, only for autocast to convert them back: the same
    numbers, but two copies, one of which is kept for the backward pass. DoRA takes the lengths of
    weights in its input's type, and keeps the conversion.
    """
    active = lora is not None and lora.variant != "dora"
    context: AbstractContextManager[None] = disable_input_dtype_casting(model, active=active)
    return context


def _check_names(language_model: PreTrainedModel, lora: LoraSection) -> None:
    """Check that what is to be adapted, or to train as a whole, is there and tied to nothing."""
    modules = [(name.rpartition(".")[2], m) for name, m in language_model.named_modules() if name]
    linear = {name for name, module in modules if isinstance(module, nn.Linear)}
    targets = [] if isinstance(lora.target_modules, str) else lora.target_modules
    for key, wanted, known, kind in (
        ("target_modules", targets, linear, "linear layers:"),
        ("modules_to_save", lora.modules_to_save, {name for name, _ in modules}, "modules, as"),
    ):
        if unknown := [name for name in wanted if name not in known]:
            raise PanoVLMError(
                f"found lora.{key} with {', '.join(unknown)}, expected names of the language "
                f"model's {kind} {', '.join(sorted(known))}"
            )
    embeddings = language_model.get_input_embeddings()
    tied = [n for n, module in modules if module is embeddings and n in lora.modules_to_save]
    if language_model.config.tie_word_embeddings and tied:
        raise PanoVLMError(
            f"found lora.modules_to_save with {tied[0]} in a language model whose head is tied to "
            f"it, expected modules that share no weight; leave it out, or set "
            f"train_language_model: true"
        )


def is_adapter(parameter_name: str) -> bool:
    """Return whether a parameter comes with the adapters."""
    return any(mark in parameter_name for mark in LORA_MARKS)


def write_adapters(
    adapters: PeftModel, model: PreTrainedModel, folder: Path, origin: dict[str, str]
) -> None:
    """Write the adapters and the modules trained beside them.

    Args:
        adapters: As `add_adapters` returned it.
        model: The whole model.
        folder: To write.
        origin: `language_model`, the name in the recipe, and `base`, a digest of the
            stage before, empty where they were trained from the backbones.
    """
    for config in adapters.peft_config.values():
        config.base_model_name_or_path = origin["language_model"]
    adapters.save_pretrained(str(folder), save_embedding_layers=False)  # they are frozen
    (folder / "README.md").unlink()  # PEFT's form for others to fill in
    modules = {
        name: parameter.detach().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not is_adapter(name)
    }
    save_file(modules, folder / MODULES_FILE, metadata=origin)


def read_origin(folder: Path) -> dict[str, str]:
    """Return the origin of adapters, as `write_adapters` wrote it.

    Raises:
        PanoVLMError: If the folder holds no adapters.
    """
    for name in (ADAPTER_CONFIG, MODULES_FILE):
        if not (folder / name).is_file():
            raise PanoVLMError(
                f"found no {name} in {folder}, expected adapters as panovlm train writes them; "
                f"name the folder {ADAPTER}/ inside a stage with adapters"
            )
    with safe_open(folder / MODULES_FILE, framework="pt") as stored:
        return dict(stored.metadata())


def read_adapters(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Load a folder's modules and adapters into the model of the stage before, in place.

    Raises:
        PanoVLMError: If they belong to another architecture.
    """
    read_origin(folder)
    modules = load_file(folder / MODULES_FILE)
    own = model.state_dict()
    unfitting = [k for k in modules if k not in own or own[k].shape != modules[k].shape]
    if unfitting:
        raise PanoVLMError(
            f"{folder} belongs to a model of another architecture: {unfitting[0]} does not fit "
            f"({len(unfitting)} such tensors); name the stage that the adapters were trained from"
        )
    model.load_state_dict(modules, strict=False)
    try:
        with quiet_transformers():
            return PeftModel.from_pretrained(model.model.language_model, str(folder))
    except (RuntimeError, ValueError) as error:
        raise PanoVLMError(
            f"the adapters in {folder} do not fit this language model: {error}; name the stage "
            f"that they were trained from"
        ) from error


def _quantize_to_4_bits(language_model: PreTrainedModel) -> None:
    """Replace every linear layer by one whose weights have 4 bits (NF4)."""
    import bitsandbytes

    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name in [n for n, m in language_model.named_modules() if type(m) is nn.Linear]:
        linear = language_model.get_submodule(name)
        quantized = bitsandbytes.nn.Linear4bit(
            linear.in_features, linear.out_features, bias=linear.bias is not None, quant_type="nf4"
        )
        quantized.load_state_dict(linear.state_dict())
        quantized.requires_grad_(False)
        language_model.set_submodule(name, quantized.to(device))  # quantises on arrival
    language_model.is_loaded_in_4bit = True  # where PEFT looks
