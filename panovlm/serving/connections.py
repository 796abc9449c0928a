"""Connections that time out: uvicorn itself waits for the first request without a limit."""

import asyncio
from typing import cast

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 30.0
"""How long a client may take from connecting, or from the last response, to the end of the next
request's head, in seconds. The time for a body is limited where it is read."""


class Connection(H11Protocol):
    """One client's connection."""

    head_s = HEAD_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._wait_for_request()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._wait_for_request()
        super().on_response_complete()

    def _wait_for_request(self) -> None:
        last = self.cycle

        def close_if_idle() -> None:
            if self.cycle is last:  # no other request has begun
                self.transport.abort()

        self.loop.call_later(self.head_s, close_if_idle)
