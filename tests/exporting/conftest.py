"""A stage with adapters as training leaves it, without the training."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor
from panovlm.runtime.cached_folders import sha256
from panovlm.stages import STAGES
from panovlm.training.adapters import write_adapters
from panovlm.training.outputs import STAGE_FACTS
from panovlm.training.sections import LoraSection
from panovlm.training.trainable import apply_stage


@pytest.fixture
def base(
    generator: PanoVLMForConditionalGeneration, processor: PanoVLMProcessor, tmp_path: Path
) -> Path:
    """The stage before, on disk."""
    folder = tmp_path / "resampler"
    generator.save_pretrained(folder)
    processor.save_pretrained(folder)
    names = {"vision_encoder": "/somewhere/siglip-tiny", "language_model": "llama-tiny"}
    (folder / STAGE_FACTS).write_text(json.dumps({"model": names}))
    return folder


@pytest.fixture
def adapter(
    base: Path, generator: PanoVLMForConditionalGeneration, tmp_path: Path
) -> Callable[..., tuple[Path, PanoVLMForConditionalGeneration]]:
    """Writes a folder of adapters of any variant; returns it and the model they were trained in."""

    def write(**lora: Any) -> tuple[Path, PanoVLMForConditionalGeneration]:
        model, folder = copy.deepcopy(generator), tmp_path / "adapter"
        adapters = apply_stage(model, STAGES["finetune"], LoraSection(rank=4, alpha=8, **lora))
        assert adapters is not None
        random = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    noise = torch.randn(parameter.shape, generator=random)
                    parameter += 0.05 * noise
        origin = {"language_model": "llama-tiny", "base": sha256(base / STAGE_FACTS)}
        write_adapters(adapters, model, folder, origin)
        return folder, model.eval()

    return write
