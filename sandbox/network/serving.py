"""Stubs at work: a forked child of a run's supervisor that answers what the run asks.

It reads what an image sends, so it has no rights, and all that it takes has a limit: its processor time and
its sockets' memory are the host's, not the run's. It tells its parent of each request in a line of JSON:
``[number of the stub, method, path]``, both null where there was only a connection; ``[-1, null, null]`` when
a limit was reached and nothing more is taken.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

from registry.contract.stubs import HttpStub, Stub, TcpStub
from sandbox.probes.attempt import become_nobody, detach
from sandbox.syscalls import PR_SET_PDEATHSIG, prctl

MAX_OPEN = 32
"""Connections of one stub at once; others wait until one is over."""
MAX_CONNECTIONS = 10_000
MAX_PIECES = 100_000
"""Reads of all connections together."""
MAX_RECEIVED_BYTES = 64 * 1024 * 1024
HEAD_BYTES = 16 * 1024
EXCHANGE_SECONDS = 10.0
"""What an exchange over HTTP may take, from its connection on."""
BUFFER_BYTES = 32 * 1024
"""Of the kernel, for each connection and each way."""
_PATH_CHARACTERS = 1000
_PIECE_BYTES = 64 * 1024
_REQUEST = re.compile(rb"([A-Z]{1,16}) ([!-~\x80-\xff]{1,8000}) HTTP/1\.[01]\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")


def serve(listeners: Sequence[socket.socket], stubs: Sequence[Stub], tell_fd: int) -> None:
    """Answer until this process is ended. For a forked child; never returns."""
    parent = os.getppid()
    try:
        detach(tell_fd, *(one.fileno() for one in listeners))
        # What ps shows.
        with open("/proc/self/comm", "wb") as name:
            name.write(b"stub")
        become_nobody()
        # Only now: a change of ids takes it away.
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            return
        asyncio.run(_Stubs(stubs, tell_fd).answer(listeners))
    finally:
        os._exit(0)


@dataclass(slots=True)
class _Stubs:
    stubs: Sequence[Stub]
    tell_fd: int
    _connections: int = field(default=0, init=False)
    _pieces: int = field(default=0, init=False)
    _received_bytes: int = field(default=0, init=False)
    _full: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def answer(self, listeners: Sequence[socket.socket]) -> None:
        async with asyncio.TaskGroup() as group:
            takers = [
                group.create_task(self._take(group, listener, number))
                for number, listener in enumerate(listeners)
            ]
            await self._full.wait()
            for one in takers:
                one.cancel()
            # Who still connects is refused by the kernel, which costs nothing here.
            for listener in listeners:
                listener.close()
            self._tell(-1, None, None)
        # That this process ends is a fault to its parent.
        await asyncio.Event().wait()

    async def _take(self, group: asyncio.TaskGroup, listener: socket.socket, number: int) -> None:
        loop, places = asyncio.get_running_loop(), asyncio.Semaphore(MAX_OPEN)
        while True:
            await places.acquire()
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError:
                # A connection that was over before it was taken, or no descriptor left.
                places.release()
                await asyncio.sleep(0.05)
                continue
            self._count(connections=1)
            group.create_task(self._meet(sock, number)).add_done_callback(lambda _: places.release())

    async def _meet(self, sock: socket.socket, number: int) -> None:
        stub = self.stubs[number]
        with sock, suppress(OSError, TimeoutError):
            if stub.http is not None:
                async with asyncio.timeout(EXCHANGE_SECONDS):
                    await self._over_http(sock, stub.http, number)
            elif stub.tcp is not None:
                self._tell(number, None, None)
                await self._over_tcp(sock, stub.tcp)

    async def _over_http(self, sock: socket.socket, stub: HttpStub, number: int) -> None:
        loop, head = asyncio.get_running_loop(), b""
        while (end := _HEAD_END.search(head)) is None and len(head) < HEAD_BYTES:
            piece = await self._receive(sock)
            if not piece:
                break
            head += piece
        request = _REQUEST.match(head) if end is not None else None
        if request is None:
            self._tell(number, None, None)
            await loop.sock_sendall(sock, b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            return
        method, path = request[1].decode(), request[2].decode("utf-8", "replace")
        self._tell(number, method, path[:_PATH_CHARACTERS])
        await loop.sock_sendall(sock, http_answer(stub, head_only=method == "HEAD"))
        sock.shutdown(socket.SHUT_WR)
        # What has not been read yet would reset the connection, and with it the answer.
        while await self._receive(sock):
            pass

    async def _over_tcp(self, sock: socket.socket, stub: TcpStub) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, (stub.send or "").encode())
        while await self._receive(sock):
            await loop.sock_sendall(sock, (stub.answer or "").encode())

    async def _receive(self, sock: socket.socket) -> bytes:
        """What has come; nothing where the other side has ended, or a limit is reached."""
        if self._full.is_set():
            return b""
        piece = await asyncio.get_running_loop().sock_recv(sock, _PIECE_BYTES)
        self._count(pieces=1, received_bytes=len(piece))
        return piece

    def _count(self, *, connections: int = 0, pieces: int = 0, received_bytes: int = 0) -> None:
        self._connections += connections
        self._pieces += pieces
        self._received_bytes += received_bytes
        if (
            self._connections >= MAX_CONNECTIONS
            or self._pieces >= MAX_PIECES
            or self._received_bytes >= MAX_RECEIVED_BYTES
        ):
            self._full.set()

    def _tell(self, number: int, method: str | None, path: str | None) -> None:
        # It waits where the parent is behind, and so does the image.
        os.write(self.tell_fd, json.dumps([number, method, path], ensure_ascii=False).encode() + b"\n")


def http_answer(stub: HttpStub, *, head_only: bool) -> bytes:
    """The whole answer (RFC 9112), after which the connection is closed."""
    body = stub.body.encode()
    try:
        phrase = HTTPStatus(stub.status).phrase
    except ValueError:
        phrase = "Stub"
    lines = [f"{name}: {value}" for name, value in (stub.headers or {}).items()]
    if not any(name.lower() == "content-type" for name in stub.headers or {}):
        lines.append("Content-Type: text/plain; charset=utf-8")
    bodiless = stub.status in (204, 304)
    if not bodiless:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([f"HTTP/1.1 {stub.status} {phrase}", *lines, "Connection: close", "", ""]).encode()
    return head if head_only or bodiless else head + body
