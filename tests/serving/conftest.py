"""A server on the tiny model. Without the extra `serve` these tests are left out."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from panovlm.inference.assistant import Assistant
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor

NEEDED = ("fastapi", "uvicorn", "prometheus_client", "httpx2")
collect_ignore_glob = [] if all(map(find_spec, NEEDED)) else ["test_*.py"]


@pytest.fixture
def assistant(generator: PanoVLMForConditionalGeneration, processor: PanoVLMProcessor) -> Assistant:
    return Assistant(generator, processor)


@pytest.fixture
def client(assistant: Assistant) -> Iterator[Any]:
    from asking import LIMITS, TestClient

    from panovlm.serving.app import create_app
    from panovlm.serving.examples import examples_of

    app = create_app(assistant, limits=LIMITS, examples=examples_of("scenes"))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def picture_url(scenes_file: Path) -> str:
    from asking import data_url

    return data_url((scenes_file.parent / "0.png").read_bytes())


@pytest.fixture
def body(picture_url: str) -> Callable[..., dict[str, Any]]:
    """Returns the body of a request about the panorama, or about another or none."""

    def make(text: str = "What is behind me?", url: str | None = "", **more: Any) -> dict[str, Any]:
        parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
        if url is not None:
            parts.insert(0, {"type": "image_url", "image_url": {"url": url or picture_url}})
        messages = [{"role": "user", "content": parts}]
        return {"model": "panovlm", "messages": messages, "max_tokens": 12, **more}

    return make
