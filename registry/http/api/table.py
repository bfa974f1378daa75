"""All routes of ``/api/v1``."""

from __future__ import annotations

from aiohttp import web

from registry.http.api import (
    about,
    accounts,
    keys,
    refreshtokens,
    repositories,
    routes,
    sessions,
    tags,
    tokens,
    trials,
    workers,
)

ROUTES: tuple[routes.Route, ...] = (
    *about.ROUTES,
    *accounts.ROUTES,
    *tokens.ROUTES,
    *sessions.ROUTES,
    *refreshtokens.ROUTES,
    *keys.ROUTES,
    *workers.ROUTES,
    *repositories.ROUTES,
    *tags.ROUTES,
    *trials.ROUTES,
)


def add_routes(app: web.Application) -> None:
    """Serve them."""
    routes.add_routes(app, ROUTES)
