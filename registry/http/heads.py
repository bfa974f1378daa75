"""A bound on the head of a request as a whole: aiohttp bounds each field and how many there are, and all of
them together would be 4 MiB, twice over in memory, for whoever opens a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD

if TYPE_CHECKING:
    from aiohttp import web

HEAD_MAX_BYTES = 128 * 1024
"""A head that comes in one piece may be longer: as long as what is read at once."""


class HeadBound:
    """The parser of one connection, which counts what came of a head that does not end.

    A body is not counted: as long as one is on its way, bytes are its own.
    """

    __slots__ = (
        *("_body", "_head_bytes", "_parse"),
        *("feed_eof", "message_consumed", "pause_reading", "set_upgraded"),
    )

    def __init__(self, parser: Any) -> None:
        self._parse = parser.feed_data
        self.feed_eof = parser.feed_eof
        self.message_consumed = parser.message_consumed
        self.pause_reading = parser.pause_reading
        self.set_upgraded = parser.set_upgraded
        self._body: Any = EMPTY_PAYLOAD
        self._head_bytes = 0

    def feed_data(self, data: bytes) -> Any:
        """Messages that are whole, as aiohttp's own parser gives them.

        Raises:
            HttpProcessingError: what came is no request, or its head is too long.
        """
        # Asked before: what ends a body is no head yet.
        is_head = self._body.is_eof()
        parsed = self._parse(data)
        if parsed[0]:
            self._body, self._head_bytes = parsed[0][-1][1], 0
        elif is_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_MAX_BYTES:
                raise LineTooLong("the request's header", HEAD_MAX_BYTES)
        return parsed


def bounded(server: web.Server) -> Callable[[], asyncio.Protocol]:
    """What makes the protocol of each connection, with a bound on heads."""

    def make() -> asyncio.Protocol:
        handler: Any = server()
        handler._parser = HeadBound(handler._parser)
        return handler  # type: ignore[no-any-return]

    return make
