"""The server tells which views mattered to an answer, by the rules that answers are given by."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asking import LIMITS, Ask, TestClient
from asking import PATH as ANSWERS

from panovlm.inference.assistant import Assistant, Question
from panovlm.inference.prompts import about_panorama
from panovlm.inference.rotation import yaw_rotated
from panovlm.inference.views_mattered import PairDrop, ViewsMattered
from panovlm.serving.app import create_app
from panovlm.serving.middleware import Access
from panovlm.serving.protocol import ViewsMatteredResponse

PATH = "/v1/views/mattered"
QUESTION, ANSWER = "What is behind me?", "a blue cube"


@pytest.fixture
def given(body: Ask) -> Callable[..., dict[str, Any]]:
    """Returns the body of a request about an answer."""

    def make(answer: str = ANSWER, role: str = "assistant", **more: Any) -> dict[str, Any]:
        asked = {key: value for key, value in body(QUESTION).items() if key != "max_tokens"}
        asked["messages"] = [*asked["messages"], {"role": role, "content": answer}]
        return asked | more

    return make


def expected(assistant: Assistant, picture: Path, yaw_shift_deg: float = 0.0) -> ViewsMattered:
    panorama = assistant.open(picture)
    layout = assistant.processor.image_processor.layout
    rotated = yaw_rotated(panorama, layout, yaw_shift_deg)
    return assistant.views_mattered(Question(about_panorama(QUESTION), [rotated]), ANSWER)


@pytest.mark.parametrize("yaw_shift_deg", [0.0, 90.0])
def test_the_response_is_what_the_assistant_finds(
    client: TestClient, given: Ask, assistant: Assistant, scenes_file: Path, yaw_shift_deg: float
) -> None:
    reply = client.post(PATH, json=given(yaw_shift_deg=yaw_shift_deg))
    assert reply.status_code == 200
    response = reply.json()
    found = expected(assistant, scenes_file.parent / "0.png", yaw_shift_deg)
    assert response["object"] == "views.mattered"
    assert response["drops"] == pytest.approx(found.drops, abs=1e-4)
    assert response["log_probability"] == pytest.approx(found.log_probability, abs=1e-4)
    assert found.shares is not None
    assert response["shares"] == pytest.approx(found.shares, abs=1e-3)
    assert sum(response["shares"]) == pytest.approx(1)
    for pair, own in zip(response["pair_drops"], found.pair_drops, strict=True):
        assert tuple(pair["views"]) == own.views
        assert pair["drop"] == pytest.approx(own.drop, abs=1e-4)
    assert response["together"] is None


def test_two_neighbours_are_named_where_no_view_mattered_alone() -> None:
    pairs = (PairDrop((0, 1), 0.0), PairDrop((1, 2), 0.5), PairDrop((2, 0), 0.1))
    response = ViewsMatteredResponse.of("m", ViewsMattered(-1.0, (0.0, 0.01, 0.0), pairs))
    assert response.shares is None
    assert response.together == response.pair_drops[1]
    assert response.model_dump()["together"] == {"views": (1, 2), "drop": 0.5}


def test_an_answer_in_parts_is_the_same_answer(client: TestClient, given: Ask) -> None:
    parts = given([{"type": "text", "text": "a blue"}, {"type": "text", "text": " cube"}])
    assert client.post(PATH, json=parts).json() == client.post(PATH, json=given()).json()


def test_errors_have_openais_shape(client: TestClient, given: Ask, body: Ask) -> None:
    no_picture = body("Hello", None)
    no_picture["messages"].append({"role": "assistant", "content": "Hello"})
    for asked, status, text in (
        (given(role="user"), 400, "assistant"),
        (given(""), 400, "expected the answer"),
        (given([]), 400, "expected the answer"),
        (no_picture, 400, "found 0 panoramas"),
        (given("word " * 500), 400, "tokens"),
        (given(yaw_shift_deg=45), 400, "whole number of strides"),
        (given(model="other"), 404, "no such model"),
        ({"model": "panovlm", "messages": []}, 400, "messages"),
    ):
        reply = client.post(PATH, json=asked)
        assert reply.status_code == status, reply.text
        assert text in reply.json()["error"]["message"]
    assert client.get(PATH).status_code == 405


def test_keys_slots_and_time_are_those_of_answers(assistant: Assistant, given: Ask) -> None:
    def ask(limits: Any, key: str = "secret") -> tuple[int, str]:
        app = create_app(assistant, limits=limits, access=Access(keys=["secret"]))
        with TestClient(app) as client:
            headers = {"authorization": f"Bearer {key}"}
            reply = client.post(PATH, json=given(), headers=headers)
            body = reply.json()
            gauge = client.get("/metrics", headers={"authorization": "Bearer secret"}).text
            assert 'vllm:num_requests_waiting{model_name="panovlm"} 0.0' in gauge
            return reply.status_code, body.get("error", {}).get("code", "")

    assert ask(LIMITS) == (200, "")
    assert ask(LIMITS, "wrong") == (401, "invalid_api_key")
    assert ask(replace(LIMITS, max_requests=0)) == (429, "queue_full")
    late = assistant.model.lm_head.register_forward_hook(lambda *_: time.sleep(1.5))
    assert ask(replace(LIMITS, max_s=1.0)) == (503, "timeout")
    late.remove()


def test_running_answers_stay_what_they_are_alone(
    client: TestClient, given: Ask, body: Ask
) -> None:
    asked = body(QUESTION, max_tokens=40)
    alone = client.post(ANSWERS, json=asked).json()["choices"]
    mattered = client.post(PATH, json=given()).json()
    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(client.post, ANSWERS, json=asked) for _ in range(2)]
        others = [threads.submit(client.post, PATH, json=given()) for _ in range(2)]
        assert [each.result().json()["choices"] for each in answers] == [alone] * 2
        for each in others:
            assert each.result().json()["drops"] == pytest.approx(mattered["drops"], abs=1e-4)


def test_a_failure_of_the_model_is_a_500_and_the_next_is_answered(
    client: TestClient, given: Ask, assistant: Assistant
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("secret words")

    failing = assistant.model.model.projection.register_forward_hook(fail)
    assistant.prefixes._held.clear()
    reply = client.post(PATH, json=given())
    failing.remove()
    assert reply.status_code == 500
    assert "secret" not in reply.text
    assert client.post(PATH, json=given()).status_code == 200


def test_the_interface_is_described(client: TestClient) -> None:
    described = client.get("/openapi.json").json()["paths"][PATH]["post"]
    content = described["requestBody"]["content"]["application/json"]["schema"]
    assert set(content["properties"]) == {"model", "messages", "yaw_shift_deg"}
    assert described["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
