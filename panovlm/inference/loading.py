"""Find and load a trained model."""

import json
from itertools import chain
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from panovlm.errors import PanoVLMError
from panovlm.inference.decoding import use_decoding_attention
from panovlm.inference.names import or_names, pretrained_folder
from panovlm.inference.trained_only import is_trained_only, load_trained_only
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor
from panovlm.runtime.arithmetic import Dtype, cast_parameters, uses_bf16
from panovlm.stages import STAGES


def model_folder(path: Path | str) -> Path:
    """Return the folder of a model: the path itself, or the last answering stage of a run.

    Args:
        path: The path, or the name of a pretrained model where nothing has that path.

    Raises:
        PanoVLMError: If there is no model that answers.
    """
    path = Path(path)
    if pretrained := pretrained_folder(path):
        return pretrained
    for folder in (path, *(path / name for name in reversed(STAGES))):
        if is_ours(folder):
            return folder
    raise PanoVLMError(
        f"found no answering model in {path}, expected a model's folder or a run whose stage "
        f"'resampler' or 'finetune' is finished{or_names(path)}; run: panovlm train RECIPE"
    )


def is_ours(folder: Path) -> bool:
    """Return whether a folder holds a PanoVLM model that answers."""
    config = folder / "config.json"
    if is_trained_only(folder):
        return True
    if not config.is_file():
        return False
    architectures: list[str] = json.loads(config.read_text()).get("architectures") or []
    return PanoVLMForConditionalGeneration.__name__ in architectures


def load_model(
    path: Path | str, dtype: Dtype = "auto"
) -> tuple[PanoVLMForConditionalGeneration, PanoVLMProcessor]:
    """Load a model and its processor from a folder, a run or a pretrained name, ready to answer.

    Nothing in the folder is executed: no code, whatever its files say, and no pickle.

    Args:
        path: As in `model_folder`.
        dtype: Arithmetic of the language model; `auto` is bf16 where the device is faster at it.
    """
    folder = model_folder(path)
    model, processor = load_trained_only(folder) if is_trained_only(folder) else _load(folder)
    if uses_bf16(dtype):
        parts = (model.model.language_model, model.lm_head)
        cast_parameters(chain(*(part.parameters() for part in parts)), torch.bfloat16)
    use_decoding_attention(model.model.language_model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return model.to(device).eval(), processor


def _load(folder: Path) -> tuple[PanoVLMForConditionalGeneration, PanoVLMProcessor]:
    """Load a whole model from its folder."""
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    model = AutoModelForImageTextToText.from_pretrained(
        folder, trust_remote_code=False, use_safetensors=True
    )
    return model, processor
