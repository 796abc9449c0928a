"""Bounds on what one client, and all of them together, may request."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from fastapi import Request

from panovlm.serving.errors import RequestError

BODY_S, BODY_RATE = 10.0, 64 << 10
"""A body must come within so many seconds, and one more for each so many bytes."""


@dataclass(frozen=True)
class Limits:
    """Bounds that hold before anything is decoded or computed.

    Attributes:
        max_body_bytes: Of a request.
        max_bytes: Of all requests whose pictures are not opened yet.
        max_pixels: Of a picture; one of 12000 x 6000 passes.
        max_pictures: In one conversation.
        max_tokens: Longest answer.
        max_requests: Running and waiting requests; one more gets status 429.
        batch_size: Questions answered together.
        gather_s: How long running answers pause while questions join, in seconds; the reading of
            a question's panoramas is not cut off.
        max_s: How long a request may take, waiting included, in seconds.
        num_decoders: Pictures decoded at the same time.
        num_opened: Panoramas whose views are kept.
    """

    max_body_bytes: int = 48 << 20
    max_bytes: int = 512 << 20
    max_pixels: int = 75_000_000
    max_pictures: int = 4
    max_tokens: int = 1024
    max_requests: int = 64
    batch_size: int = 8
    gather_s: float = 0.005
    max_s: float = 120.0
    num_decoders: int = 2
    num_opened: int = 16


class Budget:
    """What all requests together may hold: bytes, or places.

    A client may take more only while as much is left as it holds: a greedy one gets no more than
    half of what is free, and small requests pass beside large ones.

    Source:
        Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches"
        (1998), with alpha = 1.
    """

    def __init__(self, total: int, error: RequestError) -> None:
        self.left, self._error = total, error
        self.held: Counter[str] = Counter()

    def check(self, client: str, amount: int) -> None:
        """Raise the error if a client may not take an amount."""
        if self.held[client] > self.left - amount:
            raise replace(self._error)

    @contextmanager
    def spending(self, client: str) -> Iterator[Callable[[int], None]]:
        """Return a function that takes an amount, until the context is left."""
        spent = 0

        def spend(amount: int) -> None:
            nonlocal spent
            self.check(client, amount)
            self._move(client, amount)
            spent += amount

        try:
            yield spend
        finally:
            self._move(client, -spent)

    def _move(self, client: str, amount: int) -> None:
        self.left -= amount
        self.held[client] += amount
        if not self.held[client]:
            del self.held[client]


async def read_body(http: Request, max_bytes: int, spend: Callable[[int], None]) -> bytearray:
    """Read a body, but never more than is allowed, nor more slowly."""
    error = RequestError(413, f"found a body of over {max_bytes} bytes", "too_large")
    declared = http.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > max_bytes:
        raise error
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S) as clock:
            begun = asyncio.get_running_loop().time()
            async for piece in http.stream():
                spend(len(piece))
                body += piece
                if len(body) > max_bytes:
                    raise error
                clock.reschedule(begun + BODY_S + len(body) / BODY_RATE)
    except TimeoutError as late:
        raise RequestError(408, "the request came in too slowly", "timeout") from late
    return body
