"""One client cannot keep the others from being answered, nor fill the memory."""

import gc
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import httpx2
import pytest
import torch
from asking import LIMITS, PATH, Ask, TestClient, listening, wait_until

from panovlm.inference.answers import Answer
from panovlm.inference.assistant import Assistant
from panovlm.inference.batches import Batch
from panovlm.inference.likelihood import Likelihood
from panovlm.serving import limits as bounds
from panovlm.serving.app import create_app
from panovlm.serving.errors import RequestError
from panovlm.serving.middleware import Access
from panovlm.serving.pictures import Pictures
from panovlm.serving.protocol import ChatRequest
from panovlm.serving.worker import Worker

STUDY = "/v1/views/mattered"


def code_of(reply: Any) -> tuple[int, str]:
    error = reply.json().get("error")
    return reply.status_code, error["code"] if error else ""


def test_of_a_text_that_is_too_long_little_is_tokenised(
    client: TestClient, body: Ask, assistant: Assistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenised: list[int] = []
    call = type(assistant.processor.tokenizer).__call__

    def counted(tokenizer: Any, text: str, **options: Any) -> Any:
        tokenised.append(len(text))
        return call(tokenizer, text, **options)

    monkeypatch.setattr(type(assistant.processor.tokenizer), "__call__", counted)
    many = body("word " * 180_000, None)
    given = {"role": "assistant", "content": "word " * 180_000}
    study = {"model": "panovlm", "messages": [*body()["messages"], given]}
    for path, asked in ((PATH, many), (STUDY, study)):
        reply = client.post(path, json=asked)
        assert code_of(reply) == (400, "invalid_request")
        assert "characters of text" in reply.json()["error"]["message"]
        assert reply.json()["error"]["param"] == "messages"
    assert 0 < sum(tokenised) < 50_000


def test_the_workers_thread_tokenises_nothing(
    assistant: Assistant, body: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    call = type(assistant.processor.tokenizer).__call__

    def noted(tokenizer: Any, text: str, **options: Any) -> Any:
        threads.append(threading.current_thread().name)
        return call(tokenizer, text, **options)

    monkeypatch.setattr(type(assistant.processor.tokenizer), "__call__", noted)
    with TestClient(create_app(assistant, limits=LIMITS)) as client:
        assert client.post(PATH, json=body()).status_code == 200
        given = [*body()["messages"], {"role": "assistant", "content": "a cube"}]
        study = client.post(STUDY, json={"model": "panovlm", "messages": given})
        assert study.status_code == 200
    assert threads
    assert "panovlm-worker" not in threads


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Holds every batch before its first token until it is set."""
    event, step = threading.Event(), Batch.step

    def wait(self: Batch) -> Any:
        event.wait(20)
        return step(self)

    monkeypatch.setattr(Batch, "step", wait)
    yield event
    event.set()


def test_waiting_requests_hold_no_text_of_pictures_and_no_share_of_the_budget(
    assistant: Assistant, body: Ask, held: threading.Event
) -> None:
    app = create_app(assistant, limits=replace(LIMITS, max_bytes=2 * len(json.dumps(body()))))
    with TestClient(app) as client, ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(client.post, PATH, json=body()) for _ in range(2)]
        wait_until(lambda: len([r for r in asked if r.running()]) == 2)
        wait_until(lambda: app.state.handler.num_places() > 0)
        first = app.state.handler.num_places()
        if first < 2:  # both at once were too much
            held.set()
        wait_until(lambda: app.state.handler._bytes.left == 2 * len(json.dumps(body())))
        requests = [each for each in gc.get_objects() if type(each) is ChatRequest]
        assert requests
        assert all(not each.messages for each in requests)
        held.set()
        assert {each.result().status_code for each in asked} <= {200, 503}


def sent(asked: dict[str, Any], share: float, address: str) -> socket.socket:
    """Send a part of a request and stay."""
    content = json.dumps(asked).encode()
    host, port = address.removeprefix("http://").split(":")
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    whole = f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
    client = socket.create_connection((host, int(port)), timeout=20)
    client.sendall(whole[: int(len(whole) * share)])
    return client


def test_all_bodies_together_stay_within_a_budget(assistant: Assistant, body: Ask) -> None:
    size = len(json.dumps(body()).encode())
    app = create_app(assistant, limits=replace(LIMITS, max_bytes=int(2.5 * size)))
    with listening(app) as (address, _):
        with closing(sent(body(), 0.8, address)):
            wait_until(lambda: app.state.handler._bytes.left < 2 * size)
            assert code_of(httpx2.post(address + PATH, json=body(), timeout=20)) == (503, "busy")
        wait_until(lambda: app.state.handler._bytes.left > 2 * size)
        assert httpx2.post(address + PATH, json=body(), timeout=20).status_code == 200


def test_bodies_that_are_not_there_yet_take_no_places(assistant: Assistant, body: Ask) -> None:
    app = create_app(assistant, limits=replace(LIMITS, max_requests=1))
    with listening(app) as (address, _):
        slow = [sent(body(), 0.9, address) for _ in range(5)]
        assert httpx2.post(address + PATH, json=body(), timeout=20).status_code == 200
        for each in slow:
            each.close()


def test_slow_bodies_end(assistant: Assistant, body: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "BODY_S", 0.3)
    with (
        listening(create_app(assistant, limits=LIMITS)) as (address, _),
        closing(sent(body(), 0.9, address)) as client,
    ):
        read = b"".join(iter(lambda: client.recv(65536), b""))
    assert read.startswith(b"HTTP/1.1 408")
    assert b"too slowly" in read


def test_one_of_several_keys_leaves_as_many_places_as_it_has(
    assistant: Assistant, body: Ask, held: threading.Event
) -> None:
    access = Access(keys=["one", "two"])
    app = create_app(assistant, limits=replace(LIMITS, max_requests=3), access=access)

    def post(authorization: str) -> Any:
        return client.post(PATH, json=body(), headers={"authorization": authorization})

    with TestClient(app) as client, ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(post, "Bearer one") for _ in range(2)]
        wait_until(lambda: app.state.handler.num_places() == 2)
        for again in ("Bearer one", "bEARER one"):
            assert code_of(post(again)) == (429, "queue_full")
        asked.append(threads.submit(post, "Bearer two"))
        wait_until(lambda: app.state.handler.num_places() == 3)
        held.set()
        assert {each.result().status_code for each in asked} == {200}


def test_requests_whose_schemas_are_compiled_have_a_place(
    assistant: Assistant, body: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("llguidance")
    compiled, constraint = threading.Event(), assistant.grammars.constraint
    monkeypatch.setattr(
        assistant.grammars, "constraint", lambda schema: compiled.wait(40) and constraint(schema)
    )
    app = create_app(assistant, limits=LIMITS)
    asked = body(response_format={"type": "json_object"})
    with TestClient(app) as client, ThreadPoolExecutor(1) as threads:
        reply = threads.submit(client.post, PATH, json=asked)
        wait_until(lambda: app.state.handler.num_places() == 1)
        compiled.set()
        assert reply.result().status_code == 200


def test_each_connection_on_this_machine_is_a_client(
    assistant: Assistant, body: Ask, held: threading.Event
) -> None:
    app = create_app(assistant, limits=replace(LIMITS, max_requests=3))
    with listening(app) as (address, _), ThreadPoolExecutor(3) as threads:
        post = partial(httpx2.post, address + PATH, json=body(), timeout=30)  # each connects anew
        asked = [threads.submit(post) for _ in range(3)]
        wait_until(lambda: app.state.handler.num_places() == 3)
        assert code_of(post()) == (429, "queue_full")
        held.set()
        assert {each.result().status_code for each in asked} == {200}


def test_greedy_clients_leave_room_for_others_and_large_bodies_for_small_ones() -> None:
    error = RequestError(429, "full", "queue_full")
    for num_greedy in (1, 3, 5):
        budget = bounds.Budget(100, error)
        with ExitStack() as stack:
            for greedy in range(num_greedy):
                take = stack.enter_context(budget.spending(f"greedy {greedy}"))
                with suppress(RequestError):
                    for _ in range(100):
                        take(1)
            assert budget.left >= 100 // 2**num_greedy - 1
            stack.enter_context(budget.spending("honest"))(1)
        assert budget.left == 100
        assert not budget.held


def test_studies_share_the_places_of_one_client(
    assistant: Assistant, body: Ask, held: threading.Event
) -> None:
    given = [*body()["messages"], {"role": "assistant", "content": "a cube"}]
    study = {"model": "panovlm", "messages": given}
    app = create_app(assistant, limits=replace(LIMITS, max_requests=4))
    with listening(app) as (address, _), ThreadPoolExecutor(4) as threads:
        post = partial(httpx2.post, timeout=30)
        answer = threads.submit(post, address + PATH, json=body())
        wait_until(lambda: app.state.handler._worker.num_running() == 1)
        studies = [threads.submit(post, address + STUDY, json=study) for _ in range(3)]
        wait_until(lambda: any(each.done() for each in studies))
        assert app.state.handler.num_places() == 3  # one is left for an answer
        held.set()
        assert answer.result().status_code == 200
        assert sorted(each.result().status_code for each in studies) == [200, 200, 429]


def test_a_client_that_leaves_while_its_pictures_are_read_frees_its_place_and_bytes(
    assistant: Assistant, body: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, read = threading.Event(), threading.Event()

    def slowly(*_: Any) -> None:
        reading.set()
        read.wait(120)

    monkeypatch.setattr(Pictures, "open", slowly)
    app = create_app(assistant, limits=replace(LIMITS, max_s=120.0))
    with listening(app) as (address, _):
        with closing(sent(body(), 1.0, address)):
            assert reading.wait(60)
            assert app.state.handler.num_places() == 1
        wait_until(lambda: app.state.handler.num_places() == 0)
        wait_until(lambda: app.state.handler._bytes.left == LIMITS.max_bytes)
        assert not read.is_set()
        read.set()


def test_a_study_runs_in_slices_between_tokens_and_ends_with_its_client(
    assistant: Assistant, body: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    step, score = Batch.step, Likelihood.with_latents

    def stepped(self: Batch) -> Any:
        pieces = step(self)
        order.extend("token" for _ in pieces)
        time.sleep(0.01)  # the long answer outlasts the studies, on a fast machine too
        return pieces

    def scored(self: Likelihood, latents: torch.Tensor) -> Any:
        order.append(f"slice of {len(latents)}")
        time.sleep(0.05)
        return score(self, latents)

    monkeypatch.setattr(Batch, "step", stepped)
    monkeypatch.setattr(Likelihood, "with_latents", scored)
    assistant._end_ids = []
    given = [*body()["messages"], {"role": "assistant", "content": "a cube"}]
    study = {"model": "panovlm", "messages": given}
    app = create_app(assistant, limits=replace(LIMITS, max_tokens=500))
    with listening(app) as (address, _), ThreadPoolExecutor(1) as threads:
        long = threads.submit(httpx2.post, address + PATH, json=body(max_tokens=400), timeout=30)
        wait_until(lambda: "token" in order)
        assert httpx2.post(address + STUDY, json=study, timeout=30).status_code == 200
        assert not long.done()
        places = [place for place, each in enumerate(order) if each == "slice of 2"]
        assert len(places) == 4  # four views and four pairs
        assert all("token" in order[a:b] for a, b in pairwise(places))
        order.clear()
        with pytest.raises(httpx2.TimeoutException):
            httpx2.post(address + STUDY, json=study, timeout=0.15)
        wait_until(
            lambda: app.state.handler._worker._studies == type(app.state.handler._worker._studies)()
        )
        assert long.result().status_code == 200
    assert order.count("slice of 2") < 4


def test_an_answer_that_fails_fails_alone(
    assistant: Assistant, body: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = Answer.choose

    def fail_once(self: Answer, scores: torch.Tensor) -> int:
        if self.sampling.seed == 13 and self.num_tokens == 3:
            raise RuntimeError("secret")
        return choose(self, scores)

    monkeypatch.setattr(Answer, "choose", fail_once)
    with TestClient(create_app(assistant, limits=LIMITS)) as client, ThreadPoolExecutor(4) as pool:
        alone = client.post(PATH, json=body()).json()["choices"]
        asked = [body(), body(seed=13, temperature=1), body(), body()]
        first, failed, *others = pool.map(lambda each: client.post(PATH, json=each), asked)
        assert failed.status_code == 500
        assert "secret" not in failed.text
        assert [each.json()["choices"] for each in (first, *others)] == [alone] * 3


def test_where_some_cannot_join_together_each_joins_alone(
    assistant: Assistant, body: Ask, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    join, sizes = Batch.join, []

    def fail_together(self: Batch, rows: Any) -> Any:
        sizes.append(len(rows))
        if len(rows) > 1:
            raise MemoryError
        return join(self, rows)

    monkeypatch.setattr(Batch, "join", fail_together)
    app = create_app(assistant, limits=replace(LIMITS, gather_s=5.0))
    with TestClient(app) as client, ThreadPoolExecutor(4) as pool:
        first = pool.submit(client.post, PATH, json=body())
        wait_until(lambda: app.state.handler._worker.num_running() == 1)
        others = [pool.submit(client.post, PATH, json=body()) for _ in range(3)]
        wait_until(lambda: app.state.handler._worker._waiting.qsize() == 3)
        held.set()
        replies = [each.result() for each in (first, *others)]
    assert max(sizes) > 1
    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.json()["choices"][0]["message"]["content"] for reply in replies}) == 1


def test_health_looks_at_the_worker(
    assistant: Assistant, body: Ask, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(assistant, limits=replace(LIMITS, max_s=0.5))
    with TestClient(app) as client:
        assert client.get("/health").status_code == 200
        client.post(PATH, json=body())  # too late: the batch is held
        wait_until(lambda: client.get("/health").status_code == 503)
        assert client.get("/health").json() == {"status": "failed"}
        held.set()
        wait_until(lambda: client.get("/health").status_code == 200)
    monkeypatch.setattr(Worker, "run", lambda self: None)
    with TestClient(create_app(assistant, limits=LIMITS)) as client:
        wait_until(lambda: client.get("/health").status_code == 503)
