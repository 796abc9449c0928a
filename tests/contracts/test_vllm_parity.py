"""vLLM and transformers agree on the same panoramas. Runs where vLLM is: `make vllm`."""

import copy
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image

from panovlm.evaluation.asking import EvaluationOptions
from panovlm.evaluation.run import evaluate
from panovlm.exporting.export import export
from panovlm.inference.guests import guest_of
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor
from panovlm.stages import STAGES
from panovlm.training.build import build_model, build_processor
from panovlm.training.sections import ModelSection

vllm = pytest.importorskip("vllm")

NUM_TOKENS = 12
START_S = 300
"""Longest start of vLLM's server."""
LARGEST_DIFFERENCE = 1e-3
"""Of log-probabilities, in float32."""
QUESTIONS = ["What is behind me?", "How many red boxes are there?", "Left?"]
Generated = tuple[list[int], list[float]]


@pytest.fixture(params=["plain", "adapters"])
def model(
    model_section: ModelSection,
    language_model_folder: Callable[..., Path],
    request: pytest.FixtureRequest,
) -> tuple[PanoVLMForConditionalGeneration, PanoVLMProcessor]:
    """With heads as wide as vLLM's kernels want them, and an LM head of its own."""
    folder = language_model_folder(kind="llama_wide_heads", tied=False)
    section = model_section.model_copy(update={"language_model": str(folder)})
    torch.manual_seed(2)
    built = build_model(section, STAGES["finetune"])
    if request.param == "adapters":
        lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
        built.model.language_model = get_peft_model(built.model.language_model, lora)
    return built.eval(), build_processor(section)


@pytest.fixture
def exported(
    model: tuple[PanoVLMForConditionalGeneration, PanoVLMProcessor], tmp_path: Path
) -> Path:
    merged = copy.deepcopy(model[0])
    if isinstance(merged.model.language_model, PeftModel):
        merged.model.language_model = merged.model.language_model.merge_and_unload()
    for part in (merged, model[1]):
        part.save_pretrained(tmp_path / "model")
    export(tmp_path / "model", tmp_path / "exported")
    return tmp_path / "exported"


def conversation(question: str, picture: Image.Image | None) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": question}]
    if picture is not None:
        parts.insert(0, {"type": "image_pil", "image_pil": picture})
    return [{"role": "user", "content": parts}]


@torch.inference_mode()
def generated_by_transformers(
    model: PanoVLMForConditionalGeneration,
    processor: PanoVLMProcessor,
    messages: list[dict[str, Any]],
) -> Generated:
    """Greedy tokens and their log-probabilities."""
    renamed = [
        {"type": "image", "image": part["image_pil"]} if "image_pil" in part else part
        for part in messages[0]["content"]
    ]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": renamed}],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
    )
    out = model.generate(
        **inputs,
        max_new_tokens=NUM_TOKENS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    generated = out.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    steps = zip(generated, out.logits, strict=True)
    return generated, [float(scores[0].log_softmax(-1)[token]) for token, scores in steps]


def generated_by_vllm(
    folder: Path, conversations: list[list[dict[str, Any]]], unsaid: list[int]
) -> list[Generated]:
    engine = vllm.LLM(
        str(folder),
        dtype="float32",
        max_model_len=512,
        max_num_seqs=4,
        kv_cache_memory_bytes=64 << 20,
        enforce_eager=True,
    )
    sampling = vllm.SamplingParams(
        temperature=0.0,
        max_tokens=NUM_TOKENS,
        logprobs=1,
        logit_bias=dict.fromkeys(unsaid, -100.0),  # vLLM does not read suppress_tokens
    )
    results = []
    for output in engine.chat(conversations, sampling):
        generated = output.outputs[0]
        tokens = list(generated.token_ids)
        steps = zip(tokens, generated.logprobs, strict=True)
        results.append((tokens, [step[token].logprob for token, step in steps]))
    return results


def test_vllm_says_what_transformers_says(
    model: tuple[PanoVLMForConditionalGeneration, PanoVLMProcessor],
    exported: Path,
    scenes_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    pictures = [Image.open(file) for file in sorted(scenes_file.parent.glob("*.png"))]
    conversations = [
        conversation(question, picture)
        for question, picture in [*zip(QUESTIONS, pictures, strict=True), (QUESTIONS[0], None)]
    ]
    expected = [generated_by_transformers(*model, messages) for messages in conversations]
    unsaid = model[0].generation_config.suppress_tokens
    # In a process of its own: an engine leaves classes behind that transformers then builds.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        found = pool.submit(generated_by_vllm, exported, conversations, unsaid).result()
    assert [tokens for tokens, _ in found] == [tokens for tokens, _ in expected]
    assert len({tuple(tokens) for tokens, _ in found}) > 2  # the pictures were seen
    pairs = [
        (one, other)
        for (_, ones), (_, others) in zip(found, expected, strict=True)
        for one, other in zip(ones, others, strict=True)
    ]
    apart = max(abs(one - other) for one, other in pairs)
    with capsys.disabled():
        report = {"tokens": len(pairs), "largest log-probability difference": apart}
        print(f"\nvLLM {vllm.__version__}: {json.dumps(report)}")
    assert apart < LARGEST_DIFFERENCE


@pytest.fixture
def served(exported: Path) -> Iterator[str]:
    """The address of vLLM's own server of the model."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(exported), "--served-model-name", "tiny", "--dtype", "float32"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    command += ["--max-model-len", "512", "--max-num-seqs", "4"]
    process = subprocess.Popen([*command, "--kv-cache-memory-bytes", str(64 << 20)])
    try:
        end = time.monotonic() + START_S
        while not is_healthy(f"http://127.0.0.1:{port}"):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize("model", ["plain"], indirect=True)
def test_a_model_behind_vllm_stands_in_the_evaluation(
    served: str, scenes_file: Path, tmp_path: Path
) -> None:
    guest = guest_of(f"openai:{served}#tiny", at_once=4)
    options = EvaluationOptions(show="equirectangular", max_tokens=6)
    report = evaluate(guest, scenes_file, tmp_path / "r.json", options=options)
    assert report["usage"]["refused"] == 0
    assert report["usage"]["prompt_tokens"] > report["usage"]["completion_tokens"] > 0
    rows = json.loads((tmp_path / "r.json").read_text())["predictions"]
    assert len({row["answer"] for row in rows}) > 1  # the pictures were seen
