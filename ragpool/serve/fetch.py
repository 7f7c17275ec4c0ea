"""One web address that a client named -> its bytes, without letting the client reach into this network.

The address is checked at the moment of connecting and the connection goes to the very address that was checked, so
neither a redirect nor a name that resolves differently the second time (DNS rebinding) leads inside.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import httpcore

from ragpool.errors import LoadError

MAX_REDIRECTS = 5
TIMEOUT = 15.0  # of connecting and of each wait for more bytes
TOTAL = 60.0
_REDIRECTS = (301, 302, 303, 307, 308)

Resolve = Callable[[str, int], list[str]]


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_public(address: str) -> bool:
    """Whether an address lies on the public internet, and not in this machine, its network or a cloud's own.

    >>> [is_public(a) for a in ("93.184.215.14", "127.0.0.1", "10.0.0.8", "169.254.169.254", "::ffff:10.0.0.8")]
    [True, False, False, False, False]
    """
    try:
        ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            ip = inner
    return ip.is_global and not ip.is_multicast


class _PublicOnly(httpcore.NetworkBackend):
    """Connects to public addresses alone."""

    def __init__(self, resolver: Resolve) -> None:
        self._resolve = resolver
        self._real = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            addresses = self._resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"no such host {host}") from error
        public = [address for address in addresses if is_public(address)]
        if not public or len(public) != len(addresses):  # a name that is both is a trick
            raise httpcore.ConnectError(f"{host} is not on the public internet")
        return self._real.connect_tcp(public[0], port, timeout, local_address, socket_options)

    def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.NetworkStream:
        raise httpcore.ConnectError("not an internet address")


def fetch(url: str, limit: int, resolver: Resolve = resolve) -> tuple[bytes, str, str]:
    """(body, media type, address after redirects) of an http(s) address; at most ``limit`` bytes.

    Raises LoadError: a reason that says nothing about this network but that the address is not public.
    """
    end = time.monotonic() + TOTAL
    with httpcore.ConnectionPool(
        ssl_context=ssl.create_default_context(), network_backend=_PublicOnly(resolver), retries=0
    ) as pool:
        here = url
        for _ in range(MAX_REDIRECTS + 1):
            try:
                parts = urlsplit(here)
            except ValueError as error:
                raise LoadError(url[:200], "that is no address; check it") from error
            if (
                parts.scheme not in ("http", "https")
                or not parts.hostname
                or parts.username
                or parts.password
            ):
                raise LoadError(url[:200], "only plain http:// and https:// addresses are fetched")
            try:
                found = _get(pool, in_ascii(here), limit, end)
            except httpcore.ConnectError as error:
                raise LoadError(url[:200], f"{error}; download it and upload the file") from error
            except (httpcore.TimeoutException, TimeoutError) as error:
                raise LoadError(url[:200], "no answer in time; try again later") from error
            except (httpcore.NetworkError, httpcore.ProtocolError, ValueError, UnicodeError) as error:
                raise LoadError(url[:200], "could not be fetched; check the address") from error
            if isinstance(found, str):
                here = urljoin(here, found)
                continue
            return (*found, here)
    raise LoadError(url[:200], f"redirected more than {MAX_REDIRECTS} times; check the address")


def in_ascii(url: str) -> str:
    """The address as it goes over the wire: international names and paths as people write and copy them, encoded.

    >>> in_ascii("https://müller.example:8080/wiki/Käse?q=ä b#top")
    'https://xn--mller-kva.example:8080/wiki/K%C3%A4se?q=%C3%A4%20b'

    Raises UnicodeError or ValueError where the host is no name.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host.encode("idna").decode("ascii")
    netloc = host if parts.port is None else f"{host}:{parts.port}"
    path, query = (quote(part, safe="/%:@!$&'()*+,;=~?") for part in (parts.path, parts.query))
    return urlunsplit((parts.scheme, netloc, path, query, ""))


def _get(pool: httpcore.ConnectionPool, url: str, limit: int, end: float) -> tuple[bytes, str] | str:
    """(body, media type), or where it is redirected to."""
    headers: dict[bytes | str, bytes | str] = {
        "User-Agent": "ragpool",
        "Accept-Encoding": "identity",
        "Host": urlsplit(url).netloc,
    }
    waits = {"timeout": {"connect": TIMEOUT, "read": TIMEOUT, "write": TIMEOUT, "pool": TIMEOUT}}
    with pool.stream("GET", url, headers=headers, extensions=waits) as response:
        said = {name.lower(): value.decode("latin-1") for name, value in response.headers}
        if response.status in _REDIRECTS and b"location" in said:
            return said[b"location"]
        if response.status != 200:
            raise LoadError(url[:200], f"the server answered {response.status}; check the address")
        body = bytearray()
        for chunk in response.iter_stream():
            body += chunk
            if len(body) > limit:
                raise LoadError(url[:200], f"larger than {limit} bytes; take a part of it")
            if time.monotonic() > end:
                raise TimeoutError
        return bytes(body), said.get(b"content-type", "").partition(";")[0].strip().lower()
