"""Processes that work for another end with it, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SCRIPT = """
import os, sys, time
from pathlib import Path
from panovlm.runtime.processes import mapping

def begin():
    pass

def note(place):
    Path(place, str(os.getpid())).touch()
    time.sleep(600)

if __name__ == "__main__":
    with mapping(2, begin) as apply:
        list(apply(note, [sys.argv[1]] * 2))
"""
SECONDS = 60


def is_running(process: int) -> bool:
    """Whether a process runs; one that ended may wait for init to take notice."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_workers_end_when_the_first_process_is_killed(tmp_path: Path) -> None:
    script, notes = tmp_path / "work.py", tmp_path / "notes"
    script.write_text(SCRIPT)
    notes.mkdir()
    first = subprocess.Popen([sys.executable, str(script), str(notes)])
    try:
        deadline = time.monotonic() + SECONDS
        while len(os.listdir(notes)) < 2:
            assert time.monotonic() < deadline and first.poll() is None
            time.sleep(0.1)
        workers = [int(name) for name in os.listdir(notes)]
        assert all(map(is_running, workers))
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    deadline = time.monotonic() + SECONDS
    while any(map(is_running, workers)):
        assert time.monotonic() < deadline, "workers outlive the process that they work for"
        time.sleep(0.1)
