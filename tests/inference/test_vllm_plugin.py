"""vLLM's plug-in: found by its entry point, and names what an exported folder names."""

import json
import re
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from panovlm.exporting.export import MODEL_CLASSES
from panovlm.inference import vllm_plugin
from panovlm.model.modeling import PanoVLMForConditionalGeneration, PanoVLMModel
from panovlm.model.processing import PanoVLMProcessor

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


class Registry:
    """Stands for vLLM's: remembers what was registered, and how often."""

    def __init__(self) -> None:
        self.models: list[tuple[str, str]] = []

    def get_supported_archs(self) -> set[str]:
        return {architecture for architecture, _ in self.models}

    def register_model(self, architecture: str, model: str) -> None:
        self.models.append((architecture, model))


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    vllm, registry = ModuleType("vllm"), Registry()
    vllm.ModelRegistry = registry  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    ignored = PanoVLMModel._keys_to_ignore_on_load_unexpected
    monkeypatch.setattr(PanoVLMModel, "_keys_to_ignore_on_load_unexpected", ignored)
    return registry


def test_the_entry_point_registers_the_architecture_of_saved_models_once(
    registry: Registry, generator: PanoVLMForConditionalGeneration, tmp_path: Path
) -> None:
    ((name, target),) = PROJECT["entry-points"]["vllm.general_plugins"].items()
    register = EntryPoint(name, target, "vllm.general_plugins").load()
    register()
    register()
    generator.save_pretrained(tmp_path)
    (architecture,) = json.loads((tmp_path / "config.json").read_text())["architectures"]
    assert registry.models == [(architecture, vllm_plugin.BACKEND)]


def test_no_weight_of_a_checkpoint_is_among_those_that_vllm_leaves_out(
    registry: Registry, generator: PanoVLMForConditionalGeneration
) -> None:
    vllm_plugin.register()
    patterns = PanoVLMModel._keys_to_ignore_on_load_unexpected
    assert patterns  # stage 1's projector may still be there
    names = list(generator.state_dict())
    assert "lm_head.weight" in names
    assert not [name for name in names for pattern in patterns if re.search(pattern, name)]


def test_the_exported_configuration_names_the_base_model_for_vllm() -> None:
    assert MODEL_CLASSES["AutoModel"].endswith(PanoVLMModel.__name__)
    assert PanoVLMModel.is_backend_compatible()


def test_what_vllm_looks_for_is_where_it_looks(
    generator: PanoVLMForConditionalGeneration, processor: PanoVLMProcessor
) -> None:
    base = generator.model
    assert base.get_encoder(modality="image") is base.vision_encoder
    assert base.get_decoder() is base.language_model
    assert base.config != base.config.get_text_config()
    ids = processor.tokenizer.encode(processor.image_token, add_special_tokens=False)
    assert ids == [base.config.image_token_id]
    replaced = processor.tokenizer.encode(processor.expand_image(), add_special_tokens=False)
    assert max(set(replaced), key=replaced.count) == base.config.image_token_id
    assert replaced.count(base.config.image_token_id) == base.config.num_image_tokens
