"""Request bodies as they stream in: nothing is read, and nobody told to send, before the caller is known."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, web

from registry.errors import (
    ContentTooLargeError,
    MediaTypeUnsupportedError,
    RequestInvalidError,
    SizeInvalidError,
)
from registry.http.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

IDLE_SECONDS = 60
"""A body of which nothing arrives for so long is given up; what came before it stands."""


async def leave_expectation(request: web.Request) -> None:
    """aiohttp would answer ``Expect: 100-continue`` before the caller is known; :func:`chunks` does it."""


async def chunks(request: web.Request) -> AsyncIterator[bytes]:
    """The content that a body is, in pieces as they arrive.

    Raises:
        MediaTypeUnsupportedError, RequestInvalidError, ConnectionError: as of every body.
    """
    received = request.app[METRICS].blob_bytes.labels("in")
    async for chunk in _pieces(request):
        received.inc(len(chunk))
        yield chunk


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    """The body as it arrives.

    Raises:
        MediaTypeUnsupportedError: it is compressed; its digest would be another's.
        RequestInvalidError: it is malformed, or nothing came for a minute.
        ConnectionError: the client went away.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise MediaTypeUnsupportedError(
            f"Content-Encoding {encoding[:40]!r} is not taken; send the bytes as they are"
        )
    await _continue(request)
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                chunk = await request.content.readany()
        except TimeoutError:
            raise RequestInvalidError(f"nothing of the body arrived for {IDLE_SECONDS} seconds") from None
        except web.RequestPayloadError:
            raise RequestInvalidError("the body is not well-formed") from None
        if not chunk:
            return
        yield chunk


async def exactly(source: AsyncIterator[bytes], length: int) -> AsyncIterator[bytes]:
    """The same body, which must have ``length`` bytes.

    Raises:
        SizeInvalidError: more, before any that is too many; or fewer, at the end.
    """
    missing = length
    async for chunk in source:
        missing -= len(chunk)
        if missing < 0:
            raise SizeInvalidError(f"the body is longer than the {length} bytes that its range says")
        yield chunk
    if missing:
        raise SizeInvalidError(f"the body ends {missing} bytes before the {length} that its range says")


async def read_all(request: web.Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        MediaTypeUnsupportedError, RequestInvalidError, ConnectionError: as :func:`chunks`.
        ContentTooLargeError: more than ``limit`` bytes; nothing beyond them is read.
    """
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in _pieces(request):
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


async def _continue(request: web.Request) -> None:
    expected = request.headers.get("Expect", "")
    if not expected or request.version < HttpVersion11:
        return
    if expected.lower() != "100-continue":
        raise RequestInvalidError(f"Expect {expected[:40]!r} cannot be met")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the response has not begun yet


def _too_large(limit: int) -> ContentTooLargeError:
    return ContentTooLargeError(f"this body may have {limit} bytes; it has more")
