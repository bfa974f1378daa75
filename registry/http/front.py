"""The front of the server: what can be answered from :mod:`~registry.http.answers` is, before anything of the
application runs; all other requests pass through to it.

It answers as the application would, down to the log line and the metrics; the tests of every read ask twice.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from sqlalchemy.exc import SQLAlchemyError

from registry.http.accesslog import ACCESS_LOG
from registry.http.answers import ANSWERS, is_plain, may_have
from registry.http.headers import REQUEST_ID_HEADER, request_id_of
from registry.http.metrics import METRICS
from registry.http.proxies import client_address
from registry.http.services import SERVICES
from registry.http.traffic import TRAFFIC

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.abc import AbstractStreamWriter

    from registry.http.answers import Answer

    Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_PREFIX = "/v2/"
_UNTIL_WRITTEN_BYTES = 64 * 1024


class KnownResponse(web.StreamResponse):
    """A response whose bytes are there already: nothing is left to do but to write them."""

    def __init__(self, data: bytes, *, keep_alive: bool) -> None:
        super().__init__()
        self._data = data
        self._keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write all of it; waits while the client does not read."""
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client went away")
        transport.write(self._data)
        if len(self._data) > _UNTIL_WRITTEN_BYTES or transport.get_write_buffer_size():
            await request.writer.drain()
        self._eof_sent = True
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing follows."""


def front_of(app: web.Application, behind: Handler) -> Handler:
    """What the server calls for each request: answers what is known, and asks ``behind`` for the rest."""
    answers, metrics, access_log = app[ANSWERS], app[METRICS], app[ACCESS_LOG]
    services, traffic = app[SERVICES], app[TRAFFIC]
    database, settings, pulls = services.database, services.settings, services.pulls

    async def front(request: web.BaseRequest) -> web.StreamResponse:
        if not is_plain(request):
            return await behind(request)
        key = answers.key(request)
        if key is None or not answers.knows(key):
            return await behind(request)
        started = perf_counter()
        try:
            answer = answers.get(key, await database.epochs())
        except SQLAlchemyError:
            return await behind(request)  # where errors are told
        head_only = request.method == "HEAD"
        if answer is None or not (head_only or isinstance(answer.content, bytes)):
            return await behind(request)
        if not may_have(request, answer, settings):
            return await behind(request)  # where it is refused
        request_id = request_id_of(request.headers.get(REQUEST_ID_HEADER))
        keep_alive = request.keep_alive and not traffic.draining
        data = _bytes_of(answer, request_id, head_only=head_only, keep_alive=keep_alive)
        if answer.tally is not None and not head_only:
            pulls.note(answer.tally, client_address(request, settings), started)
        response = KnownResponse(data, keep_alive=keep_alive)
        seconds = perf_counter() - started
        metrics.observe(route=answer.route, method=request.method, status=200, seconds=seconds)
        if access_log.enabled:
            access_log.add(request, 200, seconds, actor=answer.actor_shown, request_id=request_id)
        return response

    return front


def _bytes_of(answer: Answer, request_id: str, *, head_only: bool, keep_alive: bool) -> bytes:
    close = "" if keep_alive else "Connection: close\r\n"
    own = f"{REQUEST_ID_HEADER}: {request_id}\r\nDate: {rfc822_formatted_time()}\r\n{close}\r\n"
    if head_only or not isinstance(answer.content, bytes):
        return answer.head + own.encode()
    return answer.head + own.encode() + answer.content
