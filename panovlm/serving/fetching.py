"""Pictures fetched from hosts that the server was told to fetch from; from no other place.

A URL decides nothing but the path: scheme, host and port must be those of an allowed host. Its name
is resolved once, every address must be a public one, and the connection goes to the first of them,
so that a second look-up cannot lead elsewhere. Nothing follows redirects or reads proxies'
settings. What goes wrong is always told in the same words: they say nothing about the network.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
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
"""No user, no backslash, no letter that a reader could take for another."""
_PORTS = {"https": 443, "http": 80}
_HEADERS: dict[bytes | str, bytes | str] = {
    "Accept": "image/*",
    "Accept-Encoding": "identity",
    "User-Agent": "panovlm",
}
_UNICAST = IPv6Network("2000::/3")
_CARRIES_IPV4 = [IPv6Network(each) for each in ("2001::/32", "2002::/16")]
"""Teredo and 6to4: the address of another host stands inside."""

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True)
class Host:
    """A place to fetch from."""

    scheme: str
    name: str
    port: int


def parse_hosts(text: str) -> list[Host]:
    """Read hosts, separated by commas or spaces: `example.com`, or `http://example.com:8080`.

    Raises:
        PanoVLMError: If one is none.
    """
    hosts = []
    for word in text.replace(",", " ").split():
        found = _HOST.fullmatch(word)
        if found is None or int(found[3] or 1) not in range(1, 65536):
            raise PanoVLMError(
                f"found {word!r} among the allowed hosts, expected a name such as "
                "images.example.com, or http://images.example.com:8080; name each host by itself"
            )
        hosts.append(_host(found[1] or "https", found[2], found[3]))
    return hosts


def _host(scheme: str, name: str, port: str | None) -> Host:
    return Host(scheme, name, int(port) if port else _PORTS[scheme])


def is_public(address: Address) -> bool:
    """Say whether an address is one of the public internet and stands for no other."""
    if isinstance(address, IPv6Address) and (
        address not in _UNICAST  # as mapped IPv4 and NAT64 are
        or any(address in network for network in _CARRIES_IPV4)
    ):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


async def resolve(name: str, port: int) -> list[str]:
    """Give all addresses of a name.

    Raises:
        OSError: If it has none.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [str(each[4][0]) for each in found]


class Fetcher:
    """Fetches pictures.

    Args:
        hosts: Where from.
        max_bytes: Of a picture.
        max_s: From the look-up to the last byte, in seconds.
        look_up: Gives the addresses of a name.
        is_allowed: Says which addresses may be connected to.
        ssl_context: Checks certificates; by default against the system's.
    """

    def __init__(
        self,
        hosts: Sequence[Host],
        max_bytes: int,
        *,
        max_s: float = MAX_FETCH_S,
        look_up: Resolve = resolve,
        is_allowed: Callable[[Address], bool] = is_public,
        ssl_context: SSLContext | None = None,
    ) -> None:
        self._hosts, self._max_bytes, self._max_s = frozenset(hosts), max_bytes, max_s
        self._look_up, self._is_allowed = look_up, is_allowed
        self._ssl_context = ssl_context
        self._fetching = asyncio.Semaphore(NUM_FETCHES)

    async def fetch(self, url: str) -> bytes:
        """Give what stands at a URL.

        Raises:
            RequestError: If its host is not allowed, or does not give it.
        """
        host, path = self._parse(url)
        try:
            async with self._fetching, asyncio.timeout(self._max_s):
                return await self._read(host, path, await self._address(host))
        except (NetworkError, ProtocolError, TimeoutException, TimeoutError, OSError) as error:
            raise _not_given() from error

    def _parse(self, url: str) -> tuple[Host, str]:
        found = _URL.fullmatch(url)
        if found:
            host = _host(found[1].lower(), found[2].lower(), found[3])
            if host in self._hosts:
                return host, found[4].partition("#")[0] or "/"
        raise RequestError(
            400,
            "found an image_url whose host this server does not fetch from, expected an allowed "
            "one or data:image/jpeg;base64,...",
            "invalid_image",
            "messages",
        )

    async def _address(self, host: Host) -> str:
        addresses = await self._look_up(host.name, host.port)
        if not addresses or not all(self._is_allowed(ip_address(each)) for each in addresses):
            raise _not_given()
        return addresses[0]

    async def _read(self, host: Host, path: str, address: str) -> bytes:
        url = URL(scheme=host.scheme, host=host.name, port=host.port, target=path)
        async with (
            AsyncConnectionPool(
                ssl_context=self._ssl_context, network_backend=_Pinned(address)
            ) as pool,
            pool.stream("GET", url, headers=_HEADERS) as reply,
        ):
            if reply.status != 200:
                raise _not_given()
            data = bytearray()
            async for piece in reply.aiter_stream():
                data += piece
                if len(data) > self._max_bytes:
                    raise _not_given()
            return bytes(data)


class _Pinned(AsyncNetworkBackend):
    """Connects to one address, whatever the name; certificates are still checked for the name."""

    def __init__(self, address: str) -> None:
        self._address, self._network = address, AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> AsyncNetworkStream:
        """Connect to the address."""
        return await self._network.connect_tcp(
            self._address, port, timeout, local_address, socket_options
        )


def _not_given() -> RequestError:
    return RequestError(400, "found no picture at that image_url", "invalid_image", "messages")
