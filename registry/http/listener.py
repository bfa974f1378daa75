"""The listener with TLS: each connection gets the certificate of its moment, and who speaks plain HTTP here
is told so instead of being cut off."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from registry.http.readiness import readable

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

log: FilteringBoundLogger = structlog.get_logger("seatrial.server")
HANDSHAKE_SECONDS = 20.0
BACKLOG = 1024
_HANDSHAKE_RECORD = 0x16
_PAUSE_SECONDS = 1.0
_GOODBYE_SECONDS = 1.0
_PLAIN_TEXT = "this port speaks HTTPS, and was asked in plain HTTP; use https://"
_PLAIN_BODY = json.dumps({"errors": [{"code": "REQUEST_INVALID", "message": _PLAIN_TEXT}]}).encode()
_PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n"
    + f"Content-Length: {len(_PLAIN_BODY)}\r\nServer: seatrial\r\n\r\n".encode()
    + _PLAIN_BODY
)


class TlsListener:
    """Accepts connections for ``protocol`` on all addresses of a host until it is closed."""

    def __init__(
        self,
        protocol: Callable[[], asyncio.Protocol],
        context: Callable[[], ssl.SSLContext],
        sockets: list[socket.socket],
    ) -> None:
        self._protocol, self._context, self._sockets = protocol, context, sockets
        for each in sockets:
            each.setblocking(False)
        self._greetings: set[asyncio.Task[None]] = set()
        self._acceptors = [asyncio.create_task(self._accept(each)) for each in sockets]

    async def close(self) -> None:
        """Stop accepting; connections that are made go on."""
        for task in self._acceptors:
            task.cancel()
        await asyncio.wait(self._acceptors)
        for each in self._sockets:
            each.close()
        for task in self._greetings:
            task.cancel()
        if self._greetings:
            await asyncio.wait(self._greetings)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:
                # No descriptors left, say: others may end meanwhile.
                log.error("a connection could not be accepted", reason=repr(error))
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            task = asyncio.create_task(self._greet(connection))
            self._greetings.add(task)
            task.add_done_callback(self._greetings.discard)

    async def _greet(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        taken = False
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                first = await _peek(connection)
                if first and first[0] == _HANDSHAKE_RECORD:
                    taken = True
                    await asyncio.get_running_loop().connect_accepted_socket(
                        self._protocol,
                        connection,
                        ssl=self._context(),
                        ssl_handshake_timeout=HANDSHAKE_SECONDS,
                    )
                elif first:
                    await _answer_plainly(connection)
        except (OSError, TimeoutError):
            return  # a client that trusts another certificate, speaks no TLS or went away
        finally:
            if not taken:
                connection.close()


def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on every address of ``host``.

    Raises:
        OSError: an address cannot be used.
    """
    sockets: list[socket.socket] = []
    try:
        for family, *_, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            if family in (socket.AF_INET, socket.AF_INET6):
                each = socket.create_server(address[:2], family=family, backlog=BACKLOG)
                each.setblocking(False)
                sockets.append(each)
    except OSError:
        for each in sockets:
            each.close()
        raise
    return sockets


async def _peek(connection: socket.socket) -> bytes:
    """The first byte, left where it is."""
    while True:
        with suppress(BlockingIOError):
            return connection.recv(1, socket.MSG_PEEK)
        await readable(connection)


async def _answer_plainly(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_recv(connection, 65536)  # closing with unread bytes would take the answer back
    await loop.sock_sendall(connection, _PLAIN_ANSWER)
    connection.shutdown(socket.SHUT_WR)
    with suppress(TimeoutError):
        async with asyncio.timeout(_GOODBYE_SECONDS):
            while await loop.sock_recv(connection, 65536):
                pass
