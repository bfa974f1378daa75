"""The server: one application on one address, until told to stop."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from registry.http.app import create_app
from registry.http.attesting import keep_attested
from registry.http.front import front_of
from registry.http.heads import bounded
from registry.http.limits import end_slow_readers
from registry.http.listener import BACKLOG, TlsListener, bind
from registry.http.metrics import METRICS
from registry.http.parsers import PARSERS
from registry.http.selfsigned import certificate_files
from registry.http.sweeps import keep_swept
from registry.http.tls import Certificates
from registry.http.traffic import TRAFFIC

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator

    from registry.http.services import Services
    from registry.settings import Settings

MAX_LINE_BYTES = 32768
MAX_FIELD_BYTES = 65536
MAX_FIELDS = 64
"""What a stranger sends of a header is kept until it is whole: half the fields hold half the memory."""
READ_BYTES = 65536
"""Twice as much may lie unread of each body. With aiohttp's own 256 KiB no push is faster, and 50 at once
take 15 MB more."""
LINGERING_SECONDS = 2
"""How long the rest of a refused body is read: its sender sees the refusal, not a broken connection."""
_END_SECONDS = 0.5
"""What a handler may take to end when it is broken off, twice."""


@asynccontextmanager
async def running_server(
    services: Services,
    *,
    sockets: list[socket.socket] | None = None,
    hurry: asyncio.Event | None = None,
) -> AsyncIterator[tuple[str, int]]:
    """Serve at the settings' address while the block runs, and give the host and port listened on.

    ``sockets`` listen already, where several processes share them. At the end whoever connects still gets an
    answer while the transfers that run then are finished, which may take ``shutdown_seconds``; setting
    ``hurry`` breaks them off.

    Raises:
        OSError: the address cannot be used.
    """
    settings, hurry = services.settings, hurry or asyncio.Event()
    app = create_app(services)
    runner = web.AppRunner(
        app,
        handle_signals=False,
        access_log=None,
        # Compressed bodies would reach us inflated: another digest, and a bomb.
        auto_decompress=False,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_FIELD_BYTES,
        max_headers=MAX_FIELDS,
        read_bufsize=READ_BYTES,
        keepalive_timeout=settings.idle_connection_seconds,
        lingering_time=LINGERING_SECONDS,
        shutdown_timeout=_END_SECONDS,
    )
    await runner.setup()
    assert runner.server is not None
    runner.server.request_handler = front_of(app, runner.server.request_handler)
    tasks = [
        asyncio.create_task(keep_swept(services, app[METRICS])),
        asyncio.create_task(keep_attested(services, app[PARSERS])),
        asyncio.create_task(end_slow_readers(runner.server, settings)),
    ]
    traffic = app[TRAFFIC]
    until = 0.0
    try:
        async with _listening(runner, settings, sockets) as address:
            try:
                yield address
            finally:
                traffic.draining = True
                services.database.bell.mute()
                services.courier.bell.mute()
                until = asyncio.get_running_loop().time() + settings.shutdown_seconds
                await traffic.finish(until=until, hurry=hurry)
        await traffic.finish(until=until, hurry=hurry)
    finally:
        for task in tasks[:2]:
            task.cancel()
        await runner.cleanup()
        # Until here: a reader that stands still must not hold up the end either.
        tasks[2].cancel()
        await asyncio.wait(tasks)


@asynccontextmanager
async def _listening(
    runner: web.AppRunner, settings: Settings, sockets: list[socket.socket] | None
) -> AsyncIterator[tuple[str, int]]:
    sockets = sockets or bind(settings.listen_host, settings.listen_port)
    host, port = sockets[0].getsockname()[:2]
    assert runner.server is not None
    protocol = bounded(runner.server)
    if settings.scheme == "http":
        loop = asyncio.get_running_loop()
        listening = [await loop.create_server(protocol, sock=each, backlog=BACKLOG) for each in sockets]
        try:
            yield host, port
        finally:
            for each in listening:
                each.close()
        return
    certificates = Certificates(*certificate_files(settings))
    listener = TlsListener(protocol, lambda: certificates.context, sockets)
    watching = asyncio.create_task(certificates.keep_fresh())
    try:
        yield host, port
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        await listener.close()
