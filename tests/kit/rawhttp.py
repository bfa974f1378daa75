"""Requests byte by byte: what a client library would clean or refuse to send."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

SECONDS = 60


@dataclass(frozen=True, slots=True)
class RawResponse:
    """A response as it came; header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes
    version: str = "HTTP/1.1"


@asynccontextmanager
async def connected(
    host: str, *, limit: int = 1 << 20, receive_buffer: int | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the server, broken off at the end. ``receive_buffer`` makes its kernel take little."""
    name, _, port = host.rpartition(":")
    connection = socket.socket(socket.AF_INET)
    connection.setblocking(False)
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(connection, (name, int(port)))
    reader, writer = await asyncio.open_connection(sock=connection, limit=limit)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def exchange(host: str, request: bytes) -> RawResponse:
    """Send the bytes on a fresh connection and read one response."""
    name, _, port = host.rpartition(":")
    reader, writer = await asyncio.open_connection(name, int(port), limit=1 << 20)
    try:
        async with asyncio.timeout(SECONDS):
            writer.write(request)
            await writer.drain()
            return await read_response(reader)
    finally:
        writer.close()
        with suppress(ConnectionError):  # the server was first
            await writer.wait_closed()


async def read_response(reader: asyncio.StreamReader, *, bodiless: bool = False) -> RawResponse:
    """One response: its header, and a body of the stated length, else up to the end.

    What answers HEAD is ``bodiless``.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    version, status = first.split(" ")[0], int(first.split(" ")[1])
    if bodiless or status in (100, 204, 304):
        return RawResponse(status, headers, b"", version)
    length = headers.get("content-length")
    body = await (reader.readexactly(int(length)) if length is not None else reader.read())
    return RawResponse(status, headers, body, version)


def request(
    method: str, target: str, *, token: str | None = None, body: bytes = b"", **headers: str
) -> bytes:
    """The bytes of a request. Header names are given with underscores; a body gets its Content-Length."""
    lines = [f"{method} {target} HTTP/1.1", "Host: registry.example"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
