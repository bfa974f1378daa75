"""The application: the only place where routes are put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from registry.http import hooks, layouts, oauth, token, v2
from registry.http.accesslog import ACCESS_LOG, AccessLog
from registry.http.answers import ANSWERS, Answers
from registry.http.api import table
from registry.http.auditing import TRAIL, TrailState, auditing
from registry.http.collecting import collecting
from registry.http.copying import copying
from registry.http.delivering import delivering
from registry.http.health import show_health, show_readiness
from registry.http.judging import judging
from registry.http.matching import matching
from registry.http.metrics import METRICS, Metrics, show_metrics
from registry.http.middleware import observe, prepare_headers
from registry.http.parsers import add_parsers
from registry.http.retaining import retaining
from registry.http.scrubbing import scrubbing
from registry.http.services import SERVICES
from registry.http.traffic import TRAFFIC, Traffic
from registry.http.worker import routes as worker_routes
from registry.pages import table as pages

if TYPE_CHECKING:
    from registry.http.services import Services


def create_app(services: Services) -> web.Application:
    """The registry's HTTP application around these services."""
    app = web.Application(middlewares=[observe])
    app[SERVICES] = services
    app[METRICS] = Metrics()
    app[ACCESS_LOG] = AccessLog(services.settings)
    app[ANSWERS] = Answers()
    app[TRAFFIC] = Traffic()
    app[TRAIL] = TrailState()
    add_parsers(app)
    app.on_response_prepare.append(prepare_headers)
    app.add_routes(
        [
            web.get("/healthz", show_health),
            web.get("/readyz", show_readiness),
            web.get("/metrics", show_metrics),
        ]
    )
    token.add_routes(app)
    oauth.add_routes(app)
    table.add_routes(app)
    worker_routes.add_routes(app)
    hooks.add_routes(app)
    v2.add_routes(app)
    layouts.add_routes(app)
    pages.add_routes(app)
    app.cleanup_ctx.append(auditing)
    app.cleanup_ctx.append(delivering)
    app.cleanup_ctx.append(copying)
    app.cleanup_ctx.append(collecting)
    app.cleanup_ctx.append(retaining)
    app.cleanup_ctx.append(scrubbing)
    app.cleanup_ctx.append(matching)
    app.cleanup_ctx.append(judging)
    app.on_cleanup.append(_leave_nothing_unsaid)
    return app


async def _leave_nothing_unsaid(app: web.Application) -> None:
    app[ACCESS_LOG].flush()
    app[METRICS].hand_over()
