"""Questions a second over HTTP: other people's models asked one at a time against sixteen at once.

    python benchmarks/guests.py DATA [--limit 200] [--delay 0.2]

A stub in a process of its own stands in the place of the model: it takes `--delay` seconds for each
answer, so that all else is the evaluation's own work. Prints questions a second for each way to
show a panorama. Writes nothing.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from panovlm.evaluation.asking import EvaluationOptions
from panovlm.evaluation.run import evaluate
from panovlm.figures.showing import WAYS
from panovlm.inference.guests import guest_of

REPLY = json.dumps({"choices": [{"message": {"content": "left"}}]}).encode()


class Stub(BaseHTTPRequestHandler):
    """Answers everything alike."""

    delay_s = 0.0

    def do_POST(self) -> None:
        """Read the request, wait, and answer."""
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.delay_s)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(REPLY)

    def log_message(self, *args: Any) -> None:
        """Stay silent."""


def main() -> None:
    """Measure each way and print what it gave."""
    options = _options()
    found: dict[str, dict[str, float]] = {}
    with stub(options.delay) as port, tempfile.TemporaryDirectory() as folder:
        for show in WAYS:
            for at_once in (1, 16):
                guest = guest_of(f"openai:http://127.0.0.1:{port}/v1#stub", at_once=at_once)
                out = Path(folder) / f"{show}-{at_once}.json"
                started = time.perf_counter()
                report = evaluate(
                    guest or options.data,
                    options.data,
                    out,
                    limit=options.limit,
                    options=EvaluationOptions("none", show=show),
                )
                per_s = report["usage"]["answers"] / (time.perf_counter() - started)
                found.setdefault(show, {})[f"{at_once} at once"] = round(per_s, 1)
    print(json.dumps({"delay_s": options.delay, "questions_per_second": found}, indent=2))


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
    return parser.parse_args()


if __name__ == "__main__":
    main()
