"""Tiny backbones, models and drawn panoramas, shared by all tests and built once."""

import copy
import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    DINOv3ConvNextConfig,
    DINOv3ViTConfig,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    Siglip2VisionConfig,
    SiglipVisionConfig,
    SmolLM3Config,
    TimmWrapperConfig,
)

import panovlm  # noqa: F401  # registers the Auto classes
from panovlm.commands import app as cli
from panovlm.model.efficientnet_lite import EfficientNetLiteConfig
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.nanodet_configuration import NanoDetConfig
from panovlm.model.processing import PanoVLMProcessor
from panovlm.scenes.language import ask_all
from panovlm.scenes.render import render
from panovlm.scenes.world import sample_scene
from panovlm.stages import STAGES, Objective
from panovlm.training.build import build_model, build_processor
from panovlm.training.sections import ModelSection, ResamplerSection, ViewsSection

torch.set_num_threads(1)

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VIEW_SIZE = 32
FRESH = ("model.resampler.", "model.projection.", "vicreg_projector.")
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TINY_VISION = {**TINY, "intermediate_size": 64, "image_size": VIEW_SIZE, "patch_size": 8}
NUM_SCENES = 3

WINDOW = 24
"""Tokens that sliding layers see: less than a conversation with its picture."""
GROUPED = {"num_key_value_heads": 1}
LANGUAGE_MODELS: dict[str, tuple[Callable[..., PreTrainedConfig], dict[str, Any]]] = {
    "llama": (LlamaConfig, {}),
    "llama_wide_heads": (LlamaConfig, {"head_dim": 64}),
    "qwen2": (Qwen2Config, GROUPED),
    "qwen3": (Qwen3Config, {**GROUPED, "head_dim": 16}),
    "qwen3_sliding": (
        Qwen3Config,
        {**GROUPED, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    ),
    "smollm3": (SmolLM3Config, {**GROUPED, "no_rope_layer_interval": 2}),
    "gemma3_text": (
        Gemma3TextConfig,
        {**GROUPED, "head_dim": 16, "sliding_window": WINDOW, "sliding_window_pattern": 2},
    ),
    "gemma2": (
        Gemma2Config,
        {**GROUPED, "attn_logit_softcapping": None, "final_logit_softcapping": 1.0},
    ),
    "phi3": (Phi3Config, {**GROUPED, "sliding_window": WINDOW}),
    "mistral": (MistralConfig, {**GROUPED, "sliding_window": WINDOW}),
}
"""What builds each type of language model, and what is its own."""

EncoderFolder = Callable[[str], Path]
LanguageModelFolder = Callable[..., Path]
Cli = Callable[..., tuple[int, str, str]]


def encoder_config(kind: str) -> PreTrainedConfig:
    """A tiny configuration of each type of encoder."""
    configs: dict[str, Callable[[], PreTrainedConfig]] = {
        "siglip": lambda: SiglipVisionConfig(**TINY_VISION, vision_use_head=False),
        "siglip2": lambda: Siglip2VisionConfig(
            **TINY | {"intermediate_size": 64, "patch_size": 8, "num_patches": 16},
            vision_use_head=False,
        ),
        "clip": lambda: CLIPVisionConfig(**TINY_VISION),
        "dinov2": lambda: Dinov2Config(**TINY, image_size=VIEW_SIZE, patch_size=8),
        "dinov2_with_registers": lambda: Dinov2WithRegistersConfig(
            **TINY, image_size=VIEW_SIZE, patch_size=8, num_register_tokens=4
        ),
        "dinov3_vit": lambda: DINOv3ViTConfig(**TINY_VISION, num_register_tokens=4),
        "dinov3_convnext": lambda: DINOv3ConvNextConfig(
            hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], image_size=VIEW_SIZE
        ),
        "timm_wrapper": lambda: TimmWrapperConfig(
            architecture="vit_tiny_patch16_224", model_args={"img_size": 64, "depth": 1}
        ),
        "efficientnet_lite": lambda: EfficientNetLiteConfig(image_size=VIEW_SIZE, hidden_size=32),
        "nanodet": lambda: NanoDetConfig(
            image_size=VIEW_SIZE, stem_channels=4, neck_channels=9, num_classes=5
        ),
    }
    return configs[kind]()


@pytest.fixture(autouse=True)
def _whole_floats() -> None:
    """Undo for the next test what training sets for its process: tiny numbers flushed to 0."""
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> EncoderFolder:
    """Return the folder of a tiny encoder of any kind, with its pixel statistics."""

    @cache
    def save(kind: str) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        torch.manual_seed(0)
        AutoModel.from_config(encoder_config(kind)).save_pretrained(folder)
        statistics = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
        (folder / "preprocessor_config.json").write_text(json.dumps(statistics))
        return folder

    return save


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte, and ChatML's special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(SPECIAL_TOKENS + letters)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>"],
    )


@pytest.fixture(scope="session")
def language_model_folder(tmp_path_factory: pytest.TempPathFactory) -> LanguageModelFolder:
    """Return the folder of a tiny language model, Llama or another, with a byte-level tokenizer."""

    @cache
    def save(
        *,
        kind: str = "llama",
        tied: bool = True,
        vocab_size: int = 300,
        dtype: torch.dtype = torch.float32,
    ) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        torch.manual_seed(1)
        build, own = LANGUAGE_MODELS[kind]
        config = build(
            **TINY | own,
            intermediate_size=64,
            vocab_size=vocab_size,
            max_position_embeddings=1024,
            tie_word_embeddings=tied,
            initializer_range=0.2,  # far from uniform answers, so that differences show
            eos_token_id=2,
            bos_token_id=None,
            pad_token_id=0,
        )
        AutoModelForCausalLM.from_config(config).to(dtype).save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def model_section(
    encoder_folder: EncoderFolder, language_model_folder: LanguageModelFolder
) -> ModelSection:
    """A recipe's model section: four views of 32 px, 2 x 4 tokens each, one shared column."""
    return ModelSection(
        vision_encoder=str(encoder_folder("siglip")),
        language_model=str(language_model_folder()),
        views=ViewsSection(num_views=4, fov_deg=120.0, view_size=VIEW_SIZE),
        resampler=ResamplerSection(
            num_layers=1, latent_size=16, token_rows=2, token_columns=4, vicreg_size=24
        ),
    )


@pytest.fixture(scope="session")
def processor(model_section: ModelSection) -> PanoVLMProcessor:
    """The processor of the tiny models; tests must not change it."""
    return build_processor(model_section)


@pytest.fixture(scope="session")
def _built(model_section: ModelSection) -> dict[Objective, PreTrainedModel]:
    built: dict[Objective, PreTrainedModel] = {}
    for stage in STAGES.values():
        if stage.objective not in built:
            model = build_model(model_section, stage).eval()
            torch.manual_seed(2)  # its answers tell pictures apart
            fresh = build_model(model_section, stage, pretrained=False).state_dict()
            fresh.pop("model.projection.scale", None)  # that of the language model's words stays
            model.load_state_dict(
                {k: v for k, v in fresh.items() if k.startswith(FRESH)}, strict=False
            )
            built[stage.objective] = model
    return built


@pytest.fixture
def generator(_built: dict[Objective, PreTrainedModel]) -> PanoVLMForConditionalGeneration:
    """A fresh copy of the tiny answering model, in eval mode."""
    return copy.deepcopy(_built[Objective.NEXT_TOKEN])


@pytest.fixture
def model_of_stage(_built: dict[Objective, PreTrainedModel]) -> Callable[[str], PreTrainedModel]:
    """Return a fresh copy of the tiny model that a stage trains."""
    return lambda name: copy.deepcopy(_built[STAGES[name].objective])


@pytest.fixture
def real_texts() -> Path:
    """A folder of texts about real panoramas, named by PANOVLM_PANORAMAS; most places have none."""
    folder = Path(os.environ.get("PANOVLM_PANORAMAS", "/nowhere")) / "text"
    if not folder.is_dir():
        pytest.skip("PANOVLM_PANORAMAS names no folder of real panoramas")
    return folder


@pytest.fixture
def panorama() -> Image.Image:
    """A panorama of smooth colours."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((128, 64), Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def scenes_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of records on drawn scenes, their pictures beside it."""
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    lines = []
    for number in range(NUM_SCENES):
        scene = sample_scene(rng)
        Image.fromarray(render(scene, height=64)).save(folder / f"{number}.png")
        turned = [scene.yaw_rotated(45 * step) for step in range(8)]
        for question in ask_all(scene, rng)[:4]:
            responses = [question.answer(each) for each in turned]
            messages = [
                {"role": "user", "content": f"<image>\n{question.text}"},
                {"role": "assistant", "content": responses[0]},
            ]
            record = {"image": f"{number}.png", "messages": messages, "kind": question.kind}
            lines.append(json.dumps({**record, "rolled_responses": responses}))
    file = folder / "records.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture
def saved_model(
    generator: PanoVLMForConditionalGeneration,
    processor: PanoVLMProcessor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The folder of a tiny model, with a cache of its own beside it."""
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path / "cache"))
    for part in (generator, processor):
        part.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs the command line in this process; gives exit code, output and errors."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["panovlm", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def recipe_file(tmp_path: Path, model_section: ModelSection, scenes_file: Path) -> Path:
    """A recipe of one step a stage."""
    stage = {"data": str(scenes_file), "steps": 1, "batch_size": 2}
    recipe = {
        "output": str(tmp_path / "run"),
        "model": model_section.model_dump(mode="json"),
        "stages": {name: stage for name in ("vision", "resampler", "finetune")},
        "dtype": "fp32",
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    return file
