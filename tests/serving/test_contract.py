"""Responses are what OpenAI's clients expect, whole and streamed, alone and in a crowd."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asking import LIMITS, PATH, Ask, TestClient, data_url

from panovlm.inference.answers import SamplingParams
from panovlm.inference.assistant import Assistant
from panovlm.serving.app import create_app
from panovlm.serving.metrics import HISTOGRAMS


def streamed(text: str) -> tuple[str, list[dict[str, Any]]]:
    """Join the pieces of a stream; return its chunks too."""
    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    pieces = [c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]]
    return "".join(pieces), chunks


def test_a_completion_has_openais_shape_and_the_plain_answer(
    client: TestClient, body: Ask, assistant: Assistant, scenes_file: Path
) -> None:
    reply = client.post(PATH, json=body(), headers={"x-request-id": "mine-1"})
    completion = reply.json()
    assert reply.status_code == 200
    assert reply.headers["x-request-id"] == "mine-1"
    assert completion["object"] == "chat.completion"
    assert completion["id"] == "chatcmpl-mine-1"
    assert completion["choices"][0]["finish_reason"] in ("stop", "length")
    usage = completion["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    panorama = assistant.open(scenes_file.parent / "0.png")
    alone = assistant.ask(panorama, "What is behind me?", SamplingParams(max_tokens=12))
    assert completion["choices"][0]["message"] == {
        "role": "assistant",
        "content": alone,
        "refusal": None,
    }


def test_a_stream_has_the_content_of_the_whole_answer(client: TestClient, body: Ask) -> None:
    whole = client.post(PATH, json=body(max_tokens=40)).json()
    options = {"stream": True, "stream_options": {"include_usage": True}}
    reply = client.post(PATH, json=body(max_tokens=40, **options))
    assert reply.headers["content-type"].startswith("text/event-stream")
    text, chunks = streamed(reply.text)
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert chunks[-1]["usage"] == whole["usage"]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


def test_seed_stop_and_length_are_respected(client: TestClient, body: Ask) -> None:
    def complete(**more: Any) -> dict[str, Any]:
        return client.post(PATH, json=body(**more)).json()["choices"][0]

    sampled = [complete(temperature=1.0, seed=seed)["message"]["content"] for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]
    whole = complete()["message"]["content"]
    stop = whole[3:5]
    cut = complete(stop=[stop, "never there"])
    assert cut["message"]["content"] == whole[: whole.index(stop)].rstrip()
    assert cut["finish_reason"] == "stop"
    assert complete(max_completion_tokens=2, max_tokens=None)["finish_reason"] == "length"


@pytest.mark.parametrize(
    "said", [{}, {"content": None}, {"content": ""}, {"content": [], "refusal": None}]
)
def test_assistants_messages_without_content_are_taken_as_empty(
    client: TestClient, body: Ask, said: dict[str, Any]
) -> None:
    asked = body()
    left = {"role": "user", "content": "And left?"}
    asked["messages"] += [{"role": "assistant", **said}, left]
    reply = client.post(PATH, json=asked)
    assert reply.status_code == 200
    asked["messages"][1] = {"role": "assistant", "content": ""}
    plain = client.post(PATH, json=asked).json()
    assert reply.json()["choices"] == plain["choices"]


def test_what_clients_send_by_default_changes_nothing(client: TestClient, body: Ask) -> None:
    plain = client.post(PATH, json=body()).json()["choices"]
    absent = ("temperature", "top_p", "n", "stop", "logit_bias", "tools", "user", "top_k", "min_p")
    neutral = {"stop": "", "tools": [], "logit_bias": {}, "top_k": -1, "store": False, "n": 1}
    neutral |= {"min_p": 0.0, "repetition_penalty": 1.0, "frequency_penalty": 0.0}
    for more in (dict.fromkeys(absent), neutral, {"top_k": 40, "min_p": 0.05}):
        reply = client.post(PATH, json=body(**more))
        assert reply.status_code == 200, reply.text
        assert reply.json()["choices"] == plain


def test_the_likeliest_token_alone_is_sampled_where_all_others_are_left_out(
    client: TestClient, body: Ask
) -> None:
    def complete(**more: Any) -> str:
        content: str = client.post(PATH, json=body(**more)).json()["choices"][0]["message"][
            "content"
        ]
        return content

    hot = {"temperature": 2.0, "seed": 3}
    assert complete(**hot) != complete()
    assert complete(top_k=1, **hot) == complete(min_p=1.0, **hot) == complete()
    assert complete(repetition_penalty=5.0) == complete(repeat_penalty=5.0) != complete()


def test_the_served_model_is_found_by_name(client: TestClient) -> None:
    (listed,) = client.get("/v1/models").json()["data"]
    assert client.get("/v1/models/panovlm").json() == listed
    reply = client.get("/v1/models/gpt-4o")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")


def test_a_grounding_is_added_on_request_alone(
    client: TestClient, body: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = client.post(PATH, json=body(grounded=True)).json()["choices"][0]["message"]
    assert message["grounding"] is None
    asked = [(region["yaw_deg"], region["source"]) for region in message["regions"]]
    assert asked == [(180.0, "question")]  # "What is behind me?"
    monkeypatch.setattr("panovlm.metrics.directions._parse_words", lambda text: 45.0)
    message = client.post(PATH, json=body(grounded=True)).json()["choices"][0]["message"]
    assert message["grounding"]["yaw_deg"] == 45.0
    assert [region["yaw_deg"] for region in message["regions"]] == [45.0]
    assert "grounding" not in client.post(PATH, json=body()).json()["choices"][0]["message"]


def test_the_second_question_about_a_panorama_does_not_run_the_encoder(
    client: TestClient, body: Ask, assistant: Assistant
) -> None:
    runs: list[int] = []
    assistant.model.model.vision_encoder.register_forward_hook(lambda *_: runs.append(1))
    for text in ("What is behind me?", "Left?", "And right?"):
        assert client.post(PATH, json=body(text)).status_code == 200
    assert len(runs) == 1


def test_eight_at_once_get_what_each_would_alone(
    assistant: Assistant, body: Ask, scenes_file: Path
) -> None:
    files = sorted(scenes_file.parent.glob("*.png"))
    urls = [data_url(files[place % len(files)].read_bytes()) for place in range(7)]
    bodies = [body(f"What is at {place}?" * (place + 1), url) for place, url in enumerate(urls)]
    bodies.append(body("No picture", None))
    with TestClient(create_app(assistant, limits=LIMITS)) as client:

        def complete(asked: dict[str, Any]) -> dict[str, Any]:
            return client.post(PATH, json=asked).json()["choices"][0]

        alone = [complete(asked) for asked in bodies]
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(complete, bodies * 2)) == alone * 2
    assert len({each["message"]["content"] for each in alone}) > 2


def test_a_conversation_with_all_roles_goes_on(client: TestClient, body: Ask) -> None:
    asked = body()
    asked["messages"].insert(0, {"role": "developer", "content": "Be short."})
    asked["messages"] += [
        {"role": "assistant", "content": "A house."},
        {"role": "user", "content": "And left of it?"},
    ]
    assert client.post(PATH, json=asked).status_code == 200


def test_models_health_and_metrics_answer(client: TestClient, body: Ask) -> None:
    assert client.get("/v1/models").json()["data"][0]["id"] == "panovlm"
    assert client.get("/health").json() == {"status": "ok"}
    client.post(PATH, json=body())
    client.get("/no/such/path")
    text = client.get("/metrics").text
    assert 'panovlm_requests_total{path="/v1/chat/completions",status="200"} 1.0' in text
    assert 'panovlm_requests_total{path="other",status="404"} 1.0' in text
    for name in (*HISTOGRAMS, "num_requests_running", "num_requests_waiting"):
        assert f'vllm:{name}{{model_name="panovlm"}}' in text or f"vllm:{name}_bucket" in text
    whole = (
        r'vllm:request_success_total\{finished_reason="(stop|length)",model_name="panovlm"\} 1.0'
    )
    assert re.search(whole, text)
    for kind in ("prompt", "generation"):
        assert re.search(rf'vllm:{kind}_tokens_total\{{model_name="panovlm"\}} [1-9]', text)
    for name in ("time_to_first_token_seconds", "request_queue_time_seconds"):
        assert f'vllm:{name}_count{{model_name="panovlm"}} 1.0' in text
