"""Request bodies as they stream in: nothing is read, and nobody told to send, before the caller is known."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, web

from registry.errors import (
    ContentTooLargeError,
    MediaTypeUnsupportedError,
    RequestInvalidError,
    RequestTimeoutError,
    SizeInvalidError,
)
from registry.http.limits import Pace
from registry.http.metrics import METRICS
from registry.http.services import SERVICES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def leave_expectation(request: web.Request) -> None:
    """aiohttp would answer ``Expect: 100-continue`` before the caller is known; :func:`chunks` does it."""


def require_framing(request: web.Request) -> None:
    """Refuse a body whose end another server may see elsewhere (RFC 9112, 6.1); the parser takes some.

    Raises:
        RequestInvalidError: a Transfer-Encoding other than ``chunked``, or in HTTP/1.0.
    """
    given = request.headers.getall("Transfer-Encoding", ())
    if given and (
        request.version < HttpVersion11 or [value.strip().lower() for value in given] != ["chunked"]
    ):
        raise RequestInvalidError("Transfer-Encoding may be 'chunked', once, and in HTTP/1.1")


async def chunks(request: web.Request) -> AsyncIterator[bytes]:
    """The content that a body is, in pieces as they arrive.

    Raises:
        MediaTypeUnsupportedError, RequestInvalidError, RequestTimeoutError, ConnectionError: as of every
            body.
    """
    received = request.app[METRICS].blob_bytes.labels("in")
    async for chunk in _pieces(request):
        received.inc(len(chunk))
        yield chunk


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    """The body as it arrives.

    Raises:
        MediaTypeUnsupportedError: it is compressed; its digest would be another's.
        RequestInvalidError: it is malformed.
        RequestTimeoutError: it stands still or is too slow; what came before stands.
        ConnectionError: the client went away.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise MediaTypeUnsupportedError(
            f"Content-Encoding {encoding[:40]!r} is not taken; send the bytes as they are"
        )
    await _continue(request)
    settings, time = request.app[SERVICES].settings, asyncio.get_running_loop().time
    pace = Pace(settings.stall_seconds, settings.min_bytes_per_second)
    while True:
        began = time()
        try:
            async with asyncio.timeout(settings.stall_seconds):
                chunk = await request.content.readany()
        except TimeoutError:
            raise RequestTimeoutError(
                f"nothing of the body arrived for {settings.stall_seconds:g} seconds"
            ) from None
        except web.RequestPayloadError:
            raise RequestInvalidError("the body is not well-formed") from None
        if not chunk:
            return
        pace.note(len(chunk), time() - began)
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


async def read_all(request: web.Request, limit: int, *, setting: str | None = None) -> bytes:
    """The whole body; ``setting`` is the variable that says how large it may be, if one does.

    Raises:
        MediaTypeUnsupportedError, RequestInvalidError, RequestTimeoutError, ConnectionError: as
            :func:`chunks`.
        ContentTooLargeError: more than ``limit`` bytes; nothing beyond them is read.
    """
    if (request.content_length or 0) > limit:
        raise _too_large(limit, f"{request.content_length} bytes", setting)
    body = bytearray()
    async for chunk in _pieces(request):
        body += chunk
        if len(body) > limit:
            raise _too_large(limit, "more", setting)
    return bytes(body)


async def _continue(request: web.Request) -> None:
    expected = request.headers.get("Expect", "")
    if not expected or request.version < HttpVersion11:
        return
    if expected.lower() != "100-continue":
        raise RequestInvalidError(f"Expect {expected[:40]!r} cannot be met")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the response has not begun yet


def _too_large(limit: int, size: str, setting: str | None) -> ContentTooLargeError:
    advice = f", or ask the registry's operator to raise {setting}" if setting else ""
    return ContentTooLargeError(f"this body has {size} and {limit} are the limit; make it smaller{advice}")
