"""The distribution API below ``/v2/``: one entry, one table (distribution-spec, "API")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.http.body import leave_expectation
from registry.http.limits import RUNNING_UPLOADS, RunningUploads
from registry.http.services import SERVICES
from registry.http.v2.routes import dispatch

if TYPE_CHECKING:
    from aiohttp import web


def add_routes(app: web.Application) -> None:
    """Hang the one entry into the application."""
    app[RUNNING_UPLOADS] = RunningUploads(app[SERVICES].settings.uploads_per_account)
    for path in ("/v2", "/v2/{tail:(?s:.*)}"):
        app.router.add_route("*", path, dispatch, expect_handler=leave_expectation)
