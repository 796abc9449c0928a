"""Memory that a process has used, and that there is."""

import os
import resource
import sys

import torch


def peak_memory_mb() -> float:
    """Return the largest memory this process has held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


def device_memory_mb() -> float:
    """Return the memory of the accelerator, or of the machine, in MiB."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[1] / 1024**2
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1024**2
