"""Time limits for peers that are slow on purpose, and how many uploads run for one account.

A sender is measured where its body is read (:class:`Pace`), a reader by what its kernel has acknowledged:
that holds for every way of sending, and costs a response nothing.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from registry.content.uploads import too_many
from registry.errors import RequestTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from structlog.typing import FilteringBoundLogger

    from registry.auth.actor import Actor
    from registry.settings import Settings

log: FilteringBoundLogger = structlog.get_logger("seatrial.http")
SAMPLES = 6
"""Looks at a reader in one window; all must find it slow."""
_TCP_INFO_BYTES = 256
_BYTES_ACKED = struct.Struct("@120xQ")
_NOTSENT_BYTES = struct.Struct("@144xI")


@dataclass(slots=True)
class Pace:
    """How fast a body arrives. Only the time spent waiting for it counts: a slow disk is not the sender's."""

    window_seconds: float
    bytes_per_second: int
    _waited: float = 0.0
    _received: int = 0

    def note(self, count: int, waited_seconds: float) -> None:
        """Say that ``count`` bytes came after so long a wait.

        Raises:
            RequestTimeoutError: a window has passed with fewer bytes than it needs.
        """
        self._waited += waited_seconds
        self._received += count
        if self._waited < self.window_seconds:
            return
        if self._received < self.window_seconds * self.bytes_per_second:
            raise RequestTimeoutError(
                f"the body arrives too slowly: {self._received} bytes in {self._waited:.0f} seconds; "
                f"{self.bytes_per_second} a second are the least"
            )
        self._waited, self._received = 0.0, 0


class RunningUploads:
    """Requests with a body that run now, for each account and each of its API tokens, in this process."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: Counter[tuple[int | None, str | None]] = Counter()

    @contextmanager
    def one_more(self, actor: Actor) -> Iterator[None]:
        """Count one while the block runs.

        Raises:
            TooManyRequestsError: the account, or the token it uses, has as many as it may.
        """
        key = actor.account_id, actor.token_id
        if self._running[key] >= self._limit:
            raise too_many(self._limit)
        self._running[key] += 1
        try:
            yield
        finally:
            self._running[key] -= 1
            if not self._running[key]:
                del self._running[key]


RUNNING_UPLOADS = web.AppKey("running-uploads", RunningUploads)


async def end_slow_readers(server: web.Server, settings: Settings) -> None:
    """Break connections whose client takes less than it must while bytes wait for it; runs until cancelled.

    Where the kernel does not tell what was acknowledged (it does on Linux), nothing is ended.
    """
    least = settings.stall_seconds * settings.min_bytes_per_second
    since: dict[object, tuple[int, int]] = {}
    while True:
        await asyncio.sleep(settings.stall_seconds / SAMPLES)
        waiting: dict[object, tuple[int, int]] = {}
        for connection in server.connections:
            transport = connection.transport
            acknowledged = _acknowledged(transport) if transport is not None else None
            if transport is None or acknowledged is None:
                continue
            began, looks = since.get(connection, (acknowledged, 0))
            if looks >= SAMPLES and acknowledged - began < least:
                log.info("a reader was too slow", remote=_shown(transport), bytes=acknowledged - began)
                _break(transport)
            elif looks >= SAMPLES:
                waiting[connection] = acknowledged, 1
            else:
                waiting[connection] = began, looks + 1
        since = waiting


def _acknowledged(transport: asyncio.Transport) -> int | None:
    """Bytes that the peer has taken; ``None`` if none wait for it or nobody knows."""
    try:
        known = transport.get_extra_info("socket").getsockopt(
            socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES
        )
        if not _NOTSENT_BYTES.unpack_from(known)[0] and not transport.get_write_buffer_size():
            return None
        return int(_BYTES_ACKED.unpack_from(known)[0])
    except (OSError, AttributeError, RuntimeError, ValueError, struct.error):
        return None  # it has closed meanwhile, or this kernel tells less


def _break(transport: asyncio.Transport) -> None:
    # Not transport.abort(): a sendfile that waits for the socket would never hear of it.
    with suppress(OSError, RuntimeError, ValueError):
        twin = socket.fromfd(transport.get_extra_info("socket").fileno(), socket.AF_INET, socket.SOCK_STREAM)
        with twin:
            twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            twin.shutdown(socket.SHUT_RDWR)


def _shown(transport: asyncio.Transport) -> str:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if peer else ""
