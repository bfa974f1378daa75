"""One line for each request, put together cheaply: for a small answer the line would cost more than all else.

Lines have the form of :mod:`~registry.http.logs`. They are written together, some milliseconds later, in
pieces that the kernel takes whole, so that the lines of several processes do not mix.
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING

from aiohttp import web

from registry.http.proxies import client_address

if TYPE_CHECKING:
    from registry.settings import Settings

FLUSH_SECONDS = 0.05
_PIECE = 4096
"""Characters, all of them ASCII; a pipe takes so many bytes in one piece."""
_PATH_MAX = 512
_LEVELS_WITHOUT = frozenset({"warning", "error"})


class AccessLog:
    """The access log of one process, on stderr."""

    def __init__(self, settings: Settings) -> None:
        self.enabled = settings.access_log and settings.log_level not in _LEVELS_WITHOUT
        self._settings = settings
        self._json = settings.log_format == "json"
        self._lines: list[str] = []
        self._flush: asyncio.TimerHandle | None = None

    def add(
        self, request: web.BaseRequest, status: int, seconds: float, *, actor: str, request_id: str
    ) -> None:
        """Log a request that was answered with ``status`` after ``seconds``."""
        at = datetime.fromtimestamp(time.time(), UTC).isoformat().replace("+00:00", "Z")
        path, remote = (
            quoted(request.rel_url.raw_path[:_PATH_MAX]),
            quoted(client_address(request, self._settings) or ""),
        )
        if self._json:
            line = (
                f'{{"method": {quoted(request.method)}, "path": {path}, "status": {status}, '
                f'"seconds": {seconds:.6f}, "actor": {quoted(actor)}, "remote": {remote}, '
                f'"event": "request", "request_id": "{request_id}", "level": "info", "timestamp": "{at}"}}\n'
            )
        else:
            line = (
                f"{at} [info     ] request actor={quoted(actor)} method={quoted(request.method)} path={path} "
                f"remote={remote} request_id={request_id} seconds={seconds:.6f} status={status}\n"
            )
        self._lines.append(line)
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what there is."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        lines, self._lines = self._lines, []
        piece = ""
        for line in lines:
            if piece and len(piece) + len(line) > _PIECE:
                _write(piece)
                piece = ""
            piece += line
        _write(piece)


def _write(piece: str) -> None:
    sys.stderr.write(piece)
    sys.stderr.flush()


ACCESS_LOG = web.AppKey("access-log", AccessLog)
