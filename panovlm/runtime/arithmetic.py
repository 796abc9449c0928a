"""The arithmetic that a device is fast at."""

import time
from collections.abc import Iterable
from functools import cache
from typing import Literal

import torch
from torch import nn
from torch.nn.functional import linear

Dtype = Literal["auto", "bf16", "fp32"]
PRODUCT = (512, 576, 1536)
"""Tokens, width in and width out of the timed product: a layer of a small language model."""
NUM_TIMINGS = 5
MOST_TIME = 0.8
"""bf16 is chosen if its products take at most this share of float32's: not by the clock's noise."""


def uses_bf16(dtype: Dtype) -> bool:
    """Return whether to compute in bf16: as asked, or if the device's matrix products are faster.

    Instructions alone do not tell: Intel's AVX-512 multiplies bf16 at half the speed of float32,
    its AMX at many times that, and other processors in between.
    """
    if dtype != "auto":
        return dtype == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and _bf16_is_faster()


def cast_parameters(parameters: Iterable[nn.Parameter], dtype: torch.dtype) -> None:
    """Hold weights in another type; buffers, as the frequencies of positions, stay exact."""
    for parameter in parameters:
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


@cache
def _bf16_is_faster() -> bool:
    """Time matrix products on this CPU, about 100 ms in all; one answer for the whole process.

    On one thread, by its own CPU time: other work on the machine must not change the answer, or
    processes of one run would compute in different types.
    """
    tokens, width_in, width_out = PRODUCT
    factors = torch.ones(tokens, width_in), torch.ones(width_out, width_in)
    halved = factors[0].bfloat16(), factors[1].bfloat16()
    best = {factors: float("inf"), halved: float("inf")}
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(NUM_TIMINGS):
        for pair in best:
            started = time.thread_time()
            linear(*pair)
            best[pair] = min(best[pair], time.thread_time() - started)
    torch.set_num_threads(num_threads)
    return best[halved] <= MOST_TIME * best[factors]
