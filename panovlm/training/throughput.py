"""How fast a stage trains: panoramas and tokens a second, pauses for other work left out."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from panovlm.training import ranks

VIEWS = ("pixel_values", "patch_tokens", "lower_states")
"""Arguments of a model that hold one row for each panorama."""
PER_SECOND = "_per_second"
"""How the names of speeds end; two runs alike in all else differ in them."""


class Throughput:
    """Counts what is trained on between two entries of the log.

    Args:
        pad_id: Token id that fills short sequences, and is not counted.
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id
        self.restart()

    def restart(self) -> None:
        """Count from here."""
        self.panoramas = 0
        self.tokens: Tensor | int = 0
        self.since = time.perf_counter()

    def count(self, inputs: Mapping[str, Any]) -> None:
        """Count a batch; nothing waits for the device."""
        self.panoramas += next((len(inputs[key]) for key in VIEWS if key in inputs), 0)
        if "input_ids" in inputs:
            self.tokens = self.tokens + (inputs["input_ids"] != self.pad_id).sum()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time of a block."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.since += time.perf_counter() - begun

    def figures(self, device: torch.device) -> dict[str, float]:
        """Return panoramas and tokens a second of all ranks, and count anew."""
        counted = torch.tensor([self.panoramas, int(self.tokens)], device=device)
        seconds = max(time.perf_counter() - self.since, 1e-9)
        panoramas, tokens = ranks.sum_across_ranks(counted).tolist()
        self.restart()
        found = {f"panoramas{PER_SECOND}": panoramas, f"tokens{PER_SECOND}": tokens}
        return {name: count / seconds for name, count in found.items() if count}
