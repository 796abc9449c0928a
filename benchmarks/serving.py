"""The server under many clients at once: with batches, and answering one question at a time.

    python benchmarks/serving.py --json OUT [--docs docs/lab/serving.md] [--model DIR]

Both sides are `panovlm serve` on the same model in processes of their own, one after the other,
with the same clients: one takes `--batch-size 1 --num-panoramas 0`. Each client asks, waits for the
whole answer, and asks again until the time is over; an incomplete answer counts as lost.
Time to the first token is that of an answer of one token, alone on the server. Without a model a
small one with random weights is made. Nothing but the loopback interface is used.
"""

import argparse
import base64
import http.client
import io
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from serving_model import write_model

SIDES = {
    "panovlm serve": [],
    "one at a time": ["--batch-size", "1", "--num-panoramas", "0"],
}
"""What is measured, and the options of the server for it."""
OURS, ALONE = SIDES
ANSWER_TOKENS = (8, 16, 32)
"""Longest answers."""
QUESTIONS = ("What is behind me?", "Is there a door to the left, and what stands beside it?", "Up?")
WANTED_THROUGHPUT, WANTED_SECOND, WANTED_GROWTH = 4.5, 0.1, 1.05
START_S, ANSWER_S = 300, 900
SAMPLE_S = 0.25
"""Between two samples of the server's memory."""
PATH = "/v1/chat/completions"

Table = list[list[str]]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one request."""

    status: int
    seconds: float
    tokens: int


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    process: psutil.Process

    def memory_mb(self) -> float:
        """Return its resident memory in MiB."""
        return float(self.process.memory_info().rss / 2**20)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Returns:
        The exit status: 1 if `--assert` is given and a figure is missed.
    """
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as workplace:
        model = options.model or write_model(Path(workplace), options.size)
        pictures = [picture(number, options.width) for number in range(options.panoramas)]
        sides = {side: measured(side, model, pictures, options) for side in SIDES}
    report = {"settings": settings_of(options), "environment": environment(), "sides": sides}
    report["criteria"] = criteria(sides)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=2) + "\n")
    show(report)
    if options.docs is not None:
        write_docs(report, options.docs)
    return int(options.must_hold and not all(each["met"] for each in report["criteria"]))


def picture(number: int, width: int) -> bytes:
    """Return a panorama of smooth random colours as JPEG."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (32, 64, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, width // 2), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def measured(
    side: str, model: Path, pictures: list[bytes], options: argparse.Namespace
) -> dict[str, Any]:
    """Measure one side in a fresh server."""
    urls = [f"data:image/jpeg;base64,{base64.b64encode(data).decode()}" for data in pictures]
    with served(model, SIDES[side], options) as server:
        tokens = first_tokens(server, options)
        bodies = [
            body(url, question, length)
            for url in urls
            for question in QUESTIONS
            for length in ANSWER_TOKENS
        ]
        loaded = load(server, bodies, options.clients, options.seconds)
    return {"first_token": tokens, **loaded}


def body(url: str, question: str, max_tokens: int) -> bytes:
    """Write a request."""
    parts = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": question},
    ]
    messages = [{"role": "user", "content": parts}]
    return json.dumps({"model": "panovlm", "messages": messages, "max_tokens": max_tokens}).encode()


@contextmanager
def served(model: Path, words: list[str], options: argparse.Namespace) -> Iterator[Server]:
    """Run a server while the context is open."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "panovlm", "serve", str(model), "--port", str(port)]
    command += ["--max-requests", str(2 * options.clients), "--max-seconds", str(ANSWER_S), *words]
    threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    env = {**os.environ, **threads, "PANOVLM_API_KEYS": ""}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output)
        try:
            if not _answers(port, process):
                output.seek(0)
                raise SystemExit(f"the server did not start:\n{output.read().decode()[-3000:]}")
            yield Server(port, psutil.Process(process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            time.sleep(0.2)
    return False


def first_tokens(server: Server, options: argparse.Namespace) -> dict[str, float]:
    """Ask twice about panoramas that the server has not seen; return medians in seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_S)
    seconds: dict[str, list[float]] = {"first": [], "second": []}
    for number in range(options.repeats):
        data = picture(1000 + number, options.width)
        url = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
        for place, question in zip(seconds, QUESTIONS, strict=False):
            outcome = ask(connection, body(url, question, 1))
            if outcome.status != 200:
                raise SystemExit(f"found status {outcome.status} on an idle server")
            seconds[place].append(outcome.seconds)
    return {place: statistics.median(each) for place, each in seconds.items()}


def ask(connection: http.client.HTTPConnection, asked: bytes) -> Outcome:
    """Ask and wait for the whole answer; status 0 where it failed."""
    began = time.perf_counter()
    try:
        connection.request("POST", PATH, asked, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        answer = json.loads(reply.read())
        tokens = answer["usage"]["completion_tokens"] if reply.status == 200 else 0
        return Outcome(reply.status, time.perf_counter() - began, tokens)
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        connection.close()
        return Outcome(0, time.perf_counter() - began, 0)


def load(server: Server, bodies: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """Let clients ask until the time is over, after one question about each panorama."""
    with ThreadPoolExecutor(clients + 1) as threads:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_S)
        for asked in bodies[:: len(QUESTIONS) * len(ANSWER_TOKENS)]:
            ask(connection, asked)
        connection.close()
        began = time.perf_counter()
        end = time.monotonic() + seconds
        samples = threads.submit(_memory_until, server, end)
        rounds = threads.map(lambda number: _client(server, bodies, number, end), range(clients))
        outcomes = [each for client in rounds for each in client]
        took = time.perf_counter() - began
        memory = [*samples.result(), server.memory_mb()]
    return _summary(outcomes, took, memory)


def _memory_until(server: Server, end: float) -> list[float]:
    """Sample resident memory, in MiB, from before the load until its end."""
    samples = [server.memory_mb()]
    while time.monotonic() < end:
        time.sleep(SAMPLE_S)
        samples.append(server.memory_mb())
    return samples


def _client(server: Server, bodies: list[bytes], number: int, end: float) -> list[Outcome]:
    """Ask at least once, and on until the time is over."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_S)
    rng = random.Random(number)
    outcomes = [ask(connection, rng.choice(bodies))]
    while time.monotonic() < end:
        outcomes.append(ask(connection, rng.choice(bodies)))
    connection.close()
    return outcomes


def _summary(outcomes: list[Outcome], took: float, memory: list[float]) -> dict[str, Any]:
    answered = [each for each in outcomes if each.status == 200]
    waits = [each.seconds for each in answered] or [float("nan")]
    quantiles = {f"p{percent}_s": float(np.percentile(waits, percent)) for percent in (50, 95, 99)}
    return {
        "requests": len(outcomes),
        "lost": len(outcomes) - len(answered),
        "seconds": took,
        "answers_per_s": len(answered) / took,
        "tokens_per_s": sum(each.tokens for each in answered) / took,
        **quantiles,
        "memory_mb": {
            "start": memory[0],
            "first_half": max(memory[: len(memory) // 2]),
            "second_half": max(memory[len(memory) // 2 :]),
            "end": memory[-1],
        },
    }


def criteria(sides: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare the measured figures with the wanted ones."""
    ours, alone = sides[OURS], sides[ALONE]
    throughput = ours["answers_per_s"] / alone["answers_per_s"]
    second = ours["first_token"]["second"] / ours["first_token"]["first"]
    growth = ours["memory_mb"]["second_half"] / ours["memory_mb"]["first_half"]
    found = [
        ("answers a second, ÷ one at a time", "at least", WANTED_THROUGHPUT, throughput),
        ("lost requests", "at most", 0, ours["lost"]),
        ("most memory in the second half, ÷ in the first", "at most", WANTED_GROWTH, growth),
        ("first token, second question ÷ first", "at most", WANTED_SECOND, second),
    ]
    return [
        {
            "claim": claim,
            "wanted": f"{bound} {wanted:g}",
            "found": figure,
            "met": figure >= wanted if bound == "at least" else figure <= wanted,
        }
        for claim, bound, wanted, figure in found
    ]


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of the run."""
    names = ("clients", "seconds", "panoramas", "width", "threads", "repeats")
    settings = {name: getattr(options, name) for name in names}
    model = options.model.name if options.model else f"random weights, size {options.size}"
    return {"model": model, **settings, "answer_tokens": ANSWER_TOKENS}


def environment() -> dict[str, Any]:
    """Return the machine and the software of the run."""
    from reporting import cpu_model, version_of

    packages = ("panovlm", "torch", "transformers", "fastapi", "uvicorn")
    return {
        "cpu": cpu_model(),
        "logical_cpus": os.cpu_count(),
        "load_average_at_end": os.getloadavg()[0],
        "nice": os.nice(0),
        "python": platform.python_version(),
        "packages": {package: version_of(package) for package in packages},
    }


def side_table(sides: dict[str, dict[str, Any]]) -> Table:
    """Return the table of both sides."""
    head = ["server", "answers/s", "tokens/s", "p50, s", "p95, s", "p99, s", "lost / asked"]
    head += [
        "memory at start, most in either half, at end, MiB",
        "first token, first / second question, ms",
    ]
    rows = [head]
    for side, found in sides.items():
        figures = [f"{found[name]:.1f}" for name in ("answers_per_s", "tokens_per_s")]
        figures += [f"{found[name]:.2f}" for name in ("p50_s", "p95_s", "p99_s")]
        memory = ", ".join(f"{value:.0f}" for value in found["memory_mb"].values())
        first = " / ".join(f"{value * 1000:.0f}" for value in found["first_token"].values())
        rows.append([side, *figures, f"{found['lost']} / {found['requests']}", memory, first])
    return rows


def criteria_table(found: list[dict[str, Any]]) -> Table:
    """Return the table of wanted and found figures."""
    from reporting import verdict

    rows = [["criterion", "wanted", "found", ""]]
    for each in found:
        rows.append([each["claim"], each["wanted"], f"{each['found']:.2f}", verdict(each["met"])])
    return rows


def environment_line(report: dict[str, Any]) -> str:
    """Return the conditions of the run in one paragraph."""
    from reporting import software

    made, settings = report["environment"], report["settings"]
    return (
        f"{made['cpu']}, {made['logical_cpus']} logical CPUs, shared by the server "
        f"({settings['threads']} thread(s)) and its clients, niceness {made['nice']}, load average "
        f"{made['load_average_at_end']:.1f}; model: {settings['model']}; {settings['clients']} "
        f"clients for {settings['seconds']:g} s on each side, asking about "
        f"{settings['panoramas']} panoramas of {settings['width']} px, answers of up to "
        f"{', '.join(map(str, settings['answer_tokens']))} tokens at random; first tokens are "
        f"medians of {settings['repeats']}; {software(made)}."
    )


def tables(report: dict[str, Any]) -> list[tuple[str, Table]]:
    """Return all tables, each with its title."""
    return [
        ("both servers", side_table(report["sides"])),
        ("wanted and found", criteria_table(report["criteria"])),
    ]


def show(report: dict[str, Any]) -> None:
    """Print the tables."""
    from reporting import print_tables

    print_tables(environment_line(report), tables(report))


def write_docs(report: dict[str, Any], page: Path) -> None:
    """Write the tables to their place on a page."""
    from reporting import markdown, put_between_markers

    parts = [environment_line(report), *(markdown(rows) for _, rows in tables(report))]
    put_between_markers(page, "serving", "\n\n".join(parts))


def load_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser of the options of every benchmark of a server under many clients."""
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--json", type=Path, required=True, help="where to write the report")
    add("--model", type=Path, help="folder or run; by default a small one of random weights")
    add("--size", choices=("small", "tiny"), default="small", help="of that; tiny: for tests")
    add("--clients", type=int, default=64, help="honest ones, at the same time")
    add("--seconds", type=float, default=120.0, help="of load on each side")
    add("--panoramas", type=int, default=8, help="asked about under load")
    add("--width", type=int, default=2048, help="of the panoramas in pixels")
    add("--threads", type=int, default=1, help="threads of the server's libraries")
    add("--assert", action="store_true", dest="must_hold", help="fail unless every figure is met")
    return parser


def _parser() -> argparse.ArgumentParser:
    parser = load_parser(__doc__.splitlines()[0])
    add = parser.add_argument
    add("--docs", type=Path, help="page whose tables are replaced")
    add("--repeats", type=int, default=5, help="panoramas for the time to the first token")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
