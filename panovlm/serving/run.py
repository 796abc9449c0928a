"""Runs the server until it is stopped; running answers are finished first."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from panovlm.inference.assistant import Assistant
from panovlm.inference.prefixes import PrefixStore
from panovlm.runtime.arithmetic import Dtype
from panovlm.serving import examples
from panovlm.serving.app import create_app
from panovlm.serving.connections import Connection
from panovlm.serving.fetching import Fetcher, parse_hosts
from panovlm.serving.limits import Limits


def serve(
    model: Path,
    *,
    host: str,
    port: int,
    keys: Sequence[str],
    limits: Limits,
    prefixes: PrefixStore,
    allow_hosts: str = "",
    dtype: Dtype = "auto",
) -> None:
    """Serve a model (a folder or a run) over HTTP: the arguments are those of `panovlm serve`.

    SIGTERM and SIGINT end it: no new connection is accepted, running answers are finished.
    """
    hosts = parse_hosts(allow_hosts)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("panovlm.serving").setLevel(logging.INFO)
    fetcher = Fetcher(hosts, limits.max_body_bytes) if hosts else None
    # While the model is loaded, so that nobody waits for them.
    threading.Thread(target=examples.render_all, name="examples", daemon=True).start()
    assistant = Assistant.load(model, prefixes, dtype)
    app = create_app(assistant, limits=limits, keys=keys, fetcher=fetcher)
    uvicorn.run(
        app,
        host=host,
        port=port,
        http=Connection,
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=int(limits.max_s),
    )
