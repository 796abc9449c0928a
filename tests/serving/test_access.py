"""Who may ask: no page of another origin, nobody unnoticed from outside, over TLS where wanted."""

import json
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from asking import LIMITS, PATH, Ask, TestClient

from panovlm.inference.assistant import Assistant
from panovlm.serving.app import create_app
from panovlm.serving.middleware import Access
from panovlm.training.outputs import STAGE_FACTS

Cli = Any


def code_of(reply: Any) -> tuple[int, str]:
    error = reply.json().get("error")
    return reply.status_code, error["code"] if error else ""


@pytest.mark.parametrize(
    "kind", ["text/plain", "", "application/x-www-form-urlencoded", "application/json-seq"]
)
def test_only_json_is_taken_since_pages_may_send_other_types_unasked(
    client: TestClient, body: Ask, kind: str
) -> None:
    reply = client.post(PATH, json=body(), headers={"content-type": kind})
    assert code_of(reply) == (415, "unsupported_media_type")
    for good in ("application/json; charset=utf-8", "Application/JSON"):
        reply = client.post(PATH, json=body(max_tokens=1), headers={"content-type": good})
        assert code_of(reply) == (200, "")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example"])
def test_names_that_lead_here_by_rebinding_are_refused(client: TestClient, host: str) -> None:
    for path in ("/", "/v1/models", "/health"):
        assert code_of(client.get(path, headers={"host": host})) == (403, "foreign_host")


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "192.168.1.7:80", "[::1]:8000"])
def test_addresses_and_localhost_are_the_servers_own(client: TestClient, host: str) -> None:
    assert client.get("/health", headers={"host": host}).status_code == 200


def test_the_servers_names_are_its_own_and_any_is_where_keys_are_needed(
    assistant: Assistant,
) -> None:
    for access in (Access(names=["Panorama.example"]), Access(keys=["key"])):
        with TestClient(create_app(assistant, limits=LIMITS, access=access)) as client:
            headers = {"host": "panorama.example:443", "authorization": "bearer key"}
            assert client.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://localhost:9", "null", "http://localhost.evil", ""]
)
def test_pages_of_other_origins_are_refused(client: TestClient, body: Ask, origin: str) -> None:
    reply = client.post(PATH, json=body(), headers={"origin": origin})
    assert code_of(reply) == (403, "foreign_origin")
    assert "access-control-allow-origin" not in reply.headers


def test_the_servers_own_page_may_ask(client: TestClient, body: Ask) -> None:
    for host in ("localhost", "localhost:8000"):
        headers = {"origin": f"http://{host}", "host": host}
        assert client.post(PATH, json=body(max_tokens=1), headers=headers).status_code == 200


@pytest.mark.parametrize("origins", [["https://good.example"], ["*"]])
def test_pages_of_allowed_origins_may_ask_and_read(
    assistant: Assistant, body: Ask, origins: list[str]
) -> None:
    access = Access(origins=origins)
    headers = {"origin": "https://good.example", "access-control-request-method": "POST"}
    asking = {"access-control-request-headers": "content-type,x-stainless-os"}
    with TestClient(create_app(assistant, limits=LIMITS, access=access)) as client:
        for reply in (
            client.options(PATH, headers=headers | asking),
            client.post(PATH, json=body(max_tokens=1), headers=headers),
        ):
            assert reply.status_code == 200
            assert reply.headers["access-control-allow-origin"] in ("https://good.example", "*")
        other = client.post(PATH, json=body(max_tokens=1), headers={"origin": "https://evil.test"})
        assert other.status_code == (200 if origins == ["*"] else 403)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What uvicorn would have run with."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: calls.append(options | {"app": app}))
    monkeypatch.delenv("PANOVLM_API_KEYS", raising=False)
    return calls


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "panorama.example"])
def test_a_public_address_without_a_key_is_refused_unless_said_twice(
    saved_model: Path, run_cli: Cli, served: list[dict[str, Any]], host: str, tmp_path: Path
) -> None:
    status, _, errors = run_cli("serve", saved_model, "--host", host)
    assert (status, served) == (2, [])
    assert f"--host {host}" in errors
    assert "--without-key" in errors
    keys = tmp_path / "keys"
    keys.write_text("one\n\ntwo\n")
    if host == "0.0.0.0":
        assert run_cli("serve", saved_model, "--host", host, "--without-key")[0] == 0
        assert run_cli("serve", saved_model, "--host", host, "--key-file", keys)[0] == 0
        assert [each["host"] for each in served] == [host] * 2


def test_files_of_keys_and_of_tls_are_checked(
    saved_model: Path, run_cli: Cli, served: list[dict[str, Any]], tmp_path: Path
) -> None:
    empty = tmp_path / "keys"
    empty.write_text("\n")
    for words, message in (
        (["--key-file", tmp_path / "none"], "cannot read"),
        (["--key-file", empty], "found no API key in"),
        (["--tls-cert", empty, "--tls-key", empty], "as PEM"),
        (["--tls-key", empty], "--tls-cert is missing"),
    ):
        status, _, errors = run_cli("serve", saved_model, *words)
        assert (status, served) == (2, [])
        assert message in errors


def test_a_certificate_reaches_the_server(
    saved_model: Path, run_cli: Cli, served: list[dict[str, Any]], tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-out", str(chain), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    assert run_cli("serve", saved_model, "--tls-cert", chain, "--tls-key", key)[0] == 0
    config = uvicorn.Config(**served[0])
    config.load()
    assert isinstance(config.ssl, ssl.SSLContext)


def test_scenes_are_offered_to_a_model_that_speaks_of_nothing_else(
    saved_model: Path, run_cli: Cli, served: list[dict[str, Any]], tmp_path: Path
) -> None:
    model = shutil.copytree(saved_model, tmp_path / "copy")

    def offered(*words: Any) -> int:
        assert run_cli("serve", model, *words)[0] == 0
        with TestClient(served[-1]["app"]) as client:
            return len(client.get("/examples").json())

    assert offered() == 0
    for name, count in (("smollm2-135m-instruct", 0), ("scene-lm", 4)):
        (model / STAGE_FACTS).write_text(json.dumps({"model": {"language_model": name}}))
        assert offered() == count
    assert offered("--examples", "none") == 0
    status, _, errors = run_cli("serve", model, "--examples", "nowhere")
    assert status == 2
    assert "found no folder nowhere" in errors
