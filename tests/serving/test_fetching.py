"""Pictures come from allowed hosts at public addresses, and never from anywhere else.

No test needs a network: names are looked up by functions of the tests, and hosts are sockets here.
"""

import asyncio
import http.server
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from asking import LIMITS, PATH, Ask, TestClient, data_url, encoded
from PIL import Image

from panovlm.errors import PanoVLMError
from panovlm.inference.assistant import Assistant
from panovlm.serving.app import create_app
from panovlm.serving.errors import RequestError
from panovlm.serving.fetching import Fetcher, Host, is_public, parse_hosts

NAME = "pictures.test"
MAX_BYTES = 200_000
INWARD = """
    0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 127.0.0.1 127.1.2.3 169.254.169.254 172.16.0.1 172.31.255.1
    192.0.0.1 192.0.2.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1
    240.0.0.1 255.255.255.255 :: ::1 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:8.8.8.8
    ::ffff:169.254.169.254 64:ff9b::127.0.0.1 64:ff9b::8.8.8.8 64:ff9b:1::1 100::1 2001::1
    2001:db8::1 2002:7f00:1:: 2002:808:808::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%lo fec0::1
    ff02::1 ff0e::1 4000::1
"""
ELSEWHERE = [
    f"https://{NAME}@evil.test/x.png",
    f"https://user:password@{NAME}/x.png",
    f"https://evil.test/{NAME}",
    f"https://evil.test#@{NAME}/",
    f"https://evil.test?@{NAME}/",
    f"https://{NAME}\\@evil.test/x.png",
    f"https://evil.test\\.{NAME}/x.png",
    f"https:\\\\{NAME}\\x.png",
    f"https://{NAME}.evil.test/x.png",
    f"https://evil{NAME}/x.png",
    f"https://sub.{NAME}/x.png",
    f"https://{NAME}./x.png",
    f"http://{NAME}/x.png",
    f"https://{NAME}:8443/x.png",
    f"https://{NAME}:443:80/x.png",
    f"https://{NAME}:99999/x.png",
    f"https://{NAME}%2eevil.test/x.png",
    f"https://{NAME}/x y.png",
    f"https://{NAME}/x.png\r\nHost: evil.test",
    f"https://{NAME}\n/x.png",
    f" https://{NAME}/x.png",
    f"https:/{NAME}/x.png",
    f"https:{NAME}/x.png",
    f"https:///{NAME}/x.png",
    "https://рictures.test/x.png",  # its first letter is Cyrillic
    "https://pictures。test/x.png",
    "https://127.0.0.1/x.png",
    "https://2130706433/x.png",
    "https://0x7f.1/x.png",
    "https://[::1]/x.png",
    "https://[::ffff:127.0.0.1]/x.png",
    "https://localhost/x.png",
    "https://169.254.169.254/latest/meta-data",
    "http://",
    "https://",
    "HTTPS://EVIL.TEST/",
    "httpx://pictures.test/x.png",
]


class Site(http.server.BaseHTTPRequestHandler):
    """A host that serves a picture, and all kinds of errors."""

    picture = b""
    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Host"]))
        acts: dict[str, Callable[[], object]] = {
            "/redirect": lambda: self._give(302, b"", Location=f"https://{NAME}/good.png"),
            "/missing": lambda: self._give(404, self.picture),
            "/page": lambda: self._give(200, b"<html>secret</html>"),
            "/large": lambda: self._give(200, self.picture + b"\0" * MAX_BYTES),
            "/endless": self._endless,
            "/slow": self._slow,
            "/short": lambda: self._give(200, self.picture[:99], **{"Content-Length": "9999"}),
            "/garbage": lambda: self._write(b"\x00\xff no http \r\n\r\n"),
            "/headers": lambda: self._write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000),
            "/nothing": lambda: None,
        }
        acts.get(self.path, lambda: self._give(200, self.picture))()

    def _write(self, data: bytes) -> bool:
        """Return whether anybody still reads."""
        try:
            self.wfile.write(data)
        except OSError:
            return False
        return True

    def _give(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "text/plain"} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self._write(data)

    def _endless(self) -> None:
        self._give(200, b"")
        while self._write(b"\0" * 65536):
            pass

    def _slow(self) -> None:
        self._give(200, b"")
        end = time.monotonic() + 10  # after which all has come
        while self._write(b"\0") and time.monotonic() < end:
            time.sleep(0.02)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(panorama: Image.Image) -> Iterator[Any]:
    own = type("OwnSite", (Site,), {"picture": encoded(panorama), "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), own)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def resolving(*addresses: str, asked: list[tuple[str, int]] | None = None) -> Any:
    async def look_up(name: str, port: int) -> list[str]:
        if asked is not None:
            asked.append((name, port))
        return list(addresses)

    return look_up


def fetcher(host: Host, **more: Any) -> Fetcher:
    """Fetches from a host that is this machine, as if that were a public address."""
    settings: dict[str, Any] = {
        "look_up": resolving("127.0.0.1"),
        "is_allowed": lambda address: True,
        "max_s": 5.0,
    }
    return Fetcher([host], MAX_BYTES, **settings | more)


def fetched(site: Any, path: str, **more: Any) -> bytes:
    port = site.server_address[1]
    url = f"http://{NAME}:{port}{path}"
    return asyncio.run(fetcher(Host("http", NAME, port), **more).fetch(url))


def refused(act: Callable[[], object]) -> RequestError:
    with pytest.raises(RequestError) as error:
        act()
    assert (error.value.status, error.value.code) == (400, "invalid_image")
    assert "127.0.0.1" not in error.value.message
    return error.value


def test_a_picture_is_fetched_from_the_address_that_was_looked_up_once(site: Any) -> None:
    looked: list[tuple[str, int]] = []
    data = fetched(site, "/good.png", look_up=resolving("127.0.0.1", "192.0.2.1", asked=looked))
    port = site.server_address[1]
    assert data == site.RequestHandlerClass.picture
    assert looked == [(NAME, port)]
    assert site.RequestHandlerClass.asked == [("/good.png", f"{NAME}:{port}")]


@pytest.mark.parametrize("address", INWARD.split())
def test_addresses_inside_or_standing_for_others_are_no_public_ones(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111"])
def test_public_addresses_are(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"], []]
)
def test_nothing_is_asked_where_any_address_of_a_name_is_inside(
    site: Any, addresses: list[str]
) -> None:
    refused(lambda: fetched(site, "/good.png", look_up=resolving(*addresses), is_allowed=is_public))
    assert site.RequestHandlerClass.asked == []


@pytest.mark.parametrize("url", ELSEWHERE)
def test_other_hosts_are_not_even_looked_up(url: str) -> None:
    looked: list[tuple[str, int]] = []
    own = fetcher(Host("https", NAME, 443), look_up=resolving("127.0.0.1", asked=looked))
    refused(lambda: asyncio.run(own.fetch(url)))
    assert looked == []


@pytest.mark.parametrize(
    "path",
    ["/redirect", "/missing", "/large", "/endless", "/short", "/garbage", "/headers", "/nothing"],
)
def test_redirects_errors_and_broken_or_endless_answers_return_nothing(
    site: Any, path: str
) -> None:
    assert refused(lambda: fetched(site, path)).message == "found no picture at that image_url"
    assert [asked for asked, _ in site.RequestHandlerClass.asked] == [path]


def test_a_slow_host_is_left_when_the_time_is_over(site: Any) -> None:
    refused(lambda: fetched(site, "/slow", max_s=0.3))


def test_closed_ports_and_unknown_names_read_like_everything_else(site: Any) -> None:
    async def unknown(name: str, port: int) -> list[str]:
        raise socket.gaierror("no such name")

    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    closed = fetcher(Host("http", NAME, port))
    messages = {
        refused(lambda: asyncio.run(closed.fetch(f"http://{NAME}:{port}/"))).message,
        refused(lambda: fetched(site, "/", look_up=unknown)).message,
        refused(lambda: fetched(site, "/missing")).message,
    }
    assert len(messages) == 1


def test_settings_of_proxies_are_not_read(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert fetched(site, "/good.png") == site.RequestHandlerClass.picture


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for the name, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", str(key), "-out", str(chain), "-subj", f"/CN={NAME}"]
    command += ["-addext", f"subjectAltName=DNS:{NAME}"]
    subprocess.run(command, check=True, capture_output=True)
    return chain, key


@pytest.mark.parametrize("name", [NAME, "other.test"])
def test_certificates_are_checked_for_the_name_though_the_address_is_pinned(
    site: Any, certificate: tuple[Path, Path], name: str
) -> None:
    chain, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    site.socket = context.wrap_socket(site.socket, server_side=True)
    port = site.server_address[1]
    own = fetcher(
        Host("https", name, port), ssl_context=ssl.create_default_context(cafile=str(chain))
    )
    url = f"https://{name}:{port}/good.png"
    if name == NAME:
        assert asyncio.run(own.fetch(url)) == site.RequestHandlerClass.picture
    else:
        refused(lambda: asyncio.run(own.fetch(url)))
        assert site.RequestHandlerClass.asked == []


def test_a_fetched_picture_is_answered_like_one_that_was_sent(
    assistant: Assistant, body: Ask, site: Any
) -> None:
    port = site.server_address[1]
    app = create_app(assistant, limits=LIMITS, fetcher=fetcher(Host("http", NAME, port)))
    sent = data_url(site.RequestHandlerClass.picture)
    with TestClient(app) as client:
        urls = [sent, f"http://{NAME}:{port}/a", f"HTTP://{NAME.upper()}:{port}/b?c=d#e"]
        replies = [client.post(PATH, json=body(url=url)) for url in urls]
        assert [reply.status_code for reply in replies] == [200] * 3
        first, *others = (reply.json()["choices"] for reply in replies)
        assert others == [first, first]
        assert [path for path, _ in site.RequestHandlerClass.asked] == ["/a", "/b?c=d"]
        for path in ("/page", "/missing"):  # whatever it says it is, the bytes are no picture
            reply = client.post(PATH, json=body(url=f"http://{NAME}:{port}{path}"))
            assert reply.status_code == 400
            assert "secret" not in reply.text
        for url in ("file:///etc/passwd", "ftp://pictures.test/x.png", "https://evil.test/"):
            assert client.post(PATH, json=body(url=url)).status_code == 400


def test_hosts_are_read_as_names_with_https_unless_declared() -> None:
    text = "images.example.com, http://other.example.com:8080 https://third"
    assert parse_hosts(text) == [
        Host("https", "images.example.com", 443),
        Host("http", "other.example.com", 8080),
        Host("https", "third", 443),
    ]
    assert parse_hosts(" ") == []
    for wrong in ("*.example.com", "a/b", "ftp://a", "a:0", "a:99999", "a..b", "user@a", "A_b"):
        with pytest.raises(PanoVLMError, match="among the allowed hosts"):
            parse_hosts(wrong)
