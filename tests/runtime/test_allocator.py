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


RELEASED = """
from pathlib import Path
import numpy
from panovlm.runtime.allocator import keep_freed_memory, release_freed_memory
if not keep_freed_memory():
    raise SystemExit("not glibc")
def held_mb():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024
class Trainer:
    def __init__(self):
        self.weights, self.itself = numpy.ones(50_000_000), self  # 400 MB
Trainer()
before = held_mb()
release_freed_memory()
print(before - held_mb())
"""


def test_what_only_a_cycle_holds_is_given_back_to_the_system():
    done = subprocess.run([sys.executable, "-c", RELEASED], capture_output=True, text=True)
    if "not glibc" in done.stderr:
        pytest.skip("the C library is not glibc")
    assert int(done.stdout) > 350
