"""Around every request: an id, one log line, the metrics, and errors turned into responses."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from registry.errors import SeatrialError
from registry.http.accesslog import ACCESS_LOG
from registry.http.auditing import note_refusal
from registry.http.body import require_framing
from registry.http.caller import ACTOR_SHOWN
from registry.http.errors import from_aiohttp, from_database, render_error, unexpected
from registry.http.headers import REQUEST_ID_HEADER, fixed_headers, request_id_of
from registry.http.metrics import METRICS
from registry.http.traffic import TRAFFIC
from registry.pages.errors import error_page, wants_page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from structlog.typing import FilteringBoundLogger

log: FilteringBoundLogger = structlog.get_logger("seatrial.http")

ROUTE = web.RequestKey("route", str)
"""The metrics label, where a handler knows a better one than its resource."""

REQUEST_ID = web.RequestKey("request_id", str)
CLIENT_GONE = 499
"""Logged where the client went away before it had its answer; nobody receives it."""


@web.middleware
async def observe(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Give the request an id, answer errors, and count and log what became of it."""
    request_id = request_id_of(request.headers.get(REQUEST_ID_HEADER))
    request[REQUEST_ID] = request_id
    # Each request runs in a task of its own, whose context ends with it.
    structlog.contextvars.bind_contextvars(request_id=request_id)
    metrics, traffic = request.app[METRICS], request.app[TRAFFIC]
    traffic.note()
    started = perf_counter()
    status = CLIENT_GONE
    metrics.in_flight.inc()
    try:
        response = await _answer(request, handler, request_id)
        status = response.status
        if traffic.draining:
            response.force_close()
        return response
    finally:
        metrics.in_flight.dec()
        seconds = perf_counter() - started
        metrics.observe(route=_route(request), method=request.method, status=status, seconds=seconds)
        access_log = request.app[ACCESS_LOG]
        if access_log.enabled:
            actor = request.get(ACTOR_SHOWN, "")
            access_log.add(request, status, seconds, actor=actor, request_id=request_id)


async def prepare_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Headers of every response."""
    response.headers.update(fixed_headers(request))
    response.headers[REQUEST_ID_HEADER] = request.get(REQUEST_ID, "")


async def _answer(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]], request_id: str
) -> web.StreamResponse:
    try:
        require_framing(request)
        return await handler(request)
    except SeatrialError as error:
        note_refusal(request, error, _route(request))
        return await _refused(request, error, request_id)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return await _refused(request, from_aiohttp(error), request_id)
    except Exception as error:  # the request loop: whatever it was, the next request must be served
        if isinstance(error, ConnectionError) and (
            request.transport is None or request.transport.is_closing()
        ):
            return web.Response(status=CLIENT_GONE)  # raised further, aiohttp would log it as an error
        told = from_database(error) if isinstance(error, SQLAlchemyError) else None
        if told is not None:
            told.__cause__ = error
            return await _refused(request, told, request_id)
        log.exception("request failed", method=request.method, path=request.rel_url.raw_path[:512])
        return await _refused(request, unexpected(request_id), request_id)


async def _refused(request: web.Request, error: SeatrialError, request_id: str) -> web.Response:
    if error.status >= 500:
        log.error("request refused", code=error.code, reason=error.message, cause=repr(error.__cause__))
    if wants_page(request):
        response = await error_page(request, error, request_id)
    else:
        response = render_error(request.path, error, request_id)
    if request.can_read_body:
        # Part of the body is still to come: reading it all, only to keep the connection, could take hours.
        response.force_close()
    return response


def _route(request: web.Request) -> str:
    if ROUTE in request:
        return str(request[ROUTE])
    resource = request.match_info.route.resource
    return str(resource.canonical) if resource is not None else "unmatched"
