"""The guarded client: the one way in which the registry asks other servers for anything.

Who may name an address (of an issuer, say) must not reach the operator's own networks with it. So the guard
looks at the address that a socket is about to connect to, after all parsing and resolving: a name whose
answer changes, an address in another notation and a literal one all pass there. It follows no redirect.
``http`` is for networks that the operator has listed and for nothing else.
"""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver
from aiohttp.typedefs import StrOrURL
from yarl import URL

from registry.errors import UnavailableError
from registry.net.addresses import Address, is_listed, is_metadata, is_public, parse_address
from registry.settings import Network

TOTAL_SECONDS = 10.0
CONNECT_SECONDS = 5.0
CONNECTIONS = 20
CONNECTIONS_PER_HOST = 4
_CHUNK_BYTES = 64 * 1024
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?")
_NOT_LISTED = "is in no network that outgoing_networks lists"
_NEVER = "is where a cloud tells a machine its credentials"
_log = structlog.get_logger(__name__)

AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[str | int, ...]]


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """What another server answered; a redirect is an answer like another."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Stream:
    """An answer of another server that is read as it comes, while the block that gave it runs."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class OutgoingError(UnavailableError):
    """Another server could not be asked, or its answer not be used. The message names it and not its address;
    the log has the reason."""

    passes = False
    """Whether the same question may have an answer a moment later."""


class _RefusedError(OSError):
    """The guard does not let a socket connect."""


class GuardedClient:
    """``networks`` are those which the operator allows beside the public internet; ``resolver`` is the
    system's, if not given. One for each purpose in a process: of ``connections`` and those ``per_host``, one
    purpose must not take another's."""

    def __init__(
        self,
        networks: Sequence[Network] = (),
        *,
        resolver: AbstractResolver | None = None,
        connections: int = CONNECTIONS,
        per_host: int = CONNECTIONS_PER_HOST,
    ) -> None:
        self._networks = tuple(networks)
        self._resolver = resolver
        self._limits = (connections, per_host)
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """Close the connections that are kept."""
        for session in self._sessions.values():
            await session.close()

    def require_allowed(self, url: str) -> None:
        """Check an address before anybody asks it, as far as that can be told without asking a name server.

        Raises:
            OutgoingError: no address, or one that is never asked.
        """
        target = parse_url(url)
        host = target.raw_host or ""
        try:
            address = parse_address(host)
        except ValueError:
            if target.scheme == "http" and not self._networks:
                raise OutgoingError(
                    "http is for networks that the operator lists (SEATRIAL_OUTGOING_NETWORKS), and none is"
                ) from None
            return
        if is_metadata(address):
            raise OutgoingError(f"{host} {_NEVER}")
        if not is_listed(address, self._networks) and (target.scheme == "http" or not is_public(address)):
            raise OutgoingError(f"{host} {_NOT_LISTED} (SEATRIAL_OUTGOING_NETWORKS)")

    async def request(
        self,
        method: Literal["GET", "POST"],
        url: str,
        *,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        seconds: float = TOTAL_SECONDS,
    ) -> Reply:
        """Ask another server; its answer has at most ``max_bytes`` and is whole within ``seconds``.

        Raises:
            OutgoingError: an address that is not allowed, not reached, too slow, or too much.
        """
        sent = {"Accept-Encoding": "identity", **(headers or {})}
        body = None
        if form is not None:
            body = urlencode(form).encode()
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        async with self._asked(method, url, body, sent, seconds) as (response, shown):
            if "Content-Encoding" in response.headers:
                raise OutgoingError(f"{shown} answers compressed, which was not asked for")
            raw = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                raw += chunk
                if len(raw) > max_bytes:
                    raise OutgoingError(f"{shown} answers more than {max_bytes} bytes")
            return Reply(response.status, response.headers, bytes(raw))

    @asynccontextmanager
    async def stream(
        self, url: str, *, headers: Mapping[str, str], seconds: float, idle_seconds: float
    ) -> AsyncIterator[Stream]:
        """GET what may be large, within ``seconds``; between two pieces at most ``idle_seconds`` pass.

        Raises:
            OutgoingError: as :meth:`request`, also while it is read.
        """
        sent = {"Accept-Encoding": "identity", **headers}
        asked = self._asked("GET", url, None, sent, seconds, idle_seconds=idle_seconds)
        async with asked as (response, shown):
            if "Content-Encoding" in response.headers:
                raise OutgoingError(f"{shown} answers compressed, which was not asked for")
            yield Stream(response.status, response.headers, response.content.iter_chunked(_CHUNK_BYTES))

    async def tell(
        self, url: str, body: bytes, *, headers: Mapping[str, str], keep_bytes: int, seconds: float
    ) -> Reply:
        """POST ``body`` to a server from which only the status matters; the first ``keep_bytes`` of its
        answer are kept, and the rest is not read.

        Raises:
            OutgoingError: as :meth:`request`.
        """
        sent = {"Accept-Encoding": "identity", **headers}
        async with self._asked("POST", url, body, sent, seconds) as (response, _):
            raw = bytearray()
            while len(raw) < keep_bytes and (chunk := await response.content.read(keep_bytes - len(raw))):
                raw += chunk
            if not response.content.at_eof():
                response.close()
            return Reply(response.status, response.headers, bytes(raw))

    @asynccontextmanager
    async def _asked(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str],
        seconds: float,
        *,
        idle_seconds: float | None = None,
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, str]]:
        """The answer's beginning, and how messages name the server; what goes wrong in the block too is
        another server's fault."""
        target = parse_url(url)
        shown = target.host or ""
        try:
            async with self._session(target.scheme).request(
                method,
                target,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=seconds, sock_connect=CONNECT_SECONDS, sock_read=idle_seconds
                ),
            ) as response:
                yield response, shown
        except TimeoutError:
            late = OutgoingError(f"{shown} does not answer within {seconds:g} seconds")
            late.passes = True
            raise late from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # aiohttp says of it only what the system has a text for.
            cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            reason = str(cause) or type(cause).__name__
            # For the operator: what a name resolves to inside is told to nobody else.
            _log.warning("outgoing.failed", host=shown, reason=reason)
            if _NOT_LISTED in reason or _NEVER in reason:
                raise OutgoingError(
                    f"{shown} may not be asked: its address is in no network that the operator lists "
                    "(SEATRIAL_OUTGOING_NETWORKS), or is never asked"
                ) from None
            lost = OutgoingError(f"{shown} cannot be reached from here, or may not be")
            # A name that leads nowhere, or a closed port, seldom changes; what broke off may go on.
            lost.passes = not isinstance(error, aiohttp.ClientConnectorError)
            raise lost from None

    def _session(self, scheme: str) -> aiohttp.ClientSession:
        session = self._sessions.get(scheme)
        if session is None:
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=self._resolver,
                    limit=self._limits[0],
                    limit_per_host=self._limits[1],
                    socket_factory=self._encrypted if scheme == "https" else self._plain,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                headers={"User-Agent": "seatrial"},
            )
            self._sessions[scheme] = session
        return session

    def _encrypted(self, info: AddrInfo) -> socket.socket:
        address = _address(info)
        if not is_public(address) and not is_listed(address, self._networks):
            raise _RefusedError(f"{address} {_NOT_LISTED}")
        return _socket(info)

    def _plain(self, info: AddrInfo) -> socket.socket:
        address = _address(info)
        if not is_listed(address, self._networks):
            raise _RefusedError(f"{address} {_NOT_LISTED}, which http needs")
        return _socket(info)


def require_url(url: str, what: str) -> None:
    """Check an address that will be asked later.

    Raises:
        OutgoingError: not an absolute http or https address of a host, without user, query and fragment.
    """
    parsed = parse_url(url)
    if parsed.raw_query_string or parsed.raw_fragment:
        raise OutgoingError(f"{what} has a query or a fragment")


def parse_url(url: StrOrURL) -> URL:
    """An address that can be asked, or that a browser can be sent to.

    Raises:
        OutgoingError: not an absolute http or https address of a host, or with a user.
    """
    try:
        parsed = URL(url)
        port = parsed.port
    except (ValueError, TypeError):
        raise OutgoingError("an address cannot be read") from None
    if parsed.scheme not in ("http", "https") or not port or not _HOST.fullmatch(parsed.raw_host or ""):
        raise OutgoingError("an address is not http(s)://HOST/…")
    if parsed.raw_user is not None or parsed.raw_password is not None:
        raise OutgoingError("an address has a user name or password in it")
    return parsed


def _address(info: AddrInfo) -> Address:
    address = parse_address(str(info[4][0]))
    if is_metadata(address):
        raise _RefusedError(f"{address} {_NEVER}")
    return address


def _socket(info: AddrInfo) -> socket.socket:
    return socket.socket(info[0], info[1], info[2])
