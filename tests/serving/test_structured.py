"""Answers are JSON of the schema that was asked for, alone and beside others."""

import json
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import pytest
from asking import LIMITS, PATH, Ask
from fastapi.testclient import TestClient

from panovlm.inference.assistant import Assistant
from panovlm.serving.app import create_app

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


@needs_library
@pytest.mark.parametrize("schema", [{"type": "no such"}, {"$ref": "http://127.0.0.1/x"}, False])
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
