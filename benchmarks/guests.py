"""Questions a second over HTTP: other people's models asked one at a time against sixteen at once.

    python benchmarks/guests.py DATA [--limit 200] [--delay 0.2] [--kill-after 60]

A stub in a process of its own stands in the place of the model: it takes `--delay` seconds for each
answer, so that all else is the evaluation's own work. Prints questions a second for each way to
show a panorama. Then the command is killed (SIGKILL) once the stub has answered `--kill-after`
questions, and started again: how many answers were kept, and how many questions the stub answered
twice, of which no more than were under way may be. The exit code is 1 if there were more. Writes
nothing.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar
from urllib.request import urlopen

from panovlm.evaluation.asking import EvaluationOptions
from panovlm.evaluation.run import evaluate
from panovlm.figures.showing import WAYS
from panovlm.inference.guests import guest_of

AT_ONCE = 16
REPLY = json.dumps({"choices": [{"message": {"content": "left"}}]}).encode()


class Stub(BaseHTTPRequestHandler):
    """Answers everything alike, and says how often it answered each request."""

    delay_s = 0.0
    answered: ClassVar[Counter[str]] = Counter()
    lock = threading.Lock()

    def do_POST(self) -> None:
        """Read the request, wait, and answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.delay_s)
        self._send(REPLY)
        with self.lock:
            self.answered[hashlib.sha256(body).hexdigest()] += 1

    def do_GET(self) -> None:
        """Send how often each request was answered."""
        with self.lock:
            self._send(json.dumps(self.answered).encode())

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Stay silent."""


def main() -> int:
    """Measure each way, kill and resume, and print what that gave."""
    options = _options()
    with stub(options.delay) as port, tempfile.TemporaryDirectory() as folder:
        found = speeds(options, port, Path(folder))
    with stub(options.delay) as port, tempfile.TemporaryDirectory() as folder:
        resumed = killed(options, port, Path(folder) / "killed.json")
    print(json.dumps({"delay_s": options.delay, "questions_per_second": found} | resumed, indent=2))
    return int(resumed["killed"]["answered_twice"] > AT_ONCE)


def speeds(options: argparse.Namespace, port: int, folder: Path) -> dict[str, dict[str, float]]:
    """Return questions a second by the way to show panoramas, one and sixteen at a time."""
    found: dict[str, dict[str, float]] = {}
    for show in WAYS:
        for at_once in (1, AT_ONCE):
            guest = guest_of(_name(port), at_once=at_once)
            started = time.perf_counter()
            report = evaluate(
                guest or options.data,
                options.data,
                folder / f"{show}-{at_once}.json",
                limit=options.limit,
                options=EvaluationOptions("none", show=show),
            )
            per_s = report["usage"]["answers"] / (time.perf_counter() - started)
            found.setdefault(show, {})[f"{at_once} at once"] = round(per_s, 1)
    return found


def killed(options: argparse.Namespace, port: int, out: Path) -> dict[str, dict[str, int]]:
    """Kill the command in the middle and start it again; return what was kept and asked twice."""
    command = [sys.executable, "-m", "panovlm", "evaluate", _name(port), "--data", options.data]
    command += ["--out", out, "--limit", options.limit, "--show", "view", "--baselines", "none"]
    command = [*map(str, command)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while sum(_answered(port).values()) < options.kill_after:
        if first.poll() is not None:
            raise SystemExit(f"ended before {options.kill_after} answers; raise --limit")
        time.sleep(0.02)
    first.kill()
    first.wait()
    lines = out.with_suffix(".jsonl").read_text().splitlines()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    counts = _answered(port)
    report = json.loads(out.read_text())
    return {
        "killed": {
            "answers_kept": len(lines) - 1,
            "questions": report["usage"]["answers"],
            "answered_twice": sum(count - 1 for count in counts.values()),
        }
    }


def _name(port: int) -> str:
    return f"openai:http://127.0.0.1:{port}/v1#stub"


def _answered(port: int) -> dict[str, int]:
    with urlopen(f"http://127.0.0.1:{port}/") as reply:
        counts: dict[str, int] = json.loads(reply.read())
    return counts


@contextmanager
def stub(delay_s: float) -> Iterator[int]:
    """Run the stub in a process of its own; return its port."""
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=serve, args=(theirs, delay_s), daemon=True)
    process.start()
    yield ours.recv()
    process.terminate()
    process.join()


def serve(port_to: Connection, delay_s: float) -> None:
    """Serve until the process ends."""
    Stub.delay_s = delay_s
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    port_to.send(server.server_port)
    server.serve_forever()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="records")
    parser.add_argument("--limit", type=int, default=200, help="questions")
    parser.add_argument("--delay", type=float, default=0.2, help="seconds of the stub's answer")
    parser.add_argument("--kill-after", type=int, default=60, help="answers before the kill")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
