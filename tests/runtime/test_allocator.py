"""Freed memory is used again."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, numpy
from panovlm.runtime.allocator import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    raise SystemExit("not glibc")
def step():
    numpy.ones(10_000_000)  # 80 MB
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True)
    if "not glibc" in done.stderr:
        pytest.skip("the C library is not glibc")
    return int(done.stdout)


def test_memory_that_was_freed_comes_without_page_faults():
    assert page_faults("kept") < page_faults("returned") / 10
