"""Conversion of SmolLM2's GGUF file and its chat template, on a tiny model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_pip import Serve
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from panovlm.backbones import download

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
HIDDEN, HEADS, HEAD_SIZE, INNER = 32, 2, 16, 48


def write_gguf(path: Path, layers: dict[str, np.ndarray]) -> None:
    """Write a one-block Llama with a byte vocabulary, as the published file is laid out."""
    gguf = pytest.importorskip("gguf")
    tokens = [*SPECIAL_TOKENS, *bytes_to_unicode().values(), "he", "ĊĊ"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(HEAD_SIZE)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL_TOKENS) + [1] * (len(tokens) - len(SPECIAL_TOKENS)))
    writer.add_token_merges(["h e", "Ċ Ċ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    layers["token_embd"] = np.random.default_rng(0).normal(size=(len(tokens), HIDDEN))
    for name, weights in layers.items():
        writer.add_tensor(f"{name}.weight", weights.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_layers() -> dict[str, np.ndarray]:
    """Random weights of one Llama block under their GGUF names, [out, in]."""
    random = np.random.default_rng(1)
    square, wide = (HIDDEN, HIDDEN), (INNER, HIDDEN)
    shapes = {"ffn_gate": wide, "ffn_up": wide, "ffn_down": (HIDDEN, INNER)}
    shapes |= {f"attn_{part}": square for part in ("q", "k", "v", "output")}
    layers = {f"blk.0.{name}": random.normal(size=shape) for name, shape in shapes.items()}
    norms = ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm")
    return layers | {name: np.ones(HIDDEN) for name in norms}


@pytest.fixture
def smollm2(tmp_path: Path, serve: Serve) -> Path:
    """The converted folder of a tiny model in place of SmolLM2."""
    write_gguf(tmp_path / "weights.gguf", llama_layers())
    serve("SMOLLM2", tmp_path / "weights.gguf")
    return download.smollm2()


def test_smollm2_weights_are_unpacked_bfloat16(smollm2: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(smollm2)
    down = torch.from_numpy(llama_layers()["blk.0.ffn_down"]).float().bfloat16()
    assert model.dtype == torch.bfloat16
    assert torch.equal(model.model.layers[0].mlp.down_proj.weight, down)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert "quantization_config" not in json.loads((smollm2 / "config.json").read_text())


def test_smollm2_tokenizer_makes_each_digit_a_token(smollm2: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    assert tokenizer.tokenize("he\n\n36") == ["he", "ĊĊ", "3", "6"]
    assert (tokenizer.eos_token, tokenizer.model_max_length) == ("<|im_end|>", 64)


CONVERSATION = [
    {"role": "user", "content": "where?"},
    {"role": "assistant", "content": "left"},
    {"role": "user", "content": "and he?"},
    {"role": "assistant", "content": "behind"},
]


def test_chat_template_is_chatml_without_a_system_prompt(smollm2: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    text = tokenizer.apply_chat_template(
        CONVERSATION[:3], tokenize=False, add_generation_prompt=True
    )
    assert text == (
        "<|im_start|>user\nwhere?<|im_end|>\n<|im_start|>assistant\nleft<|im_end|>\n"
        "<|im_start|>user\nand he?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_assistant_mask_covers_each_answer_and_its_end_token(smollm2: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    encoded = tokenizer.apply_chat_template(
        CONVERSATION, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    answered = [
        token
        for token, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
        if mask
    ]
    assert tokenizer.decode(answered) == "left<|im_end|>behind<|im_end|>"
