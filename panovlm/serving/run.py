"""Runs the server until it is told to stop; what is at work then is finished first."""

import logging
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from panovlm.answering.assistant import Assistant
from panovlm.answering.prefixes import PrefixStore
from panovlm.serving.app import create_app
from panovlm.serving.limits import Limits


def serve(
    model: Path,
    *,
    host: str,
    port: int,
    keys: Sequence[str],
    limits: Limits,
    prefixes: PrefixStore,
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
    """
    logging.basicConfig(format="%(message)s")
    logging.getLogger("panovlm.serving").setLevel(logging.INFO)
    app = create_app(Assistant.load(model, prefixes), limits=limits, keys=keys)
    uvicorn.run(
        app,
        host=host,
        port=port,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=int(limits.max_s),
    )
