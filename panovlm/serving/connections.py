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
    _timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._update_timeout()

    def data_received(self, data: bytes) -> None:
        """Receive data; part of a head does not extend the time."""
        super().data_received(data)
        self._update_timeout()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._update_timeout()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        self._cancel_timeout()

    def _update_timeout(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._cancel_timeout()
        elif self._timeout is None:
            self._timeout = self.loop.call_later(self.head_s, self.transport.abort)

    def _cancel_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
