"""A full server refuses, late and abandoned requests release their slots, stopping is graceful."""

import dataclasses
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from asking import LIMITS, PATH, Ask, TestClient, listening, wait_until

from panovlm.inference.assistant import Assistant
from panovlm.inference.batches import Batch
from panovlm.serving.app import create_app


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Holds every batch before its first token until it is set."""
    event = threading.Event()
    step = Batch.step

    def wait(self: Batch) -> Any:
        event.wait(20)
        return step(self)

    monkeypatch.setattr(Batch, "step", wait)
    return event


def test_one_request_too_many_is_refused_and_the_others_are_answered(
    assistant: Assistant, body: Ask, held: threading.Event
) -> None:
    limits = dataclasses.replace(LIMITS, max_requests=3)
    app = create_app(assistant, limits=limits)
    with TestClient(app) as client, ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(client.post, PATH, json=body()) for _ in range(2)]
        wait_until(lambda: app.state.handler.num_places() == 2)
        refused = client.post(PATH, json=body())
        held.set()
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "queue_full"
        assert [each.result().status_code for each in waiting] == [200, 200]
        assert client.post(PATH, json=body()).status_code == 200


def test_refused_requests_release_their_slots(assistant: Assistant, body: Ask) -> None:
    limits = dataclasses.replace(LIMITS, max_requests=1)
    with TestClient(create_app(assistant, limits=limits)) as client:
        for _ in range(3):
            assert client.post(PATH, json=body(n=9)).status_code == 400
            assert client.post(PATH, json=body(stream=True)).status_code == 200


def test_a_late_answer_is_an_error_whole_or_streamed(assistant: Assistant, body: Ask) -> None:
    def slowly(*_: Any) -> None:
        time.sleep(0.05)

    assistant.model.lm_head.register_forward_hook(slowly)
    assistant._end_ids = []  # so that no answer ends by itself before its time
    limits = dataclasses.replace(LIMITS, max_s=0.5)
    with TestClient(create_app(assistant, limits=limits)) as client:
        late = client.post(PATH, json=body(max_tokens=64))
        assert late.status_code == 503
        assert late.json()["error"]["code"] == "timeout"
        assert "retry-after" in late.headers
        streamed = client.post(PATH, json=body(max_tokens=64, stream=True)).text
        assert '"code": "timeout"' in streamed
        assert "[DONE]" not in streamed
        assert client.post(PATH, json=body(max_tokens=1)).status_code == 200


def test_a_failing_model_is_a_clear_error_and_the_server_goes_on(
    assistant: Assistant, body: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TestClient(create_app(assistant, limits=LIMITS)) as client:
        with monkeypatch.context() as broken:
            broken.setattr(Batch, "step", lambda self: 1 / 0)
            reply = client.post(PATH, json=body())
        assert reply.status_code == 500
        assert reply.json()["error"]["message"] == "the server failed; its log says why"
        assert client.post(PATH, json=body()).status_code == 200


def test_a_question_joins_a_running_answer_and_may_end_before_it(
    assistant: Assistant, body: Ask
) -> None:
    assistant.model.lm_head.register_forward_hook(lambda *_: time.sleep(0.02))
    assistant._end_ids = []
    app = create_app(assistant, limits=LIMITS)
    with TestClient(app) as client, ThreadPoolExecutor(1) as threads:
        alone = client.post(PATH, json=body(max_tokens=2)).json()["choices"]
        long = threads.submit(client.post, PATH, json=body(max_tokens=64))
        wait_until(lambda: app.state.handler._worker.num_running() == 1)
        assert client.post(PATH, json=body(max_tokens=2)).json()["choices"] == alone
        assert not long.done()
        assert long.result().json()["usage"]["completion_tokens"] == 64


def test_a_joining_question_that_fails_ends_no_running_answer(
    assistant: Assistant, body: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    assistant.model.lm_head.register_forward_hook(lambda *_: time.sleep(0.02))
    assistant._end_ids = []
    app = create_app(assistant, limits=LIMITS)
    with TestClient(app) as client, ThreadPoolExecutor(1) as threads:
        long = threads.submit(client.post, PATH, json=body(max_tokens=64))
        wait_until(lambda: app.state.handler._worker.num_running() == 1)
        with monkeypatch.context() as broken:
            broken.setattr(Batch, "join", lambda self, rows: 1 / 0)
            assert client.post(PATH, json=body()).status_code == 500
        assert not long.done()
        assert long.result().status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_releases_its_slot(
    assistant: Assistant, body: Ask, held: threading.Event, stream: bool
) -> None:
    app = create_app(assistant, limits=LIMITS)
    with listening(app) as (address, _):
        with pytest.raises(httpx2.TimeoutException):
            httpx2.post(address + PATH, json=body(max_tokens=64, stream=stream), timeout=1.0)
        wait_until(lambda: app.state.handler.num_places() == 0)
        held.set()
        assert httpx2.post(address + PATH, json=body(), timeout=20).status_code == 200


def test_a_stopping_server_finishes_running_answers(
    assistant: Assistant, body: Ask, held: threading.Event
) -> None:
    app = create_app(assistant, limits=LIMITS)
    with listening(app) as (address, server), ThreadPoolExecutor(2) as threads:
        asked = [body(stream=True), body()]
        running = [
            threads.submit(httpx2.post, address + PATH, json=each, timeout=20) for each in asked
        ]
        wait_until(lambda: app.state.handler.num_places() == 2)
        server.handle_exit(signal.SIGTERM, None)
        held.set()
        streamed, whole = (each.result() for each in running)
        assert streamed.text.endswith("data: [DONE]\n\n")
        assert whole.json()["choices"][0]["finish_reason"]
    assert app.state.handler.is_draining


def test_new_requests_are_refused_while_the_server_stops(client: TestClient, body: Ask) -> None:
    client.app.state.handler.is_draining = True
    refused = client.post(PATH, json=body())
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert client.get("/health").status_code == 503
