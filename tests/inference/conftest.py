"""Assistants on tiny models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from panovlm.inference.assistant import Assistant
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor
from panovlm.stages import STAGES
from panovlm.training.build import build_model, build_processor
from panovlm.training.sections import ModelSection


@pytest.fixture
def assistant(generator: PanoVLMForConditionalGeneration, processor: PanoVLMProcessor) -> Assistant:
    return Assistant(generator, processor)


@pytest.fixture
def assistant_of(
    model_section: ModelSection, language_model_folder: Callable[..., Path]
) -> Callable[..., Assistant]:
    """Makes an assistant with a language model of a kind."""

    def make(kind: str, **changes: Any) -> Assistant:
        folder = str(language_model_folder(kind=kind))
        section = model_section.model_copy(update={"language_model": folder, **changes})
        torch.manual_seed(0)
        model = build_model(section, STAGES["finetune"]).eval()
        return Assistant(model, build_processor(section))

    return make


@pytest.fixture
def pictures(scenes_file: Path) -> list[Path]:
    return sorted(scenes_file.parent.glob("*.png"))
