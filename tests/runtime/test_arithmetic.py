"""The arithmetic is chosen by what the device is faster at."""

import pytest
import torch

from panovlm.runtime import arithmetic
from panovlm.runtime.arithmetic import uses_bf16


@pytest.fixture(autouse=True)
def cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arithmetic._bf16_is_faster.cache_clear()
    yield
    arithmetic._bf16_is_faster.cache_clear()


def clock(monkeypatch, seconds_of):
    """Let products take as long as their type says."""
    now = [0.0]

    def product(factor, weight):
        now[0] += seconds_of[factor.dtype]

    monkeypatch.setattr(arithmetic, "linear", product)
    monkeypatch.setattr(arithmetic.time, "thread_time", lambda: now[0])


@pytest.mark.parametrize(("bf16_seconds", "expected"), [(0.1, True), (0.9, False), (30.0, False)])
def test_bf16_is_used_where_its_products_are_faster(monkeypatch, bf16_seconds, expected):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    clock(monkeypatch, {torch.float32: 1.0, torch.bfloat16: bf16_seconds})
    assert uses_bf16("auto") is expected


def test_timing_leaves_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    before = torch.get_num_threads()
    uses_bf16("auto")
    assert torch.get_num_threads() == before


def test_emulated_bf16_is_not_even_timed(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    monkeypatch.setattr(arithmetic, "linear", None)
    assert not uses_bf16("auto")


def test_what_is_asked_for_is_used():
    assert uses_bf16("bf16")
    assert not uses_bf16("fp32")
