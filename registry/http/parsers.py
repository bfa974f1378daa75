"""Threads that parse what would take too long on the event loop: large manifests, and YAML."""

from __future__ import annotations

from aiohttp import web

from registry.storage.threads import Threads

PARSERS = web.AppKey("parsers", Threads)
_THREADS = 2


def add_parsers(app: web.Application) -> None:
    """Start the threads, which end with the application."""
    app[PARSERS] = Threads("parser", _THREADS)
    app.on_cleanup.append(_close)


async def _close(app: web.Application) -> None:
    app[PARSERS].close()
