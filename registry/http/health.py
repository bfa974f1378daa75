"""Health: ``/healthz`` (the process answers) and ``/readyz`` (and so do its database and its blob store)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from registry.errors import SeatrialError
from registry.http.auditing import TRAIL
from registry.http.services import SERVICES
from registry.http.traffic import TRAFFIC

if TYPE_CHECKING:
    from collections.abc import Awaitable

_TIMEOUT_SECONDS = 5


async def show_health(request: web.Request) -> web.Response:
    """``GET /healthz``: 200 as long as the event loop turns."""
    return web.Response(body=b'{"status":"ok"}', content_type="application/json")


async def show_readiness(request: web.Request) -> web.Response:
    """``GET /readyz``: 200, or 503 where this process is about to end, or naming the part that does not
    answer within 5 seconds."""
    if request.app[TRAFFIC].draining:
        return web.Response(status=503, body=b'{"status":"draining"}', content_type="application/json")
    services = request.app[SERVICES]
    database, storage = await asyncio.gather(
        _answers(services.database.ping()), _answers(services.blobs.free_bytes())
    )
    ready = database and storage
    document = {
        "status": "ok" if ready else "unavailable",
        "database": "ok" if database else "unavailable",
        "storage": "ok" if storage else "unavailable",
        "read_only": services.settings.read_only,
        # Rows of the audit trail went before their time; that is no reason to send nobody here.
        "audit": "shortened" if request.app[TRAIL].shortened else "ok",
    }
    return web.Response(
        status=200 if ready else 503, body=json.dumps(document).encode(), content_type="application/json"
    )


async def _answers(question: Awaitable[object]) -> bool:
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            await question
    except (TimeoutError, OSError, SeatrialError, SQLAlchemyError):
        return False
    return True
