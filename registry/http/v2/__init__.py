"""The distribution API below ``/v2/``: one entry, one table (distribution-spec, "API")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.http.v2.body import leave_expectation
from registry.http.v2.routes import dispatch

if TYPE_CHECKING:
    from aiohttp import web


def add_routes(app: web.Application) -> None:
    """Hang the one entry into the application."""
    for path in ("/v2", "/v2/{tail:(?s:.*)}"):
        app.router.add_route("*", path, dispatch, expect_handler=leave_expectation)
