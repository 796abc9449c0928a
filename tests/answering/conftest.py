"""An assistant on the tiny model."""

from pathlib import Path

import pytest

from panovlm.answering.assistant import Assistant
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor


@pytest.fixture
def assistant(generator: PanoVLMForConditionalGeneration, processor: PanoVLMProcessor) -> Assistant:
    return Assistant(generator, processor)


@pytest.fixture
def pictures(scenes_file: Path) -> list[Path]:
    return sorted(scenes_file.parent.glob("*.png"))
