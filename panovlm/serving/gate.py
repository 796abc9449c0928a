"""What every request passes first: its id, its key, its line in the log, its count."""

import hashlib
import hmac
import json
import logging
import re
import secrets
import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from panovlm.serving.errors import RequestError
from panovlm.serving.site import OPEN_PATHS

logger = logging.getLogger(__name__)
NEEDS_NO_KEY = OPEN_PATHS | {"/health"}
_WITH_KEY = (
    "/metrics",
    "/openapi.json",
    "/v1/models",
    "/v1/views",
    "/v1/views/mattered",
    "/v1/chat/completions",
)
KNOWN_PATHS = NEEDS_NO_KEY | {*_WITH_KEY}
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Gate:
    """ASGI middleware around the whole server.

    Args:
        app: What lies behind.
        keys: Of which a request must bring one; none for an open server.
        registry: Where requests are counted.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str], registry: CollectorRegistry) -> None:
        self._app = app
        self._keys = [_digest(key) for key in keys]
        self._requests = Counter(
            "panovlm_requests", "Requests ended.", ["path", "status"], registry=registry
        )
        self._seconds = Histogram(
            "panovlm_request_seconds", "From request to its end.", ["path"], registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(12)
        scope.setdefault("state", {})["request_id"] = request_id
        began, status = time.monotonic(), 500

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            if scope["path"] in NEEDS_NO_KEY or self._is_known(headers.get("authorization", "")):
                await self._app(scope, receive, send_marked)
            else:
                error = RequestError(401, "found no valid API key", "invalid_api_key")
                await error.response()(scope, receive, send_marked)
        finally:
            self._note(scope, request_id, status, time.monotonic() - began)

    def _is_known(self, authorization: str) -> bool:
        if not self._keys:
            return True
        given = _digest(authorization.removeprefix("Bearer "))
        # All are compared, each in constant time: how long it takes says nothing about any key.
        return sum(hmac.compare_digest(given, key) for key in self._keys) > 0

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        path = scope["path"] if scope["path"] in KNOWN_PATHS else "other"
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)
        line = {
            "id": request_id,
            "method": scope["method"],
            "path": path,
            "status": status,
            "seconds": round(seconds, 4),
            **scope["state"].get("counts", {}),
        }
        logger.info(json.dumps(line))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
