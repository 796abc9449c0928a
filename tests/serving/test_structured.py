"""Answers are JSON of the schema that was asked for, alone and beside others."""

import json
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from asking import LIMITS, PATH, Ask, TestClient, listening
from transformers import LlamaConfig, LlamaForCausalLM

from panovlm.inference.assistant import Assistant
from panovlm.scenes.scene_language_model import scene_tokenizer
from panovlm.serving.app import create_app
from panovlm.stages import STAGES
from panovlm.training.build import build_model, build_processor
from panovlm.training.sections import ModelSection

needs_library = pytest.mark.skipif(find_spec("llguidance") is None, reason="needs llguidance")
SCHEMA = {
    "type": "object",
    "properties": {
        "yaw": {"enum": [-90, 0, 90]},
        "what": {"enum": ["door", "window"]},
        "seen": {"type": "boolean"},
    },
    "required": ["yaw", "what", "seen"],
    "additionalProperties": False,
}


def format_of(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


@needs_library
def test_answers_are_json_of_the_schema_beside_others_that_are_not(
    assistant: Assistant, body: Ask
) -> None:
    bodies = [
        body(max_tokens=64, response_format=format_of(SCHEMA)),
        body(max_tokens=64, response_format=format_of(SCHEMA), temperature=1.0, seed=3),
        body(max_tokens=20),
    ]
    with TestClient(create_app(assistant, limits=LIMITS)) as client, ThreadPoolExecutor(3) as pool:

        def complete(asked: dict[str, Any]) -> dict[str, Any]:
            return client.post(PATH, json=asked).json()["choices"][0]

        free = complete(bodies[2])
        first, second, third = pool.map(complete, bodies)
        pieces = client.post(PATH, json=bodies[0] | {"stream": True}).text
    assert third == free
    for choice in (first, second):
        parsed = json.loads(choice["message"]["content"])
        assert set(parsed) == {"yaw", "what", "seen"}
        assert parsed["yaw"] in (-90, 0, 90)
        assert choice["finish_reason"] == "stop"
    events = [line.removeprefix("data: ") for line in pieces.split("\n\n")[:-2]]
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
    assert "".join(d.get("content", "") for d in deltas) == first["message"]["content"]


@needs_library
def test_an_object_begins_as_one_and_any_text_is_free(client: TestClient, body: Ask) -> None:
    reply = client.post(PATH, json=body(response_format={"type": "json_object"}))
    assert reply.json()["choices"][0]["message"]["content"].startswith("{")
    free, text = (
        client.post(PATH, json=body(**more)).json()["choices"]
        for more in ({}, {"response_format": {"type": "text"}})
    )
    assert free == text


@pytest.fixture
def demo_assistant(model_section: ModelSection, tmp_path: Path) -> Assistant:
    """The demo's tokenizer and kind of language model, with random weights."""
    tokenizer = scene_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    end = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    config = LlamaConfig(**sizes, **end, num_attention_heads=2, vocab_size=len(tokenizer))
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    section = model_section.model_copy(update={"language_model": str(tmp_path)})
    return Assistant(build_model(section, STAGES["finetune"]).eval(), build_processor(section))


@needs_library
def test_the_demos_tokenizer_writes_json_over_http(demo_assistant: Assistant, body: Ask) -> None:
    formats = [format_of(SCHEMA), format_of({"type": "array", "maxItems": 1, "items": SCHEMA})]
    with listening(create_app(demo_assistant, limits=LIMITS)) as (address, _):
        for form in formats:
            for heat in ({}, {"temperature": 1.5, "seed": 1}, {"temperature": 2.0, "seed": 2}):
                asked = body(max_tokens=64, response_format=form, **heat)
                (choice,) = httpx2.post(address + PATH, json=asked, timeout=30).json()["choices"]
                assert choice["finish_reason"] == "stop"
                found = json.loads(choice["message"]["content"])
                for each in found if isinstance(found, list) else [found]:
                    assert each["what"] in ("door", "window")
        asked = body(response_format={"type": "json_object"})
        (choice,) = httpx2.post(address + PATH, json=asked, timeout=30).json()["choices"]
        assert choice["message"]["content"].startswith("{")


@needs_library
@pytest.mark.parametrize(
    "schema", [{"type": "no such"}, {"$ref": "http://127.0.0.1/x"}, False, {"uniqueItems": True}]
)
def test_unsupported_schemas_are_refused(client: TestClient, body: Ask, schema: Any) -> None:
    reply = client.post(PATH, json=body(response_format=format_of(schema)))
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "response_format"
    assert "found a JSON schema" in reply.json()["error"]["message"]


def test_without_the_library_json_is_refused_by_name(
    client: TestClient, body: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "llguidance.hf", None)
    reply = client.post(PATH, json=body(response_format={"type": "json_object"}))
    assert reply.status_code == 400
    assert "panovlm[structured]" in reply.json()["error"]["message"]
