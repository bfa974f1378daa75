"""Bytes of a blob to the client: whole, one range, or several (RFC 9110, 14).

aiohttp's ``FileResponse`` answers several ranges with 416, which ends a partial pull of podman's, ignores
entity tags in ``If-Range`` and serves ``.gz`` files that lie beside the one asked for; hence this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
import uuid_utils
from aiohttp import web

from registry.errors import SeatrialError
from registry.http.metrics import METRICS
from registry.http.sendfile import let_all_leave, own_descriptor, send_file
from registry.oci.ranges import ByteRange

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from registry.storage.store import OpenBlob

log: FilteringBoundLogger = structlog.get_logger("seatrial.http")
_WAITS_AFTER_BYTES = 1 << 16
"""aiohttp writes as much before it waits for the client. A store that has many readers gives smaller blocks,
and several of them would lie there for each."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Literal bytes, then a range of the blob."""

    before: bytes
    part: ByteRange | None


async def send_blob(
    request: web.Request,
    blob: OpenBlob,
    *,
    headers: Mapping[str, str],
    ranges: Sequence[ByteRange] | None,
) -> web.StreamResponse:
    """Send the blob, or these ranges of it; several that together exceed it are answered with the whole."""
    response = web.StreamResponse(headers=headers)
    if not ranges or sum(part.length for part in ranges) > blob.size:
        pieces = [_Piece(b"", ByteRange(0, blob.size - 1) if blob.size else None)]
    elif len(ranges) == 1:
        response.set_status(206)
        response.headers["Content-Range"] = _content_range(ranges[0], blob.size)
        pieces = [_Piece(b"", ranges[0])]
    else:
        response.set_status(206)
        boundary = uuid_utils.uuid4().hex
        pieces = _multipart(ranges, blob.size, headers.get("Content-Type", ""), boundary)
        response.headers["Content-Type"] = f"multipart/byteranges; boundary={boundary}"
    response.content_length = sum(
        len(piece.before) + (piece.part.length if piece.part else 0) for piece in pieces
    )
    await response.prepare(request)
    sent = request.app[METRICS].blob_bytes.labels("out")
    try:
        for piece in pieces:
            if piece.before:
                await response.write(piece.before)
            if piece.part is not None:
                await _send(request, response, blob, piece.part)
                sent.inc(piece.part.length)
        await response.write_eof()
    except (SeatrialError, OSError) as error:
        if not isinstance(error, ConnectionError):
            log.error("download broke off", reason=repr(error))
        # The header has promised more bytes: only a broken connection tells the client that they are missing.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the download broke off") from error
    return response


async def _send(request: web.Request, response: web.StreamResponse, blob: OpenBlob, part: ByteRange) -> None:
    if blob.file is not None and (fd := own_descriptor(request)) is not None:
        await send_file(request, fd, blob.file, part.first, part.length)
        return
    async for chunk in blob.chunks(part.first, part.length):
        await response.write(chunk)
        small = len(chunk) <= _WAITS_AFTER_BYTES
        del chunk  # it would lie beside the next one, which may take its time
        if small:
            await let_all_leave(request)


def _multipart(ranges: Sequence[ByteRange], size: int, content_type: str, boundary: str) -> list[_Piece]:
    pieces = []
    for i, part in enumerate(ranges):
        head = (
            f"{'' if i == 0 else chr(13) + chr(10)}--{boundary}\r\nContent-Type: {content_type}\r\n"
            f"Content-Range: {_content_range(part, size)}\r\n\r\n"
        )
        pieces.append(_Piece(head.encode(), part))
    return [*pieces, _Piece(f"\r\n--{boundary}--\r\n".encode(), None)]


def _content_range(part: ByteRange, size: int) -> str:
    return f"bytes {part.first}-{part.last}/{size}"
