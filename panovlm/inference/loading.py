"""Find and load a trained model."""

import json
from itertools import chain
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from panovlm.errors import PanoVLMError
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor
from panovlm.runtime.arithmetic import Dtype, cast_parameters, uses_bf16
from panovlm.stages import STAGES


def model_folder(path: Path) -> Path:
    """Return the folder of a model: the path itself, or the last answering stage of a run.

    Raises:
        PanoVLMError: If there is no model that answers.
    """
    for folder in (path, *(path / name for name in reversed(STAGES))):
        if is_ours(folder):
            return folder
    raise PanoVLMError(
        f"found no answering model in {path}, expected a model's folder or a run whose stage "
        f"'resampler' or 'finetune' is finished; run: panovlm train RECIPE"
    )


def is_ours(folder: Path) -> bool:
    """Return whether a folder holds a PanoVLM model that answers."""
    config = folder / "config.json"
    if not config.is_file():
        return False
    architectures: list[str] = json.loads(config.read_text()).get("architectures") or []
    return PanoVLMForConditionalGeneration.__name__ in architectures


def load_model(
    path: Path, dtype: Dtype = "auto"
) -> tuple[PanoVLMForConditionalGeneration, PanoVLMProcessor]:
    """Load a model and its processor from a folder or a run, ready to answer.

    Nothing in the folder is executed: no code, whatever its files say, and no pickle.

    Args:
        path: The folder.
        dtype: Arithmetic of the language model; `auto` is bf16 where the device is faster at it.
    """
    folder = model_folder(path)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    model = AutoModelForImageTextToText.from_pretrained(
        folder, trust_remote_code=False, use_safetensors=True
    )
    if uses_bf16(dtype):
        parts = (model.model.language_model, model.lm_head)
        cast_parameters(chain(*(part.parameters() for part in parts)), torch.bfloat16)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return model.to(device).eval(), processor
