"""Connections that are closed where nobody speaks: uvicorn itself waits for a request for ever."""

import asyncio
from typing import cast

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 30.0
"""How long a client may take from connecting, or from the last answer, to the end of the next
request's head, in seconds. The bodies' time is kept where they are read."""


class Connection(H11Protocol):
    """One client's connection."""

    head_s = HEAD_S
    _closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request, but not for ever."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take data; part of a head does not put the end off."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        super().connection_lost(exc)
        self._stop_watching()

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_watching()
        elif self._closing is None:
            self._closing = self.loop.call_later(self.head_s, self.transport.abort)

    def _stop_watching(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
