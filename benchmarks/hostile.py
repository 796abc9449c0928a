"""The server under many clients at once, without and with hostile ones beside them.

    python benchmarks/hostile.py --json OUT [--clients 64] [--hostile 8] [--seconds 120] [--assert]

Both sides are `panovlm serve` on the same model in processes of their own, one after the other. The
honest clients are those of `benchmarks/serving.py`; each hostile one, until the time is over, does
one thing after the other: a text of megabytes, a body that comes byte by byte, a giant schema, a
question that it does not wait for, a study of which views mattered to a long answer. Lost is an
honest request without a whole answer. Nothing but the loopback interface is used.
"""

import argparse
import base64
import http.client
import json
import random
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from reporting import print_tables
from serving import ANSWER_TOKENS, PATH, QUESTIONS, Server, body, load, load_parser, picture, served
from serving_model import write_model

WANTED_P99, WANTED_GROWTH = 1.5, 1.1
STUDIES = "/v1/views/mattered"
Attack = Callable[[Server, random.Random, dict[str, Any]], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if `--assert` is given and a figure is missed."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as workplace:
        model = options.model or write_model(Path(workplace), options.size)
        sides = {
            "honest clients alone": measured(model, options, 0),
            "with hostile ones": measured(model, options, options.hostile),
        }
    alone, beside = sides.values()
    memory = beside["memory_mb"]
    report = {
        "sides": sides,
        "lost": beside["lost"],
        "p99_ratio": beside["p99_s"] / alone["p99_s"],
        "memory_growth": memory["second_half"] / memory["first_half"],
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=2) + "\n")
    show(report)
    holds = (
        report["lost"] == 0
        and report["p99_ratio"] <= WANTED_P99
        and report["memory_growth"] <= WANTED_GROWTH
    )
    return int(options.must_hold and not holds)


def measured(model: Path, options: argparse.Namespace, num_hostile: int) -> dict[str, Any]:
    """Measure the honest clients in a fresh server, beside so many hostile ones."""
    pictures = [picture(number, options.width) for number in range(options.panoramas)]
    urls = [f"data:image/jpeg;base64,{base64.b64encode(data).decode()}" for data in pictures]
    bodies = [
        body(url, question, length)
        for url in urls
        for question in QUESTIONS
        for length in ANSWER_TOKENS
    ]
    places = ["--max-requests", str(2 * (options.clients + options.hostile))]
    with (
        served(model, places, options) as server,
        ThreadPoolExecutor(max(num_hostile, 1)) as threads,
    ):
        end = time.monotonic() + options.seconds
        asked = json.loads(bodies[-1])
        done = [
            threads.submit(attack_until, server, number, asked, end)
            for number in range(num_hostile)
        ]
        found = load(server, bodies, options.clients, options.seconds)
        attacks = sum((each.result() for each in done), Counter())
    return {**found, "attacks": dict(attacks)}


def attack_until(server: Server, number: int, asked: dict[str, Any], end: float) -> Counter[str]:
    """Attack until the time is over; count what the server replied to each kind."""
    rng = random.Random(number)
    replies: Counter[str] = Counter()
    turn = number
    while not turn - number or time.monotonic() < end:
        name, attack = list(ATTACKS.items())[turn % len(ATTACKS)]
        turn += 1
        try:
            replies[f"{name}: {attack(server, rng, dict(asked))}"] += 1
        except (OSError, http.client.HTTPException):
            replies[f"{name}: cut off"] += 1
    return replies


def _post(server: Server, asked: dict[str, Any], path: str = PATH, timeout: float = 300) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(asked).encode(), headers)
        return connection.getresponse().status
    finally:
        connection.close()


def huge_text(server: Server, rng: random.Random, asked: dict[str, Any]) -> int:
    """Ask with megabytes of text."""
    text = "word " * rng.randrange(200_000, 2_000_000)
    return _post(server, {**asked, "messages": [{"role": "user", "content": text}]})


def slow_body(server: Server, rng: random.Random, asked: dict[str, Any]) -> int:
    """Send half a request, then a byte now and then."""
    content = json.dumps(asked).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=2) as client:
        client.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode())
        client.sendall(content[: len(content) // 2])
        for place in range(rng.randrange(2, 6)):
            client.sendall(content[place : place + 1])
            time.sleep(0.2)
    return 0


def giant_schema(server: Server, rng: random.Random, asked: dict[str, Any]) -> int:
    """Ask for JSON of a schema with hundreds of alternatives, never the same twice."""
    alternatives = [
        {"type": "object", "properties": {f"k{rng.random()}": {"type": "string"}}}
        for _ in range(rng.randrange(200, 900))
    ]
    schema = {"name": "giant", "schema": {"anyOf": alternatives}}
    return _post(
        server, {**asked, "response_format": {"type": "json_schema", "json_schema": schema}}
    )


def leave(server: Server, rng: random.Random, asked: dict[str, Any]) -> int:
    """Ask for a long answer and leave at once."""
    with suppress(TimeoutError):
        _post(server, {**asked, "max_tokens": 1024}, timeout=rng.uniform(0.05, 0.5))
    return 0


def study(server: Server, rng: random.Random, asked: dict[str, Any]) -> int:
    """Ask which views mattered to a long answer."""
    answer = {"role": "assistant", "content": "a blue cube " * rng.randrange(5, 20)}
    return _post(server, {"model": "panovlm", "messages": [*asked["messages"], answer]}, STUDIES)


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack for attack in (huge_text, slow_body, giant_schema, leave, study)
}


def show(report: dict[str, Any]) -> None:
    """Print the figures."""
    head = ["", "answers/s", "p50, s", "p99, s", "lost / asked", "memory, most in either half, MiB"]
    rows = [head]
    for side, found in report["sides"].items():
        figures = [f"{found[name]:.2f}" for name in ("answers_per_s", "p50_s", "p99_s")]
        halves = [f"{found['memory_mb'][name]:.0f}" for name in ("first_half", "second_half")]
        rows.append([side, *figures, f"{found['lost']} / {found['requests']}", ", ".join(halves)])
    wanted = [
        ["", "wanted", "found"],
        ["lost beside hostile clients", "0", str(report["lost"])],
        ["p99, ÷ without them", f"at most {WANTED_P99}", f"{report['p99_ratio']:.2f}"],
        [
            "memory, second half ÷ first",
            f"at most {WANTED_GROWTH}",
            f"{report['memory_growth']:.2f}",
        ],
    ]
    attacks = report["sides"]["with hostile ones"]["attacks"]
    replies = [["attack: status (0: not waited for)", "times"]]
    replies += [[name, str(count)] for name, count in sorted(attacks.items())]
    titles = ("honest clients", "wanted and found", "replies to hostile clients")
    print_tables(__doc__.splitlines()[0], list(zip(titles, (rows, wanted, replies), strict=True)))


def _parser() -> argparse.ArgumentParser:
    parser = load_parser(__doc__.splitlines()[0])
    parser.add_argument("--hostile", type=int, default=8, help="hostile clients beside them")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
