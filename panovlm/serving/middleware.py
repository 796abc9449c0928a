"""What every request passes first: who may ask, a request id, a log line, metrics."""

import hashlib
import hmac
import json
import logging
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from panovlm.serving.errors import RequestError
from panovlm.serving.site import PAGE

logger = logging.getLogger(__name__)
NEEDS_NO_KEY = PAGE | {"/health", "/examples"}
"""What says nothing about the model."""
KNOWN_PATHS = NEEDS_NO_KEY | {
    "/metrics",
    "/openapi.json",
    "/v1/models",
    "/v1/panorama",
    "/v1/views",
    "/v1/views/mattered",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
}
"""Paths by which requests are logged and counted; all others are "other"."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        keys: API keys, of which each request must bring one; none for an open server.
        names: Names of the server. Without keys, requests must be to one of them, to localhost or
            to an address: another name that leads here is that of a page that attacks its visitor.
        origins: Of pages on other hosts whose scripts may ask; "*" for all.
    """

    keys: Sequence[str] = ()
    names: Sequence[str] = ()
    origins: Sequence[str] = ()

    def error(self, scope: Scope) -> RequestError | None:
        """Return why a request is refused, if it is."""
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if host and not self.keys and not self._is_own(_split(f"//{host}")):
            message = "found a Host that is no name of this server; add it to --server-names"
            return RequestError(403, message, "foreign_host")
        is_foreign = origin is not None and _split(origin) != _split(f"//{host}")
        if is_foreign and not {origin, "*"} & {*self.origins}:
            message = "found a page of another origin; allow it with --cors-origin"
            return RequestError(403, message, "foreign_origin")
        if _known(scope["path"]) not in NEEDS_NO_KEY and not self._has_key(headers):
            return RequestError(401, "found no valid API key", "invalid_api_key")
        # Pages of any origin may send other types without asking first.
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and kind != "application/json":
            message = "found another Content-Type, expected application/json"
            return RequestError(415, message, "unsupported_media_type")
        return None

    def _is_own(self, host: str) -> bool:
        name = re.sub(r":\d*$", "", host).strip("[]")
        return name in {"localhost", *map(str.lower, self.names)} or _is_address(name)

    def _has_key(self, headers: Headers) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        sent = _digest(key if scheme.lower() == "bearer" else "")
        # All are compared, each in constant time: the duration says nothing about any key.
        is_known = sum(hmac.compare_digest(sent, _digest(each)) for each in self.keys) > 0
        return is_known or not self.keys


class AccessMiddleware:
    """Refuses who may not ask, and gives ids to, logs and counts requests."""

    def __init__(self, app: ASGIApp, access: Access, registry: CollectorRegistry) -> None:
        self._app, self._access = app, access
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
        state = {"request_id": request_id, "client": self._client(scope, headers)}
        scope["state"] = scope.get("state", {}) | state
        start, status = time.monotonic(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        error = self._access.error(scope)
        try:
            await (error.response() if error else self._app)(scope, receive, send_with_id)
        finally:
            self._log(scope, request_id, status, time.monotonic() - start)

    def _client(self, scope: Scope, headers: Headers) -> str:
        """Return who shares a part of the places: a key if there are several, else an address.

        On this machine all have one address, and each connection counts as a client.
        """
        if len(self._access.keys) > 1:
            return headers.get("authorization", "").partition(" ")[2]
        host, port = scope.get("client") or ("", 0)
        return f"{host}:{port}" if is_loopback(host) else str(host)

    def _log(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        path = _known(scope["path"])
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)
        line = {"id": request_id, "method": scope["method"], "path": path, "status": status}
        line |= {"seconds": round(seconds, 4), **scope["state"].get("counts", {})}
        logger.info(json.dumps(line))


def _known(path: str) -> str:
    """Return the known path that a path is or is below, of the examples; "other" for all others."""
    path = "/examples" if path.startswith("/examples/") else path
    return path if path in KNOWN_PATHS else "other"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _split(url: str) -> str:
    """Return the host and port of a URL, or a text that is no host's where it has none."""
    try:
        parts = urlsplit(url)
        port = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
        return parts.netloc.lower().removesuffix(port) or url
    except ValueError:
        return url


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is that of this machine."""
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def _is_address(name: str) -> bool:
    try:
        return bool(ip_address(name))
    except ValueError:
        return False
