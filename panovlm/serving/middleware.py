"""What every request passes first: request id, API key, log line, metrics."""

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
KNOWN_PATHS = NEEDS_NO_KEY | {
    "/metrics",
    "/openapi.json",
    "/v1/models",
    "/v1/views",
    "/v1/views/mattered",
    "/v1/chat/completions",
}
"""Paths by which requests are logged and counted; all others are "other"."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class AccessMiddleware:
    """Checks API keys (none for an open server), and gives ids to, logs and counts requests."""

    def __init__(self, app: ASGIApp, keys: Sequence[str], registry: CollectorRegistry) -> None:
        self._app = app
        self._keys = [_digest(key) for key in keys]
        self._requests = Counter(
            "panovlm_requests", "Finished requests.", ["path", "status"], registry=registry
        )
        self._seconds = Histogram(
            "panovlm_request_seconds", "Duration of requests.", ["path"], registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        sent_id = headers.get("x-request-id", "")
        request_id = sent_id if _REQUEST_ID.fullmatch(sent_id) else secrets.token_hex(12)
        scope.setdefault("state", {})["request_id"] = request_id
        start, status = time.monotonic(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            if scope["path"] in NEEDS_NO_KEY or self._is_allowed(headers.get("authorization", "")):
                await self._app(scope, receive, send_with_id)
            else:
                error = RequestError(401, "found no valid API key", "invalid_api_key")
                await error.response()(scope, receive, send_with_id)
        finally:
            self._log(scope, request_id, status, time.monotonic() - start)

    def _is_allowed(self, authorization: str) -> bool:
        if not self._keys:
            return True
        sent = _digest(authorization.removeprefix("Bearer "))
        # All are compared, each in constant time: the duration says nothing about any key.
        return sum(hmac.compare_digest(sent, key) for key in self._keys) > 0

    def _log(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        path = scope["path"] if scope["path"] in KNOWN_PATHS else "other"
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)
        line = {"id": request_id, "method": scope["method"], "path": path, "status": status}
        line |= {"seconds": round(seconds, 4), **scope["state"].get("counts", {})}
        logger.info(json.dumps(line))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
