"""A proxy before an S3 service that breaks chosen calls in chosen ways. Every connection takes one call."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

Fault = Literal["refuse", "lose", "delay", "truncate", "500", "SlowDown"]
FAULTS: tuple[Fault, ...] = ("refuse", "lose", "delay", "truncate", "500", "SlowDown")
"""Reset before the service hears of it; reset, too late, or cut short once it has done it; its own errors."""

_CALLS = (
    ("CreateMultipartUpload", "POST", r"[?&]uploads(=|&|$)"),
    ("CompleteMultipartUpload", "POST", r"[?&]uploadId="),
    ("UploadPart", "PUT", r"[?&]partNumber="),
    ("PutObject", "PUT", r"/uploads/|/blobs/"),
    ("AbortMultipartUpload", "DELETE", r"[?&]uploadId="),
    ("DeleteObject", "DELETE", r""),
    ("HeadObject", "HEAD", r"/blobs/"),
    ("GetObject", "GET", r"/(uploads|blobs)/.*/"),
    ("List", "GET", r"\?"),
)


@dataclass(slots=True)
class FaultProxy:
    """Listens at ``host``. ``calls`` counts what came by, broken or not."""

    host: str
    calls: Counter[str] = field(default_factory=Counter)
    _fault: Fault | None = None
    _only: str | None = None
    _once: bool = False
    _broken: set[str] = field(default_factory=set)

    def break_always(self, fault: Fault, call: str) -> None:
        """Break every ``call`` from now on."""
        self._fault, self._only, self._once = fault, call, False

    def break_each_once(self, fault: Fault) -> None:
        """Break the next call of each kind."""
        self._fault, self._only, self._once = fault, None, True
        self._broken.clear()

    def heal(self) -> None:
        """Break nothing from now on."""
        self._fault = None

    def fault_for(self, call: str) -> Fault | None:
        """What is to happen to this call."""
        self.calls[call] += 1
        if self._fault is None or (self._only is not None and call != self._only):
            return None
        if self._once and call in self._broken:
            return None
        self._broken.add(call)
        return self._fault


@contextmanager
def fault_proxy(server: str) -> Iterator[FaultProxy]:
    """Stand before ``server`` (HOST:PORT), in a thread of its own."""
    loop = asyncio.new_event_loop()
    listening = threading.Event()
    made = FaultProxy("")
    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(_listen(server, made, listening, stop),))
    thread.start()
    try:
        listening.wait()
        yield made
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _listen(server: str, made: FaultProxy, listening: threading.Event, stop: asyncio.Event) -> None:
    running: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await _serve(reader, writer, server, made)
        finally:
            writer.transport.abort()
            running.discard(task)

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, limit=1 << 20)
    made.host = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    listening.set()
    await stop.wait()
    listener.close()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def _name(method: str, target: str) -> str:
    for name, wanted, pattern in _CALLS:
        if method == wanted and re.search(pattern, target):
            return name
    return method


async def _serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: str, proxy: FaultProxy
) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    method, target, _ = head.decode("latin-1").split(" ", 2)
    fault = proxy.fault_for(_name(method, target))
    if fault == "refuse":
        _reset(writer)
        return
    if b"100-continue" in head.lower():
        head = re.sub(rb"(?i)expect: 100-continue\r\n", b"", head)
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    body = await reader.readexactly(int(length[1])) if length else b""
    if fault in ("500", "SlowDown"):
        writer.write(_error(fault))
        await writer.drain()
        return
    answer = await _forward(server, head[:-2] + b"Connection: close\r\n\r\n" + body)
    if fault == "lose":
        _reset(writer)
    elif fault == "delay":
        await asyncio.Event().wait()  # until the client has had enough of it
    else:
        writer.write(answer[: len(answer) // 2] if fault == "truncate" else answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


async def _forward(server: str, request: bytes) -> bytes:
    host, _, port = server.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        await writer.drain()
        return await reader.read()
    finally:
        writer.transport.abort()


def _error(fault: str) -> bytes:
    status, code = (
        ("500 Internal Server Error", "InternalError") if fault == "500" else ("503 Slow Down", "SlowDown")
    )
    body = f"<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection as a host does that has lost it."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
