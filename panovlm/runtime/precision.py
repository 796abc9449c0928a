"""The arithmetic that a device is fast at."""

from typing import Literal

import torch


def uses_bf16(precision: Literal["auto", "bf16", "fp32"]) -> bool:
    """Return whether to compute in bf16: as asked, or if the device has instructions for it."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
