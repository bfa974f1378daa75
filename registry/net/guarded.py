"""The guarded client: the one way in which the registry asks other servers for anything.

Who may name an address (of an issuer, say) must not reach the operator's own networks with it. So the guard
looks at the address that a socket is about to connect to, after all parsing and resolving: a name whose
answer changes, an address in another notation and a literal one all pass there. It follows no redirect.
``http`` is for networks that the operator has listed and for nothing else.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver
from aiohttp.typedefs import StrOrURL
from yarl import URL

from registry.errors import UnavailableError
from registry.net.addresses import is_listed, is_public, parse_address
from registry.settings import Network

TOTAL_SECONDS = 10.0
CONNECT_SECONDS = 5.0
CONNECTIONS = 20
CONNECTIONS_PER_HOST = 4
_CHUNK_BYTES = 64 * 1024
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?")
_log = structlog.get_logger(__name__)

AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[str | int, ...]]


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """What another server answered; a redirect is an answer like another."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class OutgoingError(UnavailableError):
    """Another server could not be asked, or its answer not be used. The message names it and not its address;
    the log has the reason."""


class _RefusedError(OSError):
    """The guard does not let a socket connect."""


class GuardedClient:
    """One per process. ``networks`` are those which the operator allows beside the public internet;
    ``resolver`` is the system's, if not given."""

    def __init__(self, networks: Sequence[Network] = (), *, resolver: AbstractResolver | None = None) -> None:
        self._networks = tuple(networks)
        self._resolver = resolver
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """Close the connections that are kept."""
        for session in self._sessions.values():
            await session.close()

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
        target = parse_url(url)
        shown = target.host or ""
        sent = {"Accept-Encoding": "identity", **(headers or {})}
        body = None
        if form is not None:
            body = urlencode(form).encode()
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            async with self._session(target.scheme).request(
                method,
                target,
                data=body,
                headers=sent,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS),
            ) as response:
                if "Content-Encoding" in response.headers:
                    raise OutgoingError(f"{shown} answers compressed, which was not asked for")
                raw = bytearray()
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    raw += chunk
                    if len(raw) > max_bytes:
                        raise OutgoingError(f"{shown} answers more than {max_bytes} bytes")
                return Reply(response.status, response.headers, bytes(raw))
        except TimeoutError:
            raise OutgoingError(f"{shown} does not answer within {seconds:g} seconds") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # For the operator: what a name resolves to inside is told to nobody else.
            _log.warning("outgoing.failed", host=shown, reason=str(error) or type(error).__name__)
            raise OutgoingError(f"{shown} cannot be reached from here, or may not be") from None

    def _session(self, scheme: str) -> aiohttp.ClientSession:
        session = self._sessions.get(scheme)
        if session is None:
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=self._resolver,
                    limit=CONNECTIONS,
                    limit_per_host=CONNECTIONS_PER_HOST,
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
        address = parse_address(str(info[4][0]))
        if not is_public(address) and not is_listed(address, self._networks):
            raise _RefusedError(f"{address} is in no network that outgoing_networks lists")
        return _socket(info)

    def _plain(self, info: AddrInfo) -> socket.socket:
        address = parse_address(str(info[4][0]))
        if not is_listed(address, self._networks):
            raise _RefusedError(f"{address} is in no network that outgoing_networks lists, which http needs")
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


def _socket(info: AddrInfo) -> socket.socket:
    return socket.socket(info[0], info[1], info[2])
