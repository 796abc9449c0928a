"""Runs the server until it is stopped; running answers are finished first."""

import logging
import ssl
import threading
from pathlib import Path

import uvicorn

from panovlm.errors import PanoVLMError
from panovlm.inference.assistant import Assistant
from panovlm.inference.prefixes import PrefixStore
from panovlm.runtime.arithmetic import Dtype
from panovlm.serving.app import create_app
from panovlm.serving.connections import Connection
from panovlm.serving.examples import Examples
from panovlm.serving.fetching import Fetcher, parse_hosts
from panovlm.serving.limits import Limits
from panovlm.serving.middleware import Access, is_loopback
from panovlm.serving.protocol import MODEL_NAME


def serve(
    model: Path,
    *,
    host: str,
    port: int,
    access: Access,
    limits: Limits,
    prefixes: PrefixStore,
    examples: Examples,
    allow_hosts: str = "",
    dtype: Dtype = "auto",
    model_name: str = MODEL_NAME,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    without_key: bool = False,
) -> None:
    """Serve a model (a folder or a run) over HTTP: the arguments are those of `panovlm serve`.

    SIGTERM and SIGINT end it: no new connection is accepted, running answers are finished.

    Raises:
        PanoVLMError: If others could ask without a key, or a file of TLS is invalid.
    """
    if not (access.keys or without_key or is_loopback(host)):
        raise PanoVLMError(
            f"found --host {host}, where others may reach the server, and no API key; set "
            "PANOVLM_API_KEYS or --key-file, or add --without-key to let everybody ask"
        )
    if tls_cert or tls_key:
        _check_tls(tls_cert, tls_key)
    hosts = parse_hosts(allow_hosts)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("panovlm.serving").setLevel(logging.INFO)
    fetcher = Fetcher(hosts, limits.max_body_bytes) if hosts else None
    # While the model is loaded, so that nobody waits for them.
    threading.Thread(target=examples.make_all, name="examples", daemon=True).start()
    assistant = Assistant.load(model, prefixes, dtype)
    app = create_app(
        assistant,
        limits=limits,
        access=access,
        fetcher=fetcher,
        model_name=model_name,
        examples=examples,
    )
    uvicorn.run(
        app,
        host=host,
        port=port,
        http=Connection,
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
        timeout_graceful_shutdown=int(limits.max_s),
    )


def read_keys(file: Path) -> list[str]:
    """Read API keys, one a line.

    Raises:
        PanoVLMError: If there is none.
    """
    try:
        keys = file.read_text().split()
    except (OSError, ValueError) as error:
        raise PanoVLMError(f"cannot read {file}, expected a file of API keys: {error}") from error
    if not keys:
        raise PanoVLMError(f"found no API key in {file}, expected one a line; write some")
    return keys


def _check_tls(cert: Path | None, key: Path | None) -> None:
    try:
        if cert is None:
            raise FileNotFoundError("--tls-cert is missing")
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise PanoVLMError(
            f"found --tls-cert {cert} and --tls-key {key}, expected a certificate chain and its "
            f"key as PEM: {error}; name both files"
        ) from error
