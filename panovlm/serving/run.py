"""Runs the server until it is told to stop; what is at work then is finished first."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from panovlm.inference.assistant import Assistant
from panovlm.inference.prefixes import PrefixStore
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
) -> None:
    """Serve a model (a folder or a run) over HTTP.

    SIGTERM and SIGINT end it: no new connection is taken, answers at work are finished.

    Args:
        model: Folder or run.
        host: Address to listen at.
        port: Port to listen at, 0 for any free one.
        keys: API keys, of which each request must bring one; none for an open server.
        limits: What may be asked for.
        prefixes: Where what was read of panoramas is kept.
        allow_hosts: Hosts to fetch pictures from, as `parse_hosts` reads them.

    Raises:
        PanoVLMError: If an allowed host is none, or there is no model.
    """
    hosts = parse_hosts(allow_hosts)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("panovlm.serving").setLevel(logging.INFO)
    fetcher = Fetcher(hosts, limits.max_body_bytes) if hosts else None
    # Beside the loading of the model: then nobody waits for them.
    threading.Thread(target=examples.draw_all, name="examples", daemon=True).start()
    assistant = Assistant.load(model, prefixes)
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
