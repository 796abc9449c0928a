"""Pictures fetched from allowed hosts, and from no other place.

A URL decides nothing but the path: scheme, host and port must be those of an allowed host. Its name
is resolved once, every address must be a public one, and the connection goes to the first of them,
so that a second look-up cannot lead elsewhere. Nothing follows redirects or reads proxies'
settings. All failures have the same message: it reveals nothing about the network.
"""

import asyncio
import re
import socket
from asyncio import Semaphore
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from ssl import SSLContext
from typing import Any

from httpcore2 import (
    URL,
    AnyIOBackend,
    AsyncConnectionPool,
    AsyncNetworkBackend,
    AsyncNetworkStream,
    NetworkError,
    ProtocolError,
    TimeoutException,
)

from panovlm.errors import PanoVLMError
from panovlm.serving.errors import RequestError

MAX_FETCH_S = 20.0
NUM_FETCHES = 8
"""Pictures fetched at the same time."""
_NAME = r"((?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)"
_PORT = r"(?::([0-9]{1,5}))?"
_HOST = re.compile(rf"(?:(https?)://)?{_NAME}{_PORT}")
_URL = re.compile(rf"(https?)://{_NAME}{_PORT}((?:/[!-\[\]-~]*)?)", re.IGNORECASE)
"""No user, no backslash, no letter that looks like another."""
_PORTS = {"https": 443, "http": 80}
_HEADERS: dict[bytes | str, bytes | str] = {
    "Accept": "image/*",
    "Accept-Encoding": "identity",
    "User-Agent": "panovlm",
}
_UNICAST = IPv6Network("2000::/3")
_CARRIES_IPV4 = [IPv6Network(each) for each in ("2001::/32", "2002::/16")]
"""Teredo and 6to4, which embed the address of another host."""

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True)
class Host:
    """A host to fetch from."""

    scheme: str
    name: str
    port: int

    @classmethod
    def of(cls, scheme: str | None, name: str, port: str | None) -> "Host":
        """Complete the parts of a URL or setting, in any case, with HTTPS and its port."""
        scheme = (scheme or "https").lower()
        return cls(scheme, name.lower(), int(port) if port else _PORTS[scheme])


def parse_hosts(text: str) -> list[Host]:
    """Read hosts, separated by commas or spaces: `example.com`, or `http://example.com:8080`.

    Raises:
        PanoVLMError: If one is invalid.
    """
    hosts = []
    for word in text.replace(",", " ").split():
        found = _HOST.fullmatch(word)
        if found is None or int(found[3] or 1) not in range(1, 65536):
            raise PanoVLMError(
                f"found {word!r} among the allowed hosts, expected a name such as "
                "images.example.com, or http://images.example.com:8080; name each host by itself"
            )
        hosts.append(Host.of(*found.groups()))
    return hosts


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet and embeds no other."""
    if isinstance(address, IPv6Address) and (
        address not in _UNICAST  # as mapped IPv4 and NAT64 are
        or any(address in network for network in _CARRIES_IPV4)
    ):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


async def resolve(name: str, port: int) -> list[str]:
    """Return all addresses of a name; OSError where it has none."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [str(each[4][0]) for each in found]


@dataclass(frozen=True)
class Fetcher:
    """Fetches pictures.

    Attributes:
        hosts: Hosts to fetch from.
        max_bytes: Of a picture.
        max_s: From the look-up to the last byte, in seconds.
        look_up: Returns the addresses of a name.
        is_allowed: Whether an address may be connected to.
        ssl_context: Checks certificates; by default against the system's.
    """

    hosts: Sequence[Host]
    max_bytes: int
    _: KW_ONLY
    max_s: float = MAX_FETCH_S
    look_up: Resolve = resolve
    is_allowed: Callable[[Address], bool] = is_public
    ssl_context: SSLContext | None = None
    _fetching: Semaphore = field(default_factory=lambda: Semaphore(NUM_FETCHES), init=False)

    async def fetch(self, url: str) -> bytes:
        """Return the content of a URL; `RequestError` where its host is not allowed or fails."""
        host, path = self._parse(url)
        try:
            async with self._fetching, asyncio.timeout(self.max_s):
                return await self._read(host, path, await self._address(host))
        except (NetworkError, ProtocolError, TimeoutException, TimeoutError, OSError) as error:
            raise _invalid() from error

    def _parse(self, url: str) -> tuple[Host, str]:
        found = _URL.fullmatch(url)
        if found and (host := Host.of(*found.groups()[:3])) in self.hosts:
            return host, found[4].partition("#")[0] or "/"
        raise _invalid(
            "found an image_url whose host this server does not fetch from, expected an allowed "
            "one or data:image/jpeg;base64,..."
        )

    async def _address(self, host: Host) -> str:
        addresses = await self.look_up(host.name, host.port)
        if not addresses or not all(self.is_allowed(ip_address(each)) for each in addresses):
            raise _invalid()
        return addresses[0]

    async def _read(self, host: Host, path: str, address: str) -> bytes:
        url = URL(scheme=host.scheme, host=host.name, port=host.port, target=path)
        async with (
            AsyncConnectionPool(
                ssl_context=self.ssl_context, network_backend=_Pinned(address)
            ) as pool,
            pool.stream("GET", url, headers=_HEADERS) as reply,
        ):
            if reply.status != 200:
                raise _invalid()
            data = bytearray()
            async for piece in reply.aiter_stream():
                data += piece
                if len(data) > self.max_bytes:
                    raise _invalid()
            return bytes(data)


class _Pinned(AsyncNetworkBackend):
    """Connects to one address, whatever the name; certificates are still checked for the name."""

    def __init__(self, address: str) -> None:
        self._address, self._network = address, AnyIOBackend()

    async def connect_tcp(self, host: str, *args: Any, **kwargs: Any) -> AsyncNetworkStream:
        """Connect to the address."""
        return await self._network.connect_tcp(self._address, *args, **kwargs)


def _invalid(message: str = "found no picture at that image_url") -> RequestError:
    return RequestError(400, message, "invalid_image")
