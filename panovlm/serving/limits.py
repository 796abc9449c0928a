"""Bounds on what one client, and all of them together, may request."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds that hold before anything is decoded or computed.

    Attributes:
        max_body_bytes: Of a request.
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
    max_pixels: int = 75_000_000
    max_pictures: int = 4
    max_tokens: int = 1024
    max_requests: int = 64
    batch_size: int = 8
    gather_s: float = 0.005
    max_s: float = 120.0
    num_decoders: int = 2
    num_opened: int = 16
