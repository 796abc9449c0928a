"""OpenAI's own client works with the server."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
from asking import LIMITS, listening, wait_until
from pydantic import BaseModel

from panovlm.inference.assistant import Assistant
from panovlm.serving.app import create_app
from panovlm.serving.middleware import Access

openai = pytest.importorskip("openai")
MODEL = "panovlm"
URL = "messages.0.content.0.image_url"
QUESTION = "What is behind me?"
Messages = list[dict[str, Any]]


def about(text: str, *urls: str) -> Messages:
    """One message about pictures, if any."""
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [*pictures, {"type": "text", "text": text}]}]


@contextmanager
def connected(
    assistant: Assistant, limits: Any = LIMITS, key: str = "secret", **options: Any
) -> Iterator[tuple[Any, Any]]:
    """Run a server; return a client of it and the server's handler."""
    app = create_app(assistant, limits=limits, access=Access(keys=["secret"]))
    with listening(app) as (address, _):
        options = {"max_retries": 0, "timeout": 60, **options}
        with openai.OpenAI(base_url=f"{address}/v1", api_key=key, **options) as client:
            yield client, app.state.handler


@pytest.fixture
def slow_steps(assistant: Assistant) -> Iterator[None]:
    handle = assistant.model.lm_head.register_forward_hook(lambda *_: time.sleep(0.3))
    yield
    handle.remove()


Complete = Callable[..., Any]


@pytest.fixture
def complete(picture_url: str) -> Complete:
    """Asks about the panorama."""

    def ask(client: Any, text: str = QUESTION, **more: Any) -> Any:
        more = {"model": MODEL, "max_tokens": 12, **more}
        return client.chat.completions.create(messages=about(text, picture_url), **more)

    return ask


def test_whole_and_streamed_answers_have_the_same_text_and_tokens(
    assistant: Assistant, complete: Complete
) -> None:
    with connected(assistant) as (client, _):
        whole = complete(client, extra_body={"grounded": True})
        stream = complete(client, stream=True, stream_options={"include_usage": True})
        chunks = list(stream)
        assert [model.id for model in client.models.list()] == [MODEL]
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content != ""
    assert len([piece for piece in pieces if piece]) > 2
    assert chunks[-1].usage == whole.usage
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert whole.choices[0].message.grounding is None  # a field beyond OpenAI's


def test_stop_seed_and_length_are_respected(assistant: Assistant, complete: Complete) -> None:
    with connected(assistant) as (client, _):
        sampled = [
            complete(client, temperature=1.0, seed=s).choices[0].message.content for s in (1, 1, 2)
        ]
        whole = complete(client).choices[0].message.content
        stopped = complete(client, stop=[whole[3:5]]).choices[0]
        short = complete(client, max_completion_tokens=2).choices[0]
    assert sampled[0] == sampled[1] != sampled[2]
    assert stopped.message.content == whole[: whole.index(whole[3:5])].rstrip()
    assert stopped.finish_reason == "stop"
    assert short.finish_reason == "length"


@pytest.mark.parametrize(
    ("more", "param", "words"),
    [
        ({"temperature": 5}, "temperature", "less than or equal to 2"),
        ({"tools": [{}]}, "tools", "not supported"),
        ({"stop": [""]}, "stop", "found stop"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": about(QUESTION, "https://127.0.0.1/x.png")}, URL, "no data URL"),
        ({"messages": about(QUESTION, "data:image/png;base64,eA==")}, URL, "no readable"),
        ({"messages": about("long " * 2000)}, "messages", "shorten the text"),
    ],
)
def test_bad_requests_raise_with_the_field_and_what_to_do(
    assistant: Assistant, more: dict[str, Any], param: str, words: str
) -> None:
    asked = {"model": MODEL, "messages": about("Hello"), **more}
    error = pytest.raises(openai.BadRequestError, match=words)
    with connected(assistant) as (client, _), error as refused:
        client.chat.completions.create(**asked)
    assert refused.value.param == param
    assert refused.value.code
    assert refused.value.request_id


def test_other_errors_raise_as_openais_do(assistant: Assistant, complete: Complete) -> None:
    with connected(assistant) as (client, _):
        with pytest.raises(openai.NotFoundError, match="no such model"):
            complete(client, model="gpt")
        with pytest.raises(openai.APIStatusError, match="bytes") as large:
            complete(client, "x" * LIMITS.max_body_bytes)
        assert large.value.status_code == 413
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model=MODEL, input="x")
    wrong = pytest.raises(openai.AuthenticationError, match="no valid API key")
    with connected(assistant, key="wrong") as (client, _), wrong:
        complete(client)
    full = pytest.raises(openai.RateLimitError, match="too many requests")
    with connected(assistant, replace(LIMITS, max_requests=0)) as (client, _), full:
        complete(client)


def test_a_server_that_is_gone_raises(assistant: Assistant, complete: Complete) -> None:
    with connected(assistant) as (client, _):
        address = client.base_url
    later = openai.OpenAI(base_url=address, api_key="secret", max_retries=0)
    with later, pytest.raises(openai.APIConnectionError):
        complete(later)


def test_an_answer_that_takes_too_long_raises_whole_and_in_a_stream(
    assistant: Assistant, complete: Complete, slow_steps: None
) -> None:
    with connected(assistant, replace(LIMITS, max_s=1.5)) as (client, _):
        with pytest.raises(openai.InternalServerError, match="took too long") as late:
            complete(client, max_tokens=40)
        assert late.value.status_code == 503
        with pytest.raises(openai.APIError, match="took too long"):
            list(complete(client, max_tokens=40, stream=True))


def test_a_client_that_gives_up_releases_its_slot(
    assistant: Assistant, complete: Complete, slow_steps: None
) -> None:
    with connected(assistant) as (client, handler):
        with pytest.raises(openai.APITimeoutError):
            complete(client.with_options(timeout=1.0), max_tokens=60)
        wait_until(lambda: handler.num_places() == 0)
        stream = complete(client, max_tokens=60, stream=True)
        next(iter(stream))
        stream.close()
        wait_until(lambda: handler.num_places() == 0)
        assert complete(client, max_tokens=1).choices


def test_threads_and_tasks_get_what_each_would_alone(
    assistant: Assistant, complete: Complete, picture_url: str
) -> None:
    texts = [f"What is at {place}?" * (place + 1) for place in range(6)]

    async def ask_all(client: Any) -> list[str]:
        async with openai.AsyncOpenAI(
            base_url=client.base_url, api_key="secret", max_retries=0
        ) as many:
            create = many.chat.completions.create
            asked = [
                create(model=MODEL, max_tokens=12, messages=about(text, picture_url))
                for text in texts
            ]
            return [reply.choices[0].message.content for reply in await asyncio.gather(*asked)]

    with connected(assistant) as (client, _):

        def answer(text: str) -> str:
            return str(complete(client, text).choices[0].message.content)

        alone = [answer(text) for text in texts]
        with ThreadPoolExecutor(len(texts)) as threads:
            assert list(threads.map(answer, texts)) == alone
        assert asyncio.run(ask_all(client)) == alone
    assert len(set(alone)) > 2


class Place(BaseModel):
    """The form of an answer."""

    is_seen: bool
    is_near: bool


@pytest.mark.skipif(find_spec("llguidance") is None, reason="needs llguidance")
def test_an_answer_is_parsed_into_the_class_asked_for(
    assistant: Assistant, picture_url: str
) -> None:
    with connected(assistant) as (client, _):
        reply = client.chat.completions.parse(
            model=MODEL,
            messages=about("Is there a door?", picture_url),
            max_tokens=LIMITS.max_tokens,
            response_format=Place,
        )
    assert isinstance(reply.choices[0].message.parsed, Place)
