"""A model with random weights for the benchmarks of the server."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from panovlm.stages import STAGES
from panovlm.training.build import build_model, build_processor
from panovlm.training.sections import ModelSection, ResamplerSection, ViewsSection

ENCODERS: dict[str, dict[str, int]] = {
    "small": {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 6,
              "num_attention_heads": 3, "image_size": 224, "patch_size": 16},
    "tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 2, "image_size": 32, "patch_size": 8},
}  # fmt: skip
LANGUAGE_MODELS: dict[str, dict[str, int]] = {
    "small": {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6,
              "num_attention_heads": 4},
    "tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 2},
}  # fmt: skip
SECTIONS: dict[str, dict[str, Any]] = {
    "small": {"resampler": ResamplerSection(latent_size=256)},
    "tiny": {
        "views": ViewsSection(num_views=4, fov_deg=120.0, view_size=32),
        "resampler": ResamplerSection(
            num_layers=1, latent_size=16, token_rows=2, token_columns=4, vicreg_size=24
        ),
    },
}
"""The small one has the ring and the tokens that recipes have by default."""
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SPECIAL = {"vocab_size": 300, "eos_token_id": 2, "bos_token_id": None, "pad_token_id": 0}


def write_model(folder: Path, size: str) -> Path:
    """Write a model and its processor; return their folder."""
    section = ModelSection(
        vision_encoder=str(_encoder(folder / "encoder", size)),
        language_model=str(_language_model(folder / "language_model", size)),
        **SECTIONS[size],
    )
    model = build_model(section, STAGES["finetune"])
    model.save_pretrained(folder / "model")
    build_processor(section).save_pretrained(folder / "model")
    return folder / "model"


def _encoder(folder: Path, size: str) -> Path:
    torch.manual_seed(0)
    config = SiglipVisionConfig(**ENCODERS[size], vision_use_head=False)
    SiglipVisionModel(config).save_pretrained(folder)
    statistics = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(statistics))
    return folder


def _language_model(folder: Path, size: str) -> Path:
    config = LlamaConfig(**LANGUAGE_MODELS[size], **SPECIAL, max_position_embeddings=2048)
    LlamaForCausalLM(config).save_pretrained(folder)
    _byte_tokenizer().save_pretrained(folder)
    return folder


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte, and ChatML's special tokens."""
    letters = [*SPECIAL_TOKENS, *sorted(ByteLevel.alphabet())]
    tokenizer = Tokenizer(BPE(vocab={token: i for i, token in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = ByteLevelDecoder()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>"],
    )
