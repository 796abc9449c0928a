"""A server in place of other people's models: it notes what it is asked, and answers at once."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[int, str], tuple[int, str]]
"""Takes the number of the request and the last text of it; returns a status and a text."""


@dataclass
class Stub:
    """What a stub was asked; `answer` may be changed while it runs."""

    answer: Answer = lambda number, text: (200, "left")
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    answered: Counter[str] = field(default_factory=Counter)
    meeting: threading.Barrier | None = None

    def name(self) -> str:
        """As the command takes it."""
        return f"openai:{self.url}#seer"


@contextmanager
def stub_endpoint() -> Iterator[Stub]:
    """Run a stub in threads."""
    stub, lock = Stub(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                stub.bodies.append(body)
                stub.keys.add(self.headers["Authorization"])
                status, text = stub.answer(
                    len(stub.bodies), body["messages"][-1]["content"][-1]["text"]
                )
                if status == 200:
                    stub.answered[json.dumps(body)] += 1
            if stub.meeting is not None:
                stub.meeting.wait(20)
            reply = {
                "choices": [{"message": {"content": text}}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 2},
            }
            self.send_response(status)
            self.end_headers()
            self.wfile.write(
                json.dumps(reply if status == 200 else {"error": {"message": text}}).encode()
            )

        def log_message(self, *args: Any) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
