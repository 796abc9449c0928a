"""Resources that a process has used."""

import resource
import sys


def peak_memory_mb() -> float:
    """Return the largest memory this process has held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)
