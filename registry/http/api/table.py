"""All routes of ``/api/v1``."""

from __future__ import annotations

from functools import cache
from typing import Any

from aiohttp import web

from registry.contract.specfile import run_spec_schema
from registry.http.api import (
    about,
    access,
    advisories,
    attention,
    attestations,
    audit,
    bases,
    collections,
    comparing,
    events,
    finding,
    findingspolicies,
    gate,
    groups,
    history,
    hooks,
    htpasswd,
    issuers,
    keys,
    livelog,
    members,
    namespaces,
    promotions,
    queue,
    quotas,
    readmes,
    referrers,
    refreshtokens,
    repositories,
    retention,
    robots,
    routes,
    scanners,
    scans,
    schedules,
    scrubs,
    secrets,
    sessions,
    settings,
    signatures,
    tagrules,
    tags,
    tokens,
    trials,
    upstreams,
    users,
    visibility,
    waivers,
    webhooks,
    workers,
    workloads,
)
from registry.http.api.openapi import describe


async def show_description(call: routes.Call) -> dict[str, Any]:
    """This description of the API (OpenAPI 3.1)."""
    call.response.headers["Cache-Control"] = "public, max-age=300"
    return description()


async def show_run_spec_schema(call: routes.Call) -> dict[str, Any]:
    """The JSON Schema of run specs, for editors and checks of one's own."""
    call.response.headers["Cache-Control"] = "public, max-age=300"
    return run_spec_schema()


ROUTES: tuple[routes.Route, ...] = (
    routes.Route("GET", "/run-spec.schema.json", "anyone", show_run_spec_schema),
    routes.Route("GET", "/openapi.json", "anyone", show_description),
    *about.ROUTES,
    *settings.ROUTES,
    *advisories.ROUTES,
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
    *readmes.ROUTES,
    *tags.ROUTES,
    *tagrules.ROUTES,
    *retention.ROUTES,
    *quotas.ROUTES,
    *promotions.ROUTES,
    *trials.ROUTES,
    *queue.ROUTES,
    *attention.ROUTES,
    *history.ROUTES,
    *livelog.ROUTES,
    *scans.ROUTES,
    *finding.ROUTES,
    *bases.ROUTES,
    *comparing.ROUTES,
    *gate.ROUTES,
    *visibility.ROUTES,
    *referrers.ROUTES,
    *attestations.ROUTES,
    *waivers.ROUTES,
    *schedules.ROUTES,
    *signatures.ROUTES,
    *findingspolicies.ROUTES,
    *scanners.ROUTES,
    *audit.ROUTES,
    *events.ROUTES,
    *webhooks.ROUTES,
    *hooks.ROUTES,
    *secrets.ROUTES,
    *upstreams.ROUTES,
    *collections.ROUTES,
    *scrubs.ROUTES,
)


@cache
def description() -> dict[str, Any]:
    """What ``/api/v1/openapi.json`` says."""
    return describe(ROUTES)


def add_routes(app: web.Application) -> None:
    """Serve them."""
    app[livelog.STREAMS] = livelog.Streams()
    routes.add_routes(app, ROUTES)
