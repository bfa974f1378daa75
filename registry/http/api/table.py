"""All routes of ``/api/v1``."""

from __future__ import annotations

from functools import cache
from typing import Any

from aiohttp import web

from registry.http.api import (
    about,
    access,
    audit,
    gate,
    groups,
    htpasswd,
    issuers,
    keys,
    members,
    namespaces,
    refreshtokens,
    repositories,
    robots,
    routes,
    sessions,
    tags,
    tokens,
    trials,
    users,
    workers,
    workloads,
)
from registry.http.api.openapi import describe


async def show_description(call: routes.Call) -> dict[str, Any]:
    """This description of the API (OpenAPI 3.1)."""
    call.response.headers["Cache-Control"] = "public, max-age=300"
    return description()


ROUTES: tuple[routes.Route, ...] = (
    routes.Route("GET", "/openapi.json", "anyone", show_description),
    *about.ROUTES,
    *users.ROUTES,
    *robots.ROUTES,
    *groups.ROUTES,
    *members.ROUTES,
    *access.ROUTES,
    *tokens.ROUTES,
    *sessions.ROUTES,
    *refreshtokens.ROUTES,
    *keys.ROUTES,
    *workers.ROUTES,
    *htpasswd.ROUTES,
    *issuers.ROUTES,
    *workloads.ROUTES,
    *namespaces.ROUTES,
    *repositories.ROUTES,
    *tags.ROUTES,
    *trials.ROUTES,
    *gate.ROUTES,
    *audit.ROUTES,
)


@cache
def description() -> dict[str, Any]:
    """What ``/api/v1/openapi.json`` says."""
    return describe(ROUTES)


def add_routes(app: web.Application) -> None:
    """Serve them."""
    routes.add_routes(app, ROUTES)
