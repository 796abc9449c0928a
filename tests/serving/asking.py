"""What the tests of the server share: limits, pictures as URLs, a real server in a thread."""

import base64
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import testclient
from PIL import Image

from panovlm.serving.connections import Connection
from panovlm.serving.limits import Limits

PATH = "/v1/chat/completions"
LIMITS = Limits(max_body_bytes=1 << 20, max_pixels=100_000, max_tokens=64, max_s=30.0)
Ask = Callable[..., dict[str, Any]]


class TestClient(testclient.TestClient):
    """A client of a server on this machine, which sends JSON."""

    def __init__(self, app: Any, **options: Any) -> None:
        headers = {"content-type": "application/json"}
        super().__init__(app, base_url="http://localhost", headers=headers, **options)


def data_url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@contextmanager
def listening(app: Any) -> Iterator[tuple[str, uvicorn.Server]]:
    """Run a real server in a thread; return its address and itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(
            app, port=port, http=Connection, ws="none", log_level="error", access_log=False
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.should_exit = True
        thread.join()


def wait_until(holds: Callable[[], bool], max_s: float = 20.0) -> None:
    end = time.monotonic() + max_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)
